"""How alike the student's gradients of each text and of reference rows are.

in:  {"id": "q1-0", "prompt": "What is 2 + 2?", "completion": "2 + 2 = 4."}
     and reference rows {"id": "v1", "task": "sums", "prompt": "What is 3 + 1?", "completion": "4."}
out: {"id": "q1-0", "prompt": "What is 2 + 2?", "completion": "2 + 2 = 4.", "score": 0.21,
      "metric": "gradient_similarity_adam", "n_tokens": 9, "mean_nll": 1.31, "gradient_norm": 4.2,
      "nearest_task": "sums", "error": null}
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llm_distill.distillation.gradients.settings import StudentGradients
from llm_distill.methods.seeds import derive_seed
from llm_distill.rows.columns import Row
from llm_distill.stage import Context, RowsOutput, Stage

if TYPE_CHECKING:
    from llm_distill.distillation.alignment.encoding import RowEncoder
    from llm_distill.distillation.gradients.texts import Texts


class ScoreGradientSimilarity(StudentGradients, Stage):
    """Gradient similarity (LESS, arXiv 2402.04333); higher is better, from −1 to 1.

    The student is trained on a random share of the rows of `warm_up`. At the end of each epoch, the
    gradient of each candidate's mean loss, as Adam would use it, is compared with the plain
    gradients of the reference rows: the mean of the cosines over the rows of a task, weighted by
    the epoch's mean learning rate, and of all tasks the highest. Gradients are projected to
    `projection_dim` numbers by random signs. In float32, without dropout.

    A candidate that cannot be read, or has no gradient, has no score; `error` says why. Equal
    candidates are scored once. A stage that was killed goes on where it was.
    """

    needs_weights: ClassVar[bool] = True
    always_seeded = True
    added_columns = (
        "score", "metric", "n_tokens", "mean_nll", "gradient_norm", "nearest_task", "error",
    )  # fmt: skip

    stage: Literal["score_gradient_similarity"]
    warm_up_share: float = Field(
        0.05, gt=0, le=1, description="how much of `warm_up` the student is trained on, at random"
    )
    num_train_epochs: float = Field(
        4.0,
        gt=0,
        description="passes of the warm-up; each ends in a checkpoint that is scored with",
    )
    gradient: Literal["adam", "plain"] = Field(
        "adam",
        description="of a candidate; adam: what Adam, with the moments of the warm-up, makes of it",
    )
    projection_dim: int | None = Field(
        8192, ge=1, description="numbers that gradients are projected to; null: they are not"
    )

    @model_validator(mode="after")
    def _adam_has_moments(self) -> Self:
        if self.gradient == "adam" and self.warm_up is None:
            raise ValueError(
                "gradient: adam needs the moments of a training before; name its rows in warm_up, "
                "or set gradient: plain"
            )
        return self

    def run(self, context: Context) -> RowsOutput:
        return RowsOutput(self._rows(context), self.output_features(context))

    def _rows(self, context: Context) -> Iterator[Row]:
        from llm_distill.methods.gradient_similarity import best_task

        encoder = self.encoder(context.model(self.model))
        candidates, reference = self.texts(context, encoder)
        found, tasks, weights = self._scored(context, candidates, reference, encoder)
        n_scored = 0
        for index, row in enumerate(context.each_row(self.rows)):
            key = candidates.keys[index]
            nll = norm = score = task = None
            if key is not None:
                best, score = best_task([cosines for _, _, *cosines in found[key]], weights)
                nll, norm, *_ = found[key][-1]  # at the last checkpoint
                task = tasks[best]
                if not math.isfinite(score):
                    candidates.errors[index] = "its gradient is zero or not finite"
                    score = task = None
                nll, norm = (v if math.isfinite(v) else None for v in (nll, norm))
            n_scored += score is not None
            yield {
                **row,
                "score": score,
                "metric": f"gradient_similarity_{self.gradient}",
                "n_tokens": None if key is None else len(candidates.of[key].places),
                "mean_nll": nll,
                "gradient_norm": norm,
                "nearest_task": task,
                "error": candidates.errors[index],
            }
        self.note_scores(context, candidates, n_scored)
        context.metrics.update(reference_rows=len(reference.all), checkpoint_weights=weights)

    def _scored(
        self, context: Context, candidates: Texts, reference: Texts, encoder: RowEncoder
    ) -> tuple[dict[str, list[list[float]]], list[str], list[float]]:
        """By key and checkpoint, what `Similarities.of` says; tasks; the checkpoints' weights."""
        from llm_distill.distillation.gradients.kept import Kept
        from llm_distill.distillation.gradients.similarities import Similarities
        from llm_distill.methods.gradient_similarity import checkpoint_weights
        from llm_distill.models.memory import out_of_memory_as
        from llm_distill.training.warm_up import read_state

        states = self.states(context, encoder, each_epoch=True, share=self.warm_up_share)
        student = self.student(context, candidates, reference)
        similarities = Similarities(
            student,
            candidates.of,
            reference.all,
            by_adam=self.gradient == "adam",
            size=self.projection_dim,
            seed=derive_seed(context.seed, "projection"),
            kept=Kept(context.work_dir / "checkpoints" / "similarities.jsonl"),
        )
        found: dict[str, list[list[float]]] = {key: [] for key in candidates.of}
        rates: list[float] = []
        n_checkpoints, n_texts = max(1, len(states)), len(reference.all) + len(candidates.of)
        with (
            out_of_memory_as(self.out_of_memory()),
            student.cost.timed(),
            context.progress(f"gradients ({self.model})", n_checkpoints * n_texts) as bar,
        ):
            for number in range(n_checkpoints):
                rate = 1.0
                if states:
                    state = read_state(states[number])
                    student.load(state)
                    rate = state.learning_rate
                rates.append(rate)
                for key, numbers in similarities.at(str(number), bar.advance).items():
                    found[key].append(numbers)
        context.metrics.update(
            cost=student.cost.figures(), trainable_parameters=student.n_parameters
        )
        return found, similarities.tasks, checkpoint_weights(rates)
