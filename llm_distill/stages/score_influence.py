"""How much one optimizer step on each text alone lowers a student's loss on reference rows.

in:  {"id": "q1-0", "prompt": "What is 2 + 2?", "completion": "2 + 2 = 4."}
     and reference rows {"id": "v1", "prompt": "What is 3 + 1?", "completion": "3 + 1 = 4."}
out: {"id": "q1-0", "prompt": "What is 2 + 2?", "completion": "2 + 2 = 4.", "score": 0.0021,
      "metric": "influence_adamw", "n_tokens": 9, "mean_nll": 1.31,
      "reference_loss_before": 1.4032, "reference_loss_after": 1.4011, "error": null}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from llm_distill.distillation.gradients.settings import StudentGradients
from llm_distill.errors import ModelError
from llm_distill.rows.columns import Row
from llm_distill.stage import Context, RowsOutput, Stage

if TYPE_CHECKING:
    import torch

    from llm_distill.distillation.alignment.encoding import RowEncoder
    from llm_distill.distillation.gradients.student import Gradients, Student
    from llm_distill.distillation.gradients.texts import Text, Texts


BEFORE = "before"
"""The key of the reference loss before any step; those of candidates are digests."""


class ScoreInfluence(StudentGradients, Stage):
    """Local data influence (Montessori-Instruct, arXiv 2410.14208); higher is better.

    score = reference loss − reference loss after one step of the optimizer on the candidate alone,
    at `learning_rate`, from the weights and the optimizer's moments at the end of the warm-up,
    which are then restored. All in float32, without dropout and without clipping the gradient. The
    reference loss is the mean over the reference rows, of the mean over a row's tokens in the loss.

    A candidate that cannot be read, or whose loss is not finite, has no score; `error` says why.
    Equal candidates are scored once. A stage that was killed goes on where it was.
    """

    needs_weights: ClassVar[bool] = True
    of_the_score: ClassVar[frozenset[str]] = frozenset({"learning_rate", "weight_decay"})
    always_seeded = True
    added_columns = (
        "score", "metric", "n_tokens", "mean_nll", "reference_loss_before", "reference_loss_after",
        "error",
    )  # fmt: skip

    stage: Literal["score_influence"]
    optimizer: Literal["adamw", "sgd"] = Field(
        "adamw", description="of the one step; the warm-up's is AdamW"
    )

    def run(self, context: Context) -> RowsOutput:
        return RowsOutput(self._rows(context), self.output_features(context))

    def _rows(self, context: Context) -> Iterator[Row]:
        encoder = self.encoder(context.model(self.model))
        candidates, reference = self.texts(context, encoder)
        found, before = self._scored(context, candidates, reference, encoder)
        n_scored = 0
        for index, row in enumerate(context.each_row(self.rows)):
            key = candidates.keys[index]
            nll, after = found[key] if key is not None else (None, None)
            if after is not None and not math.isfinite(after):
                candidates.errors[index] = "the loss is not finite"
                nll = after = None
            n_scored += after is not None
            yield {
                **row,
                "score": None if after is None else before - after,
                "metric": f"influence_{self.optimizer}",
                "n_tokens": None if key is None else len(candidates.of[key].places),
                "mean_nll": nll,
                "reference_loss_before": before,
                "reference_loss_after": after,
                "error": candidates.errors[index],
            }
        self.note_scores(context, candidates, n_scored)
        context.metrics.update(reference_rows=len(reference.all), reference_loss=before)

    def _scored(
        self, context: Context, candidates: Texts, reference: Texts, encoder: RowEncoder
    ) -> tuple[dict[str, list[float]], float]:
        """By key, a candidate's loss and the reference loss after it; and that before."""
        from llm_distill.distillation.gradients.kept import Kept
        from llm_distill.models.memory import out_of_memory_as
        from llm_distill.training.warm_up import read_state

        states = self.states(context, encoder, each_epoch=False)
        kept = Kept(context.work_dir / "checkpoints" / "influence.jsonl")
        student = self.student(context, candidates, reference)
        if states:
            student.load(read_state(states[-1]))
        found, n_kept = {}, 0
        title = f"score ({self.model})"
        with (
            out_of_memory_as(self.out_of_memory()),
            student.cost.timed(),
            context.progress(title, len(candidates.of)) as bar,
        ):
            # Kept too: a resumed stage may batch or round otherwise, and scores are differences.
            if (first := kept.get(BEFORE)) is None:
                first = [student.mean_loss(reference.all)]
                kept.add({BEFORE: first})
            (before,) = first
            if not math.isfinite(before):
                raise ModelError(
                    f"model '{self.model}' has no finite loss on the rows of '{self.reference}'; "
                    "look for rows that it cannot have learnt, or try another learning_rate for "
                    "the warm-up"
                )
            for key, text in candidates.of.items():
                numbers = kept.get(key)
                n_kept += numbers is not None
                if numbers is None:
                    numbers = self._one(student, text, reference)
                    kept.add({key: numbers})
                found[key] = numbers
                bar.advance(1, len(text.ids))
        context.metrics.update(
            cost=student.cost.figures(),
            candidates_of_an_earlier_run=n_kept,
            trainable_parameters=student.n_parameters,
        )
        return found, before

    def _one(self, student: Student, text: Text, reference: Texts) -> list[float]:
        """A candidate's loss, and the reference loss after a step on it."""
        nll, gradients = student.gradients(text)
        with student.stepped(self._step(student, gradients)):
            return [nll, student.mean_loss(reference.all)]

    def _step(
        self, student: Student, gradients: Gradients
    ) -> Callable[[str, torch.Tensor], torch.Tensor]:
        from llm_distill.methods.optimizer_step import adamw_step, sgd_step

        rate = self.learning_rate

        def step(name: str, weight: torch.Tensor) -> torch.Tensor:
            decay = self.weight_decay if name in student.decayed else 0.0
            if self.optimizer == "sgd":
                return sgd_step(weight, gradients[name], rate, decay)
            moments = student.first[name], student.second[name]
            return adamw_step(weight, gradients[name], *moments, student.n_steps, rate, decay)

        return step
