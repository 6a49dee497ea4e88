"""Cosines of projected gradients of a student, window by window, each kept as it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from llm_distill.distillation.gradients.kept import Kept
from llm_distill.errors import ModelError
from llm_distill.methods.gradient_similarity import adam_direction, mean_cosines, task_directions
from llm_distill.methods.random_projection import project

if TYPE_CHECKING:
    from llm_distill.distillation.gradients.student import Student
    from llm_distill.distillation.gradients.texts import Text

WINDOW_FLOATS = 2**28
"""Of gradients that are projected together: 1 GiB. The signs are made anew for each window."""

WINDOW_TEXTS = 64
"""The most texts of a window: what a kill can cost."""

Note = Callable[[int, int], None]
"""Called with texts and tokens as they are done."""


class Similarities:
    """How alike gradients of candidates and of reference rows are.

    by_adam: candidates' gradients as Adam would use them. size: numbers that gradients are
    projected to; None for all of them. kept: what was computed before.
    """

    def __init__(
        self,
        student: Student,
        candidates: Mapping[str, Text],
        reference: Sequence[Text],
        *,
        by_adam: bool,
        size: int | None,
        seed: int,
        kept: Kept,
    ) -> None:
        self._student, self._reference = student, reference
        self._by_adam, self._size, self._seed = by_adam, size, seed
        self._kept = kept
        self._n = max(1, min(WINDOW_TEXTS, WINDOW_FLOATS // student.n_parameters))
        keys = list(candidates)
        self._windows = [
            {key: candidates[key] for key in keys[start : start + self._n]}
            for start in range(0, len(keys), self._n)
        ]
        self.tasks = list(dict.fromkeys(text.task for text in reference))

    def at(self, checkpoint: str, note: Note) -> dict[str, list[float]]:
        """By candidate: mean loss, length of its gradient, and its mean cosine by task.

        A window is projected together, and taken or computed as a whole: so what was killed and
        went on gives the same to the last bit.

        checkpoint: names the student's weights among what is kept.

        Raises:
            ModelError: the reference rows of a task give no gradient.
        """
        found: dict[str, list[float]] = {}
        directions: torch.Tensor | None = None
        for window in self._windows:
            there = {key: self._kept.get(f"{checkpoint}/{key}") for key in window}
            numbers = {key: values for key, values in there.items() if values is not None}
            if len(numbers) == len(window):
                note(len(window), 0)
            else:
                if directions is None:
                    directions = self._directions(note)
                numbers = self._of(window, directions, note)
                self._kept.add({f"{checkpoint}/{key}": v for key, v in numbers.items()})
            found |= numbers
        if directions is None:
            note(len(self._reference), 0)
        return found

    def _directions(self, note: Note) -> torch.Tensor:
        starts = range(0, len(self._reference), self._n)
        parts = [self._reference[start : start + self._n] for start in starts]
        vectors = torch.cat([self._features(part, note, by_adam=False)[1] for part in parts])
        tasks, directions = task_directions(vectors, [text.task for text in self._reference])
        for task, direction in zip(tasks, directions, strict=True):
            if not direction.isfinite().all():
                raise ModelError(
                    f"no reference row of task '{task}' has a gradient that is finite and not 0; "
                    "let peft.target_modules cover layers that the loss depends on, or take "
                    "other reference rows"
                )
        return directions

    def _of(
        self, window: Mapping[str, Text], directions: torch.Tensor, note: Note
    ) -> dict[str, list[float]]:
        plain, vectors = self._features(list(window.values()), note, by_adam=self._by_adam)
        cosines = mean_cosines(vectors, directions).double().tolist()
        rows = zip(window, plain, cosines, strict=True)
        return {key: [*numbers, *values] for key, numbers, values in rows}

    def _features(
        self, texts: Sequence[Text], note: Note, *, by_adam: bool
    ) -> tuple[list[tuple[float, float]], torch.Tensor]:
        """(mean loss, length of the gradient) of each text, and the projected vectors, [n, k]."""
        plain = []
        like = next(iter(self._student.parameters.values()))
        vectors = like.new_empty(len(texts), self._student.n_parameters)
        for vector, text in zip(vectors, texts, strict=True):
            loss, gradients = self._student.gradients(text)
            flat = torch.cat([gradient.flatten() for gradient in gradients.values()])
            plain.append((loss, torch.linalg.vector_norm(flat).item()))
            if by_adam:
                flat = torch.cat(list(self._as_adam(gradients)))
            vector.copy_(flat)
            note(1, len(text.ids))
        return plain, vectors if self._size is None else project(vectors, self._size, self._seed)

    def _as_adam(self, gradients: Mapping[str, torch.Tensor]) -> Iterator[torch.Tensor]:
        for name, gradient in gradients.items():
            first, second = self._student.first[name], self._student.second[name]
            yield adam_direction(gradient, first, second).flatten()
