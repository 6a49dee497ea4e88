"""Rows as cases for judges: what each is shown, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_distill.errors import DataError, counted
from llm_distill.judging.answers import Answer
from llm_distill.judging.labelled import given_label
from llm_distill.judging.scale import Scale
from llm_distill.methods.agreement import Label
from llm_distill.rows.columns import Row
from llm_distill.rows.conversation_text import as_text

Case = tuple[Answer, ...]
GRADE = "grade"
"""What a grade is called where no criterion is named."""


@dataclass(frozen=True)
class RowCases:
    """How rows are read: each is a case for each criterion.

    Attributes:
        stage: Whose rows they are, for messages.
        answers: The columns with what is judged: a text; or two, or a list of two, of a pair.
        question: The column with what is answered.
        roles: What speakers are called in a conversation.
        criteria: By name what they mean; empty: one, GRADE, that is not named.
        scale: Of grades; None for pairs.
    """

    stage: str
    answers: Sequence[str]
    question: str
    roles: Mapping[str, str]
    criteria: Mapping[str, str]
    scale: Scale | None

    def cases(self, rows: Iterable[Row], warn: Callable[[str], None]) -> list[Case]:
        """The answer to grade, once for each criterion; or the two to compare.

        Raises:
            DataError: no row has a text.
        """
        found, n_rows, n_blank, n_empty = [], 0, 0, 0
        for row in rows:
            of_row = [self._case(row, criterion) for criterion in self._names]
            blank = [answer.is_blank for answer in of_row[0]]
            found += of_row
            n_rows, n_blank, n_empty = n_rows + 1, n_blank + any(blank), n_empty + all(blank)
        columns = " or ".join(self.answers)
        if n_rows and n_empty == n_rows:
            raise DataError(
                f"no row of '{self.stage}' has a text in {columns}, so there is nothing to judge"
            )
        if n_blank:
            what = "the lowest grade" if self.scale else "a verdict: an empty one loses"
            warn(
                f"{n_blank} of {counted(n_rows, 'row')} have no text in {columns}, and get "
                f"{what}, without asking"
            )
        return found

    def known(self, rows: Iterable[Row], columns: Mapping[str, str]) -> list[Label | None]:
        """Of each case what a column says. columns: by criterion, where it is said."""
        return [
            given_label(
                row[columns[criterion]],
                f"row {row['id']} of '{self.stage}': '{columns[criterion]}' is",
                self.scale,
                "scale",
            )
            if criterion in columns
            else None
            for row in rows
            for criterion in self._names
        ]

    @property
    def _names(self) -> list[str]:
        return list(self.criteria) or [GRADE]

    def _case(self, row: Row, criterion: str) -> Case:
        identity = str(row["id"])
        try:
            question = as_text(row.get(self.question), self.roles, identity)
        except DataError:
            question = ""  # no prompt can be made of it, which is said of the row
        reference = str(row.get("reference_answer") or "").strip()
        item: dict[str, Any] = {
            **row,
            "question": question,
            "references": [reference] if reference else [],
            "criterion": {"name": criterion, "definition": self.criteria.get(criterion, "")},
        }
        if self.scale is not None:
            name = f"{identity}-{criterion}" if self.criteria else identity
            return (Answer(name, item, _text(row[self.answers[0]])),)
        first, second = self._two(row)
        return Answer(identity, item, first), Answer(identity, item, second)

    def _two(self, row: Row) -> tuple[str, str]:
        if len(self.answers) == 2:
            first, second = (_text(row[name]) for name in self.answers)
            return first, second
        listed = row[self.answers[0]]
        if not isinstance(listed, list) or len(listed) != 2:
            raise DataError(
                f"row {row['id']} of '{self.stage}': '{self.answers[0]}' has to be a list of two "
                "texts; or name two columns in `answers`"
            )
        return _text(listed[0]), _text(listed[1])


def _text(value: Any) -> str:
    """Also of a number: 0 is an answer."""
    return "" if value is None else str(value)
