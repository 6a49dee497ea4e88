"""Rows whose completion the student may write, and what it wrote as examples of the training.

A rollout is its row with another completion. What the student wrote stays the tokens that it drew:
read again, its text could be other tokens. A teacher with the same tokenizer and form is given
these tokens too, another one the text.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from llm_distill.distillation.alignment.encoding import EncodedRow, RowEncoder
from llm_distill.distillation.alignment.report import AlignmentReport
from llm_distill.distillation.alignment.vocabularies import difference
from llm_distill.distillation.batches import Example
from llm_distill.distillation.dataset import RowPreparation
from llm_distill.distillation.rollouts.settings import RolloutSettings
from llm_distill.rows.columns import Row
from llm_distill.rows.unusable import UnusableRowError

STAND_IN = "."
"""In place of a completion that a row does not have, while its prompt is encoded."""

LONGEST_CHARACTER = 4
"""In bytes of UTF-8."""

Finish = Literal["end", "stop", "length"]


@dataclass(frozen=True)
class Written:
    """What the student wrote.

    Attributes:
        ids: With the token that ended it, if one did.
        finish: An end token, a stop string, or max_tokens.
        text: Up to the stop string, where one ended it.
        logps: Of each id, as who wrote it had it; None: the student itself, a moment ago.
    """

    ids: tuple[int, ...]
    finish: Finish
    text: str = ""
    logps: tuple[float, ...] | None = None


def read_written(
    ids: Sequence[int],
    tokenizer: Any,
    ends: Collection[int],
    stops: Sequence[str],
    logps: Sequence[float] | None = None,
) -> Written:
    """What tokens say of the text that they are: it goes to the first that ends one, or to a stop.

    Where neither is in it, it was cut, or whoever wrote it stops at what ends no text here.
    """
    end = next((n for n, token in enumerate(ids, 1) if token in ends), None)
    own = tuple(ids[:end]), None if logps is None else tuple(logps[:end])
    if end is not None:
        return Written(own[0], "end", logps=own[1])
    if stops:
        text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        places = [text.find(stop) for stop in stops if stop in text]
        if places:
            return Written(own[0], "stop", text[: min(places)], own[1])
    return Written(own[0], "length", logps=own[1])


class Origin(NamedTuple):
    """What an example keeps of its row, under `origin`.

    Attributes:
        row: its index.
        n_given, teacher_n_given: how many tokens are the prompt's, of either model.
        teacher_end: the token that ends the teacher's answers, −1 for none.
    """

    row: int
    n_given: int
    teacher_n_given: int
    teacher_end: int


def origin(example: Example) -> Origin:
    return Origin(*map(int, example["origin"]))


@dataclass
class RolloutRows(RowPreparation):
    """Makes an example of each row, and later of what the student writes for it.

    teacher, signal: there are both. with_text: a row with another completion. has_text: whether it
    has one of its own.
    """

    teacher: RowEncoder
    with_text: Callable[[Row, str], Row] = lambda row, text: row
    has_text: Callable[[Row], bool] = lambda row: True
    rollouts: RolloutSettings = field(default_factory=RolloutSettings)

    def __post_init__(self) -> None:
        self._reads_alike = _read_alike(self.teacher, self.student)

    def encode(self, row: Row) -> Example:
        """As `RowPreparation.encode`; the example also knows its row and where its prompts end.

        A row without a completion is its prompt, with no token in the loss.
        """
        if self.has_text(row):
            example = super().encode(row)
        else:
            bare = self.with_text(_written_anew(row), STAND_IN)
            example = self._prompt_alone(super().encode(bare), row)
        room = self.student.pairs.max_length - origin(example).n_given
        if self.rollouts.max_tokens > room:
            raise UnusableRowError("no room for rollouts.max_tokens after the prompt")
        return example

    def example(self, row: Row, student: EncodedRow, teacher: EncodedRow | None) -> Example:
        """As `RowPreparation.example`, with its `Origin`."""
        assert teacher is not None
        is_closed = bool(teacher.contents) and teacher.contents[-1].is_closed
        end = int(teacher.ids[-1]) if is_closed else -1
        of = Origin(self.report.n_rows - 1, student.n_given, teacher.n_given, end)
        return {**super().example(row, student, teacher), "origin": np.asarray(of, np.int32)}

    def of_text(self, row: Row, example: Example, written: Written) -> Example:
        """The example of a row with what the student wrote, in place of the row's own.

        row: as it was read. example: what `encode` made of it.

        Raises:
            UnusableRowError: nothing of it can be compared.
        """
        if written.finish == "length" and self.rollouts.truncated == "drop":
            raise UnusableRowError("cut by max_tokens")
        student_given, teacher_given = given(example)
        row = _written_anew(row)
        if written.finish == "stop":  # the string may begin within a token
            row = self.with_text(row, written.text)
            student = self.student.encode(self.turns(row), self.tools(row))
        else:
            ids = written.ids if self._reads_alike else self._comparable(written)
            student = self.student.written(student_given, ids)
        if self._reads_alike:
            teacher = self.teacher.written(teacher_given, student.ids[student.n_given :].tolist())
        else:
            end = origin(example).teacher_end
            teacher = self._of_another_tokenizer(row, student, teacher_given, end)
        found = {**self.example(row, student, teacher), "is_rollout": True}
        if written.logps is not None and student.is_sampled and "rollout_logps" in found:
            n = len(student.ids) - student.n_given  # a text may be compared in part
            found["rollout_logps"][student.n_given :] = np.minimum(written.logps[:n], 0.0)
        return found

    def without_text(self, row: Row, example: Example) -> Example:
        """The prompt alone, with no token in the loss."""
        return {**self._prompt_alone(example, row), "is_rollout": True}

    def _comparable(self, written: Written) -> tuple[int, ...]:
        """As far as it is text: a special token, or a part of a character, is none.

        What comes before is compared, without an end. Left out whole, a text that goes wrong late
        would teach nothing, and texts that go wrong would become more.
        """
        n = len(written.ids) - (written.finish == "end")
        said, table = np.asarray(written.ids[:n], dtype=np.int64), self.student.table
        if (said >= len(table.lengths)).any():
            n = int(np.argmax(said >= len(table.lengths)))
            self.report.dropped["a token that the tokenizer does not have"] += 1
        elif table.is_special[said].any():
            n = int(np.argmax(table.is_special[said]))
            self.report.dropped["a special token in the text"] += 1
        data = table.text(said[:n])
        try:
            data.decode()
        except UnicodeDecodeError as error:
            place = error.start
            # max_tokens may have cut within the last character, which is not the student's doing.
            if written.finish != "length" or len(data) - place >= LONGEST_CHARACTER:
                self.report.dropped["half a character in the text"] += 1
            n = int(np.searchsorted(np.cumsum(table.lengths[said[:n]]), place, side="right"))
        return written.ids if n == len(said) else written.ids[:n]

    def _of_another_tokenizer(
        self, row: Row, student: EncodedRow, given: Sequence[int], end: int
    ) -> EncodedRow:
        """The same text as tokens of the teacher. end: what ends its answer, −1 for nothing."""
        (content,) = student.contents
        if content.text:
            text = content.text.decode()
            return self.read(self.with_text(row, text), is_open=not content.is_closed)
        if not content.is_closed or end < 0:
            raise UnusableRowError("nothing was written")
        return self.teacher.written(given, [end])  # would it have ended there, too?

    def _prompt_alone(self, example: Example, row: Row) -> Example:
        student_given, teacher_given = given(example)
        row = _written_anew(row)
        student = EncodedRow(np.asarray(student_given, np.int32), (), n_given=len(student_given))
        teacher = EncodedRow(np.asarray(teacher_given, np.int32), (), n_given=len(teacher_given))
        return {**self.example(row, student, teacher), "origin": example["origin"]}


def _written_anew(row: Row) -> Row:
    """The row, without the tokens that `generate` kept of another completion."""
    return {**row, "completion_ids": None, "rollout_logps": None}


def fresh(rows: RolloutRows) -> RolloutRows:
    """The same with counts of its own: those of the rows are not those of rollouts."""
    return replace(rows, report=AlignmentReport())


def given(example: Example) -> tuple[list[int], list[int]]:
    """The tokens of the prompt, of the student and of the teacher."""
    of = origin(example)
    sides = (("input_ids", of.n_given), ("teacher_ids", of.teacher_n_given))
    student, teacher = (np.asarray(example[name])[:n].tolist() for name, n in sides)
    return student, teacher


def _read_alike(teacher: RowEncoder, student: RowEncoder) -> bool:
    """Whether the student's tokens are the teacher's, and begin an answer as its own do."""
    forms = teacher.pairs.prompt_format, student.pairs.prompt_format
    return forms[0] == forms[1] and difference(teacher.tokenizer, student.tokenizer) is None
