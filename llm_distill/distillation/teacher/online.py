"""A teacher in memory that scores each batch as it is read, in place of stored scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from llm_distill.distillation.alignment.aligned import AlignedRow
from llm_distill.distillation.alignment.chunks import TokenScores, at_tokens, teacher_chunks
from llm_distill.distillation.alignment.encoding import in_loss
from llm_distill.distillation.alignment.shared import shared_tokens
from llm_distill.distillation.batches import Example, collate, spans
from llm_distill.distillation.dataset import chunk_columns
from llm_distill.distillation.lm_head.head import Head
from llm_distill.distillation.lm_head.model_head import backbone_of, head_of
from llm_distill.distillation.losses.divergence import divergences_from_logits
from llm_distill.distillation.losses.loss import Needs
from llm_distill.distillation.losses.span_tiles import losses_of_spans
from llm_distill.distillation.teacher.scoring import OTHER_DTYPE, read
from llm_distill.errors import ModelError
from llm_distill.models.limits import check_ids
from llm_distill.models.sources import ModelSource, load_model
from llm_distill.training.dividing import divide_layers
from llm_distill.training.launch import is_sharded, whole_on_each_process

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llm_distill.distillation.alignment.encoding import EncodedRow, RowEncoder
    from llm_distill.distillation.losses.alm import AlmSettings
    from llm_distill.distillation.losses.loss import Batch, Divergences, SpanSums
    from llm_distill.distillation.losses.span_tiles import Shared
    from llm_distill.distillation.settings import DistillSettings
    from llm_distill.methods.shared_tokens import SharedTokens
    from llm_distill.rows.columns import Row

ALIGNMENT = ("teacher_first", "teacher_last", "student_first", "student_last", "is_end")
"""The arrays of an `AlignedRow`: an example keeps them until the teacher scores it."""


@dataclass(frozen=True)
class OnlineTeacher:
    """Scores rows as `score_likelihood` does, in the training process.

    model: anything whose backbone and head give its distributions. A student that learns another
        tokenizer can be its own: the same weights, with its adapter off.
    boundary_tokens: over the teacher's vocabulary, bool [V].
    """

    model: Any
    head: Head
    boundary_tokens: torch.Tensor

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def read(self, examples: Sequence[Example]) -> tuple[list[TokenScores], torch.Tensor]:
        """Scores by token of each row, and the hidden states that predict its tokens, [L, H].

        examples: with teacher_ids and teacher_in_loss, the indices of the tokens to be scored.
        """
        tokens = [
            (np.asarray(example["teacher_ids"]), np.asarray(example["teacher_in_loss"]))
            for example in examples
        ]
        largest = max(int(ids.max()) for ids, _ in tokens)
        check_ids(largest, len(self.head.weight), "teacher", "the rows")
        *found, hidden = read(backbone_of(self.model), self.head, self.boundary_tokens, tokens)
        bad = torch.cat([values[~values.isfinite()].flatten() for values in found])
        if len(bad):
            raise ModelError(
                f"the teacher in memory computes a log-probability of {bad[0].item():g}; "
                f"{_what_to_do(bad.float().cpu().numpy())}"
            )
        per_row = np.cumsum([len(index) for _, index in tokens])[:-1]
        of_rows = (np.split(values.float().cpu().numpy(), per_row) for values in found)
        scores = [
            TokenScores(*(at_tokens(len(ids), index, values) for values in both))
            for (ids, index), *both in zip(tokens, *of_rows, strict=True)
        ]
        return scores, hidden


@dataclass(frozen=True)
class OnlineBatches:
    """A `BatchSignal`: rows to a batch, with what the teacher says of them.

    Distributions are those of the teacher's hidden states. shared: for spans of a kind,
    where a loss compares two vocabularies.
    """

    teacher: OnlineTeacher
    settings: DistillSettings
    shared: Shared | None = None

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, torch.Tensor]:
        scores, hidden = self.teacher.read(examples)
        if self.settings.losses.needing(Needs.CHUNKS):
            alm, pairs = self.settings.chunking(), zip(examples, scores, strict=True)
            examples = [with_chunks(example, own, alm) for example, own in pairs]
        batch = collate(examples, pad_token_id)
        if self.settings.losses.needing(Needs.SPANS):
            batch |= spans(examples)
        needs_hidden = self.settings.losses.needing(Needs.DISTRIBUTIONS | Needs.SPANS)
        return batch | ({"teacher_hidden": hidden} if needs_hidden else {})

    def divergences(
        self,
        hidden: torch.Tensor,
        head: Head,
        batch: Batch,
        divergences: Divergences,
    ) -> dict[str, torch.Tensor]:
        of_teacher = batch["teacher_hidden"], self.teacher.head
        return divergences_from_logits(hidden, head, *of_teacher, divergences)

    def span_losses(
        self, hidden: torch.Tensor, head: Head, batch: Batch, losses: SpanSums
    ) -> dict[str, torch.Tensor]:
        assert self.shared is not None
        of_teacher = batch["teacher_hidden"], self.teacher.head
        return losses_of_spans(hidden, head, *of_teacher, batch, self.shared, losses)


@dataclass(frozen=True)
class TeacherInMemory:
    """A `TeacherSignal`: a teacher that is loaded beside the student, and divided where that is.

    source, encoder: the teacher's. student: the student's, where a loss compares two vocabularies.
    """

    source: ModelSource
    encoder: RowEncoder
    settings: DistillSettings
    student: RowEncoder | None = None
    in_process: ClassVar[bool] = True

    def of_tokens(self, row: Row, teacher: EncodedRow) -> dict[str, Any]:
        """The teacher's tokens, which it scores as part of a batch."""
        return {"teacher_ids": teacher.ids, "teacher_in_loss": in_loss(teacher)}

    def of_chunks(
        self, row: Row, teacher: EncodedRow, found: AlignedRow, n_tokens: int
    ) -> tuple[dict[str, Any], AlignedRow]:
        """The alignment; which chunks are compared shows with the scores."""
        return {name: getattr(found, name) for name in ALIGNMENT}, found

    def open(self, student: Any, device: torch.device) -> OnlineBatches:
        """Raises:
        ModelError: see `load_model`, `divide_layers` and `head_of`.
        """
        is_divided = is_sharded()
        with whole_on_each_process():
            at = "cpu" if is_divided else str(device)
            model: Any = load_model(self.source, device=at).requires_grad_(False)
        if is_divided:
            model = divide_layers(model, self.source.name, device)
        return self._batches(model, head_of(model), student)

    def _batches(self, model: Any, head: Head, student: Any) -> OnlineBatches:
        boundary_tokens = torch.from_numpy(self.encoder.boundary_tokens(len(head.weight)))
        teacher = OnlineTeacher(model, head, boundary_tokens.to(head.weight.device))
        if not self.settings.losses.needing(Needs.SPANS):
            return OnlineBatches(teacher, self.settings)
        assert self.student is not None
        sizes = student.get_output_embeddings().weight.shape[0], len(head.weight)
        projected = bool(self.settings.losses.needing(Needs.PROJECTION))
        of_kind = partial(shared_tokens, self.student, self.encoder, sizes, projected=projected)

        @cache
        def shared(kind: int) -> SharedTokens:
            return of_kind(kind).to(head.weight.device)

        return OnlineBatches(teacher, self.settings, shared)


def with_chunks(example: Example, scores: TokenScores, alm: AlmSettings) -> Example:
    """The example as it would be with these scores stored."""
    arrays: dict[str, Any] = {name: np.asarray(example[name]) for name in ALIGNMENT}
    chunks = teacher_chunks(AlignedRow(**arrays, n_bytes=0, n_bytes_kept=0), scores, alm)
    return {**example, **chunk_columns(chunks, len(example["input_ids"]))}


def _what_to_do(bad: NDArray[np.floating]) -> str:
    """About log-probabilities that are not finite."""
    if np.isneginf(bad).all():
        return (
            "it holds a token, or the end of a word, impossible, as a model does that masks a "
            "part of its vocabulary; score_likelihood, or an engine (online: engine), leaves such "
            "texts out"
        )
    return OTHER_DTYPE
