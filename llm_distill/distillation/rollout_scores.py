"""Of each rollout, what teacher and student say of it, from the rows that hold their scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llm_distill.distillation.alignment.encoding import row_encoder
from llm_distill.distillation.compared import (
    Spoken,
    Vocabularies,
    as_written,
    compared,
    log_ratios,
    stored,
)
from llm_distill.distillation.sampled import sampled_ids
from llm_distill.distillation.teacher.identity import scored_by
from llm_distill.errors import DataError
from llm_distill.evaluation.result_rows import PlaceRow
from llm_distill.rows.unusable import UnusableRowError

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.distillation.alignment.encoding import EncodedRow, RowEncoder
    from llm_distill.distillation.rows import RowText
    from llm_distill.methods.rollouts import Gap, Shared
    from llm_distill.models.sources import ModelSource
    from llm_distill.rows.columns import Row

MOST_PLACES = 10


@dataclass(frozen=True)
class Said:
    """What both say of one rollout.

    places: where they differ most, at most MOST_PLACES. log_ratios: see `Rollout`.
    """

    gap: Gap
    shared: Shared | None
    places: tuple[PlaceRow, ...]
    log_ratios: Sequence[float] = ()


@dataclass(frozen=True)
class Scores:
    """Rows that `score_likelihood` scored: the stage's name, and where the row of an id is."""

    name: str
    rows: Dataset
    places: Mapping[str, int]

    @classmethod
    def of(cls, name: str, rows: Dataset) -> Scores:
        return cls(name, rows, {identity: index for index, identity in enumerate(rows["id"])})

    def find(self, row: Row) -> Row | None:
        index = self.places.get(row["id"])
        return None if index is None else self.rows[index]

    def place(self, row: Row) -> str:
        return f"row {row['id']} of '{self.name}'"


class Reader:
    """A model, and how it reads a row: as it did when it was scored with these settings."""

    def __init__(self, source: ModelSource, text: RowText) -> None:
        turns = {"answers": text.answers, "thoughts": text.thoughts}
        self.encoder: RowEncoder = row_encoder(source, None, **turns)
        self.who = scored_by(source)
        self._turns, self._tools, self._text = text.turns(), text.tools(), text

    def encoded(self, row: Row) -> EncodedRow:
        """Raises:
        UnusableRowError: there is no text, or the model cannot read it.
        """
        is_open, ids = self._text.is_open(row), sampled_ids(row, self.encoder.vocabulary)
        turns, tools = self._turns(row), self._tools(row)
        return self.encoder.encode(turns, tools, is_open=is_open, sampled=ids)


@dataclass
class RolloutScores:
    """Compares the rollouts of the stage `own`, one by one.

    teachers: a row is compared with the one that scored it. teacher_scores: what they scored.
    student_scores: the same of the student; None: compare what it said when it wrote.
    """

    own: str
    teachers: Sequence[Reader]
    student: Reader
    teacher_scores: Scores
    student_scores: Scores | None
    n_compared: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._by_who = {
            teacher.who: (teacher, Vocabularies(teacher.encoder, self.student.encoder))
            for teacher in self.teachers
        }

    def n_tokens(self, text: str) -> int:
        """As the student counts them."""
        read = self.student.encoder.tokenizer(text, add_special_tokens=False, verbose=False)
        return len(read["input_ids"])

    def of(self, row: Row) -> Said | None:
        """None where the row cannot be compared, and the reason is counted.

        Raises:
            DataError: its scores are another model's, or of another text.
        """
        try:
            said = self._said(row)
        except UnusableRowError as error:
            self.reasons[str(error)] += 1
            return None
        self.n_compared += 1
        return said

    def _said(self, row: Row) -> Said:
        read = self.student.encoded(row)
        written = as_written(row, read)
        student = written if self.student_scores is None else self._of_student(row, read)
        if student is None:
            raise UnusableRowError("read as other tokens than were written")
        teacher, vocabularies = self._of_teacher(row)
        found = compared(teacher, student)
        if not len(found.teacher):
            raise UnusableRowError("no piece that both have scored")
        gaps = abs(found.teacher - found.student)
        furthest = sorted(range(len(gaps)), key=lambda chunk: -gaps[chunk])[:MOST_PLACES]
        is_new = self.student_scores is not None and written is not None
        return Said(
            gap=found.gap,
            shared=vocabularies.shared(teacher, student, found.chunks),
            places=tuple(
                PlaceRow(
                    row=str(row["id"]),
                    place=found.text(chunk),
                    teacher=float(found.teacher[chunk]),
                    student=float(found.student[chunk]),
                )
                for chunk in furthest
            ),
            log_ratios=log_ratios(student, written) if is_new and written is not None else (),
        )

    def _of_student(self, row: Row, read: EncodedRow) -> Spoken:
        assert self.student_scores is not None
        scores = self.student_scores
        scored = scores.find(row)
        if scored is None:
            raise UnusableRowError("not scored by the student")
        return stored(scored, read, self.student.who, scores.place(row))

    def _of_teacher(self, row: Row) -> tuple[Spoken, Vocabularies]:
        scored = self.teacher_scores.find(row)
        if scored is None:
            raise UnusableRowError("not scored by the teacher")
        who, place = scored["scored_by"], self.teacher_scores.place(row)
        if who not in self._by_who:
            raise DataError(
                f"{place} was scored by {who or 'no model'}, and `teacher` is "
                f"{', '.join(self._by_who)}; name the model that scored it, or score it again"
            )
        teacher, vocabularies = self._by_who[who]
        return stored(scored, teacher.encoded(row), who, place), vocabularies

    def note(self, warn: Callable[[str], None]) -> None:
        """Say what was not compared.

        Raises:
            DataError: that is all of it.
        """
        if not self.reasons:
            return
        why = ", ".join(f"{reason}: {count:,}" for reason, count in self.reasons.most_common())
        if not self.n_compared:
            raise DataError(f"no row of '{self.own}' can be compared with its scores ({why})")
        total = self.n_compared + self.reasons.total()
        warn(f"{self.reasons.total():,} of {total:,} rollouts are not in the comparison ({why})")
