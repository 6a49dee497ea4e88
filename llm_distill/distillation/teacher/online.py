"""A teacher in memory that scores each batch as it is read, in place of stored scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from llm_distill.distillation.alignment.aligned import AlignedRow
from llm_distill.distillation.alignment.chunks import TokenScores, at_tokens
from llm_distill.distillation.batches import Example, collate
from llm_distill.distillation.dataset import chunk_columns, chunks_of
from llm_distill.distillation.lm_head.head import Head, head_logps
from llm_distill.distillation.lm_head.model_head import backbone_of, head_of
from llm_distill.distillation.losses.divergence import divergences_from_logits
from llm_distill.distillation.losses.loss import Needs
from llm_distill.distillation.teacher.scoring import in_loss
from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource, load_model
from llm_distill.training.data import NO_LOSS

if TYPE_CHECKING:
    from llm_distill.distillation.alignment.encoding import EncodedRow, RowEncoder
    from llm_distill.distillation.losses.alm import AlmSettings
    from llm_distill.distillation.losses.loss import Batch, Divergences
    from llm_distill.distillation.settings import DistillSettings
    from llm_distill.rows.columns import Row


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
    pad_token_id: int

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def read(self, examples: Sequence[Example]) -> tuple[list[TokenScores], torch.Tensor]:
        """Scores by token of each row, and the hidden states that predict its tokens, [L, H].

        examples: with teacher_ids and teacher_in_loss, the indices of the tokens to be scored.
        """
        rows = [_as_training_row(example) for example in examples]
        device = self.head.weight.device
        batch = {name: t.to(device) for name, t in collate(rows, self.pad_token_id).items()}
        hidden = backbone_of(self.model)(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
        ).last_hidden_state
        read = hidden.flatten(0, 1)[batch["positions"]]
        logps, boundary_logps = head_logps(read, self.head, batch["targets"], self.boundary_tokens)
        assert boundary_logps is not None
        found = logps[batch["labelled"]], boundary_logps[batch["chunk_ends"]]
        if not all(values.isfinite().all() for values in found):
            raise ModelError(
                "the teacher in memory computes likelihoods that are NaN; try another dtype for it"
            )
        per_row = np.cumsum([len(example["teacher_in_loss"]) for example in examples])[:-1]
        of_rows = (np.split(values.float().cpu().numpy(), per_row) for values in found)
        scores = [
            TokenScores(
                at_tokens(len(example["teacher_ids"]), example["teacher_in_loss"], own),
                at_tokens(
                    len(example["teacher_ids"]), example["teacher_in_loss"], own_boundary_logps
                ),
            )
            for example, own, own_boundary_logps in zip(examples, *of_rows, strict=True)
        ]
        return scores, read[batch["labelled"]]


@dataclass(frozen=True)
class OnlineBatches:
    """A `BatchSignal`: rows to a batch, with what the teacher says of them.

    Distributions are those of the teacher's hidden states.
    """

    teacher: OnlineTeacher
    settings: DistillSettings

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, torch.Tensor]:
        scores, hidden = self.teacher.read(examples)
        if self.settings.losses.needing(Needs.CHUNKS):
            alm, pairs = self.settings.alm, zip(examples, scores, strict=True)
            examples = [_with_chunks(example, own, alm) for example, own in pairs]
        batch = collate(examples, pad_token_id)
        needs_hidden = self.settings.losses.needing(Needs.DISTRIBUTIONS)
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


@dataclass(frozen=True)
class TeacherInMemory:
    """A `TeacherSignal`: a teacher that is loaded beside the student.

    source, encoder: the teacher's.
    """

    source: ModelSource
    encoder: RowEncoder
    settings: DistillSettings
    in_process: ClassVar[bool] = True

    def of_tokens(self, row: Row, teacher: EncodedRow) -> dict[str, Any]:
        """The teacher's tokens, which it scores as part of a batch."""
        return {"teacher_ids": teacher.ids, "teacher_in_loss": in_loss(teacher)}

    def of_chunks(
        self, row: Row, teacher: EncodedRow, found: AlignedRow, n_tokens: int
    ) -> tuple[dict[str, Any], AlignedRow]:
        """The alignment; which chunks are compared shows with the scores."""
        return _columns_of(found), found

    def open(self, student: Any, device: torch.device) -> OnlineBatches:
        """Raises:
        ModelError: see `load_model` and `head_of`.
        """
        return OnlineBatches(online_teacher(self.source, self.encoder, device), self.settings)


def online_teacher(source: ModelSource, encoder: RowEncoder, device: torch.device) -> OnlineTeacher:
    """The teacher, on the device that training uses.

    Raises:
        ModelError: see `load_model` and `head_of`.
    """
    model = load_model(source, device=str(device)).requires_grad_(False)
    head = head_of(model)
    boundary_tokens = torch.from_numpy(encoder.boundary_tokens(len(head.weight))).to(device)
    return OnlineTeacher(model, head, boundary_tokens, encoder.tokenizer.pad_token_id)


def _as_training_row(example: Example) -> Example:
    """The row as `collate` takes it: scored tokens are labels, log p(boundary) is read there."""
    ids = np.asarray(example["teacher_ids"])
    index = np.asarray(example["teacher_in_loss"])
    labels = np.full(len(ids), NO_LOSS)
    labels[index] = ids[index]
    return {"input_ids": ids, "labels": labels, "chunk_ends": index}


def _columns_of(found: AlignedRow) -> dict[str, Any]:
    """What `_with_chunks` needs of the alignment."""
    return {
        "teacher_first": found.teacher_first,
        "teacher_last": found.teacher_last,
        "student_first": found.student_first,
        "student_last": found.student_last,
        "is_end": found.is_end,
    }


def _with_chunks(example: Example, scores: TokenScores, alm: AlmSettings) -> Example:
    """The example as it had been with these scores stored."""
    found = AlignedRow(
        teacher_first=np.asarray(example["teacher_first"], np.int64),
        teacher_last=np.asarray(example["teacher_last"], np.int64),
        student_first=np.asarray(example["student_first"], np.int64),
        student_last=np.asarray(example["student_last"], np.int64),
        is_end=np.asarray(example["is_end"], np.bool_),
        n_bytes=0,
        n_bytes_kept=0,
    )
    chunks = chunks_of(found, scores, alm)
    return {**example, **chunk_columns(chunks, len(example["input_ids"]))}
