"""Rows to what the training loop reads. All alignment is done here, before training.

row:     {"id": "a", "prompt": "2 + 2?", "completion": "It is 4.", "teacher_logps": […], …}
example: input_ids [T], labels [T], chunk_of [T], chunk_logps [C], chunk_ends [C]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_distill.distillation.alignment.aligned import AlignedRow, aligned
from llm_distill.distillation.alignment.chunks import (
    TeacherChunks,
    TokenScores,
    teacher_chunks,
)
from llm_distill.distillation.alignment.encoding import EncodedRow, RowEncoder
from llm_distill.distillation.alignment.report import AlignmentReport
from llm_distill.distillation.losses.loss import Needs
from llm_distill.distillation.settings import AlmSettings, DistillSettings
from llm_distill.distillation.teacher.scoring import in_loss
from llm_distill.distillation.teacher.stored import StoredScores
from llm_distill.errors import DataError
from llm_distill.rows.columns import Row
from llm_distill.training.data import NO_LOSS, UnusableRowError, token_dataset

if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import NDArray

    from llm_distill.engines.base import Message

DIFFERENT = "texts differ after normalisation"

Example = dict[str, "NDArray[Any]"]


@dataclass
class RowPreparation:
    """Makes an example of each row, and takes note of how the texts align.

    teacher: None where no loss has to do with it.
    turns, teacher_turns: what is encoded for either, out of a row.
    stored: reads the teacher's scores off a row; None where the teacher scores each batch.
    """

    student: RowEncoder
    teacher: RowEncoder | None
    turns: Callable[[Row], Sequence[Message] | str]
    teacher_turns: Callable[[Row], Sequence[Message] | str]
    settings: DistillSettings
    stored: StoredScores | None
    report: AlignmentReport = field(default_factory=AlignmentReport)

    def encode(self, row: Row) -> Example:
        """Raises:
        UnusableRowError: the row cannot be trained on.
        DataError: its scores are not those of this teacher for this row.
        """
        self.report.n_rows += 1
        student = self.student.encode(self.turns(row))
        index = in_loss(student)
        labels = np.full(len(student.ids), NO_LOSS, np.int32)
        labels[index] = student.ids[index]
        example: Example = {"input_ids": student.ids, "labels": labels}
        if self.teacher is None:
            return example
        try:
            teacher = self.teacher.encode(self.teacher_turns(row))
        except UnusableRowError as error:
            raise UnusableRowError(f"for the teacher: {error}") from error
        if self.stored is not None:
            self.stored.check(row, teacher)
        if self.settings.losses.needing(Needs.DISTRIBUTIONS):
            if not np.array_equal(teacher.ids[in_loss(teacher)], student.ids[index]):
                raise UnusableRowError("teacher and student have other tokens for it")
            if self.stored is not None:
                example |= self.stored.top(row, teacher)
        if self.stored is None:
            example["teacher_ids"], example["teacher_in_loss"] = teacher.ids, in_loss(teacher)
        if self.settings.losses.needing(Needs.CHUNKS):
            example |= self._chunks(row, teacher, student)
        return example

    def _chunks(self, row: Row, teacher: EncodedRow, student: EncodedRow) -> Example:
        try:
            found = aligned(teacher, student)
        except UnusableRowError as error:
            if str(error) == DIFFERENT:
                self.report.differs(row, teacher, student)
            raise
        if not len(found.is_end):
            raise UnusableRowError("no chunk to compare")
        if self.stored is None:
            self.report.add(found, student)
            return online_columns(found)
        scores = self.stored.scores(row, teacher, with_log_pbs=self.settings.alm.debias)
        chunks = chunks_of(found, scores, self.settings.alm)
        self.report.add(chunks.aligned, student)
        return chunk_columns(chunks, len(student.ids))


def prepared(
    rows: Iterable[Row],
    preparation: RowPreparation,
    drop: Callable[[str], None],
    name: str,
    max_dropped: float,
) -> Dataset:
    """The training dataset, as numpy arrays.

    Raises:
        DataError: no row is left, the texts of too many differ, or the scores do not fit the rows.
    """

    def counted(reason: str) -> None:
        preparation.report.dropped[reason] += 1
        drop(reason)

    try:
        dataset = token_dataset(rows, preparation.encode, counted, name)
    except DataError as error:
        preparation.report.check(max_dropped, name)
        examples = preparation.report.examples
        if not examples:
            raise
        raise DataError(
            f"{error}; texts that differ: {'; '.join(examples)}. Normalise the texts before, or "
            "take a student whose tokenizer leaves them alone"
        ) from error
    preparation.report.check(max_dropped, name)
    return dataset.with_format("numpy")


def chunks_of(found: AlignedRow, scores: TokenScores, alm: AlmSettings) -> TeacherChunks:
    """The chunks with the teacher's side of the comparison, as the settings want it."""
    return teacher_chunks(found, scores, debias=alm.debias, gamma=alm.gamma)


def chunk_columns(chunks: TeacherChunks, n_tokens: int) -> Example:
    """As `batches.collate` reads them; n_tokens: of the student's row."""
    first, last = chunks.aligned.student_first, chunks.aligned.student_last
    chunk_of = np.full(n_tokens, -1, np.int32)
    lengths = last - first + 1
    starts = np.repeat(first - np.cumsum(lengths) + lengths, lengths)
    chunk_of[starts + np.arange(lengths.sum())] = np.repeat(np.arange(len(first)), lengths)
    return {
        "chunk_of": chunk_of,
        "chunk_logps": chunks.logps,
        "chunk_ends": np.where(chunks.is_open, last, -1).astype(np.int32),
    }


def online_columns(found: AlignedRow) -> Example:
    """What `with_online_chunks` needs of the alignment."""
    return {
        "teacher_first": found.teacher_first,
        "teacher_last": found.teacher_last,
        "student_first": found.student_first,
        "student_last": found.student_last,
        "is_end": found.is_end,
    }


def with_online_chunks(example: Example, scores: TokenScores, alm: AlmSettings) -> Example:
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
