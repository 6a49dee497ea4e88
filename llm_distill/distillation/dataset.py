"""Rows to what the training loop reads. All alignment is done here, before training.

row:     {"id": "a", "prompt": "2 + 2?", "completion": "It is 4.", "teacher_logps": […], …}
example: input_ids [T], labels [T], chunk_of [T], chunk_logps [C], chunk_ends [C]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_distill.distillation.alignment.aligned import DIFFERENT, aligned
from llm_distill.distillation.alignment.chunks import TeacherChunks
from llm_distill.distillation.alignment.encoding import EncodedRow, RowEncoder
from llm_distill.distillation.alignment.report import AlignmentReport
from llm_distill.distillation.alignment.shared import kinds
from llm_distill.distillation.batches import Example
from llm_distill.distillation.losses.loss import Needs
from llm_distill.distillation.settings import DistillSettings
from llm_distill.distillation.teacher.scoring import in_loss
from llm_distill.errors import DataError
from llm_distill.rows.columns import Row
from llm_distill.rows.unusable import UnusableRowError
from llm_distill.training.data import NO_LOSS, token_dataset

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.distillation.teacher.signal import TeacherSignal
    from llm_distill.rows.messages import Message


@dataclass
class RowPreparation:
    """Makes an example of each row, and takes note of how the texts align.

    teacher, signal: how it reads, and what it says; None where no loss needs it.
    turns, teacher_turns: what is encoded for either, out of a row. tools: what it may call.
    is_open: whether its text goes on.
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

    def encode(self, row: Row) -> Example:
        """Raises:
        UnusableRowError: the row cannot be trained on.
        DataError: its scores are not those of this teacher for this row.
        """
        self.report.n_rows += 1
        tools, is_open = self.tools(row), self.is_open(row)
        student = self.student.encode(self.turns(row), tools, is_open=is_open)
        index = in_loss(student)
        labels = np.full(len(student.ids), NO_LOSS, np.int32)
        labels[index] = student.ids[index]
        example: Example = {"input_ids": student.ids, "labels": labels}
        if self.teacher is None or self.signal is None:
            return example
        try:
            teacher = self.teacher.encode(self.teacher_turns(row), tools, is_open=is_open)
        except UnusableRowError as error:
            raise UnusableRowError(f"for the teacher: {error}") from error
        example |= self.signal.of_tokens(row, teacher)
        compares_tokens = self.settings.losses.needing(Needs.DISTRIBUTIONS)
        if compares_tokens and not np.array_equal(
            teacher.ids[in_loss(teacher)], student.ids[index]
        ):
            raise UnusableRowError("teacher and student have different tokens for it")
        if self.settings.losses.needing(Needs.CHUNKS | Needs.SPANS):
            example |= self._chunks(row, self.signal, teacher, student)
        return example

    def _chunks(
        self, row: Row, signal: TeacherSignal, teacher: EncodedRow, student: EncodedRow
    ) -> Example:
        try:
            found = aligned(teacher, student)
        except UnusableRowError as error:
            if str(error) == DIFFERENT:
                self.report.differs(row, teacher, student)
            raise
        if not len(found.is_end):
            raise UnusableRowError("no chunk to compare")
        columns, compared = signal.of_chunks(row, teacher, found, len(student.ids))
        if self.settings.losses.needing(Needs.SPANS) and self.teacher is not None:
            columns["chunk_kinds"] = kinds(found, student, teacher, (self.student, self.teacher))
        self.report.add(compared, student)
        return columns


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
