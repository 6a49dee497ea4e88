"""The rows of an optimizer step, some of which the student answers first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch

from llm_distill.distillation.batches import Example
from llm_distill.distillation.rollouts import figures
from llm_distill.distillation.rollouts.rows import RolloutRows, Written, fresh, given, origin
from llm_distill.distillation.rollouts.settings import RolloutSettings
from llm_distill.methods.seeds import derive_seed
from llm_distill.rows.unusable import UnusableRowError

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.distillation.teacher.on_engine import TeacherOnEngine

Passes = list[list[Example]]
"""The examples of each forward pass of a step."""


class Writes(Protocol):
    """What writes the student's texts."""

    def write(
        self, model: Any, prompts: Sequence[list[int]], seeds: Sequence[int], step: int
    ) -> Sequence[Written | None]:
        """A text after each prompt, in their order; None for one that could not be written.

        Each process calls it in each step. model: in training. step: counted from 0.
        """
        ...


@dataclass
class Rollouts:
    """Puts texts of the student into the examples of a step.

    rows: what `preparation` made examples of. writer: of the student. seed: of the stage.
        max_left_out: the share of texts that cannot be compared with the teacher's, above which
        `warn` says why. teacher: one that is asked about all texts of a step.
    """

    settings: RolloutSettings
    rows: Dataset
    preparation: RolloutRows
    writer: Writes
    seed: int
    max_left_out: float
    warn: Callable[[str], None]
    teacher: TeacherOnEngine | None = None
    sums: torch.Tensor = field(default_factory=figures.nothing_written)
    _has_warned: bool = False

    def __post_init__(self) -> None:
        self._preparation = fresh(self.preparation)

    def of_step(self, model: Any, passes: Passes, places: Sequence[range], step: int) -> Passes:
        """The passes with the student's texts in the rows where it is its turn.

        What it writes for a row depends on its weights, the row's id and the step: not on who
        writes it, together with which others.

        places: of each pass's rows in the training, as `RolloutSettings.is_planned` counts them.
            A pass may have a row more, which does not count.
        """
        found = [list(examples) for examples in passes]
        chosen = [
            (examples, index)
            for examples, where in zip(found, places, strict=True)
            for index, place in enumerate(where)
            if self.settings.is_planned(place)
        ]
        examples = [examples[index] for examples, index in chosen]
        rows = [self.rows[origin(example).row] for example in examples]
        prompts = [given(example)[0] for example in examples]
        seeds = [derive_seed(self.seed, "rollout", row["id"], step) for row in rows]
        texts = self.writer.write(model, prompts, seeds, step)
        reasons = self._preparation.report.dropped
        n_left_out = 0
        for (place, index), row, example, text in zip(chosen, rows, examples, texts, strict=True):
            counted = reasons.total()
            try:
                if text is None:
                    raise UnusableRowError("not written by the student's engine")
                place[index] = self._preparation.of_text(row, example, text)
            except UnusableRowError as error:
                if reasons.total() == counted:
                    reasons[str(error)] += 1
                place[index] = self._preparation.without_text(row, example)
            n_left_out += reasons.total() > counted  # a text may have two reasons
        self.sums += figures.sums(texts, n_left_out)
        return found

    def with_scores(self, passes: Passes, step: int) -> Passes:
        """The passes with what a teacher on an engine says of their texts; others as they are.

        A text of which it says nothing counts for nothing.
        """
        if self.teacher is None:
            return passes
        examples = [example for each in passes for example in each]
        names = [self._name(example) for example in examples]
        found, has_scores = self.teacher.scored(examples, names, step)
        for example, is_scored in zip(examples, has_scores, strict=True):
            if not is_scored:
                self._preparation.report.dropped["the teacher's engine gives no score"] += 1
                self.sums[-1] += bool(example.get("is_rollout"))
        left = iter(found)
        return [[next(left) for _ in each] for each in passes]

    def _name(self, example: Example) -> str:
        """Of its row, for messages."""
        return str(self.rows[origin(example).row]["id"]) if "origin" in example else "held out"

    def point(self, total: torch.Tensor) -> dict[str, float]:
        """The figures since the last point, of the sums of all processes; counts anew."""
        self.sums = figures.nothing_written()
        found = figures.means(total)
        left_out = found.get("rollouts/left_out", 0.0)
        if left_out > self.max_left_out and not self._has_warned:
            self._has_warned = True
            most = self._preparation.report.dropped.most_common(3)
            why = ", ".join(f"{n} {reason}" for reason, n in most)
            self.warn(
                f"{left_out:.0%} of what the student writes cannot be compared with the teacher, "
                f"and counts for nothing from there on: {why}"
            )
        return found
