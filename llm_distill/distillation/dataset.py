"""Rows to what the training loop reads. All alignment is done here, before training.

row:     {"id": "a", "prompt": "2 + 2?", "completion": "It is 4.", "teacher_logps": […], …}
example: input_ids [T], labels [T], chunk_of [T], chunk_logps [C], chunk_ends [C]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_distill.distillation.alignment.aligned import (
    DIFFERENT,
    AlignedRow,
    aligned,
    token_by_token,
)
from llm_distill.distillation.alignment.chunks import TeacherChunks
from llm_distill.distillation.alignment.encoding import EncodedRow, RowEncoder, in_loss
from llm_distill.distillation.alignment.report import AlignmentReport
from llm_distill.distillation.alignment.shared import kinds
from llm_distill.distillation.batches import Example
from llm_distill.distillation.losses.loss import Needs
from llm_distill.distillation.sampled import rollout_logps, sampled_ids
from llm_distill.distillation.settings import DistillSettings
from llm_distill.errors import DataError
from llm_distill.rows.columns import Row
from llm_distill.rows.unusable import UnusableRowError
from llm_distill.training.data import NO_LOSS, Encode, token_dataset

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.distillation.teacher.signal import TeacherSignal
    from llm_distill.distillation.teachers import ByTeacher
    from llm_distill.rows.messages import Message


@dataclass
class RowPreparation:
    """Makes an example of each row, and takes note of how the texts align.

    teacher, signal: how it reads, and what it says; None where no loss needs it.
    turns, teacher_turns: what is encoded for either, out of a row. tools: what it may call.
    is_open: whether its text goes on.
    n_unknown: rows of which nobody knows how likely their tokens were when they were sampled.
    """

    student: RowEncoder
    teacher: RowEncoder | None
    turns: Callable[[Row], Sequence[Message] | str]
    teacher_turns: Callable[[Row], Sequence[Message] | str]
    settings: DistillSettings
    signal: TeacherSignal | None
    tools: Callable[[Row], Sequence[dict[str, Any]]] = lambda row: ()
    is_open: Callable[[Row], bool] = lambda row: False
    report: AlignmentReport = field(default_factory=AlignmentReport)
    n_unknown: int = 0

    def encode(self, row: Row) -> Example:
        """Raises:
        UnusableRowError: the row cannot be trained on.
        DataError: its scores are not those of this teacher for this row.
        """
        self.report.n_rows += 1
        student = self._encoded(self.student, row, self.turns(row), self.is_open(row))
        if self.teacher is None or self.signal is None:
            return self.example(row, student, None)
        return self.example(row, student, self.read(row, is_open=self.is_open(row)))

    def read(self, row: Row, *, is_open: bool) -> EncodedRow:
        """The row as the teacher reads it.

        Raises:
            UnusableRowError: it cannot.
        """
        assert self.teacher is not None
        try:
            return self._encoded(self.teacher, row, self.teacher_turns(row), is_open)
        except UnusableRowError as error:
            raise UnusableRowError(f"for the teacher: {error}") from error

    def example(self, row: Row, student: EncodedRow, teacher: EncodedRow | None) -> Example:
        """What the training loop reads of a row that both have encoded.

        Raises:
            UnusableRowError, DataError: as `encode` does.
        """
        index = in_loss(student)
        labels = np.full(len(student.ids), NO_LOSS, np.int32)
        labels[index] = student.ids[index]
        example: Example = {"input_ids": student.ids, "labels": labels}
        if teacher is None or self.signal is None:
            return example
        example |= self.signal.of_tokens(row, teacher)
        compares_tokens = self.settings.losses.needing(Needs.DISTRIBUTIONS)
        if compares_tokens and not np.array_equal(
            teacher.ids[in_loss(teacher)], student.ids[index]
        ):
            raise UnusableRowError("teacher and student have different tokens for it")
        if self.settings.losses.needing(Needs.SAMPLED):
            example["rollout_logps"] = rollout_logps(row, self.student, student)
            if self.settings.opd.first_tokens is not None:
                example["first_tokens"] = np.asarray([self.settings.opd.first_tokens], np.int32)
        if self.settings.losses.needing(Needs.CHUNKS | Needs.SPANS):
            example |= self._chunks(row, self.signal, teacher, student)
        if "rollout_logps" in example:  # of a row that is not left out
            self.n_unknown += bool(np.isnan(example["rollout_logps"]).all())
        return example

    def _encoded(
        self, encoder: RowEncoder, row: Row, turns: Sequence[Message] | str, is_open: bool
    ) -> EncodedRow:
        """As it was sampled, where that was with the encoder's own tokens."""
        sampled = sampled_ids(row, encoder.vocabulary)
        return encoder.encode(turns, self.tools(row), is_open=is_open, sampled=sampled)

    def _chunks(
        self, row: Row, signal: TeacherSignal, teacher: EncodedRow, student: EncodedRow
    ) -> Example:
        by_token = self._by_token(teacher, student)
        try:
            found = by_token or aligned(teacher, student)
        except UnusableRowError as error:
            if str(error) == DIFFERENT:
                self.report.differs(row, teacher, student)
            raise
        if student.contents and not len(found.is_end):
            raise UnusableRowError("no chunk to compare")
        columns, compared = signal.of_chunks(row, teacher, found, len(student.ids))
        if self.settings.losses.needing(Needs.SPANS) and self.teacher is not None:
            columns["chunk_kinds"] = kinds(found, student, teacher, (self.student, self.teacher))
        self.report.add(compared, student)
        if self.settings.losses.needing(Needs.SAMPLED):
            columns["chunk_is_token"] = np.full(len(compared.is_end), by_token is not None)
        return columns

    def _by_token(self, teacher: EncodedRow, student: EncodedRow) -> AlignedRow | None:
        """A chunk a token, for losses on sampled tokens where both sides have the same."""
        needed = self.settings.losses.needing(Needs.SAMPLED)
        if not needed or self.teacher is None or self.teacher.vocabulary != self.student.vocabulary:
            return None
        return token_by_token(teacher, student)


def prepared(
    rows: Iterable[Row],
    preparation: RowPreparation | ByTeacher,
    drop: Callable[[str], None],
    name: str,
    max_dropped: float,
    encode: Encode | None = None,
) -> Dataset:
    """The training dataset, as numpy arrays.

    encode: in place of the preparation's own, around which it is put.

    Raises:
        DataError: no row is left, the texts of too many differ, or the scores do not fit the rows.
    """

    def counted(reason: str) -> None:
        preparation.report.dropped[reason] += 1
        drop(reason)

    try:
        dataset = token_dataset(rows, encode or preparation.encode, counted, name)
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
