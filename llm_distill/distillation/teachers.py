"""Several teachers: each row is scored by the one that it names, and learns from the one it has.

    teachers: {math: big_math, code: big_code}

`score_likelihood` reads the name off a column. `train_distill` is given the same names, and knows a
row's teacher by `scored_by`, which its scores are marked with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field, FiniteFloat

from llm_distill.errors import DataError, nearest
from llm_distill.evaluation.results import Figure, FigureTable
from llm_distill.stage import Model

if TYPE_CHECKING:
    from llm_distill.distillation.alignment.report import AlignmentReport
    from llm_distill.distillation.batches import Example
    from llm_distill.distillation.dataset import RowPreparation
    from llm_distill.rows.columns import Row


def _can_be_places(teachers: dict[str, str]) -> dict[str, str]:
    """A problem with one is reported at a place such as `teachers.math`."""
    for name in teachers:
        if not name or name.isdigit() or set(name) & set(".[]"):
            raise ValueError(
                f"'{name}' cannot be a teacher's name: it is empty, a number, or has a dot or a "
                "bracket"
            )
    return teachers


Teachers = Annotated[dict[str, Model], Field(min_length=1), AfterValidator(_can_be_places)]
"""Teachers by the names that rows have for them."""


Weights = dict[str, Annotated[FiniteFloat, Field(gt=0)]]
"""Of a mixture of teachers, by their names."""


def check_mixture(teachers: Mapping[str, str] | None, weights: Mapping[str, float] | None) -> None:
    """Raises:
    ValueError: the weights are not those of the teachers.
    """
    if weights is None:
        return
    if teachers is None or set(weights) != set(teachers) or len(teachers) < 2:
        raise ValueError(
            "teacher_weights needs two or more teachers, and a weight for each of them: "
            f"{', '.join(teachers or ()) or 'there are none'}"
        )


def mixed_tokenizers(first: str, other: str, how: str) -> str:
    """What is said where the teachers of a mixture cut texts differently. how: in words."""
    return (
        f"teacher_weights: the tokenizers of '{first}' and '{other}' differ: {how}; a mixture "
        "needs one tokenizer; with several, let each row name its teacher (teacher_column)"
    )


@dataclass(frozen=True)
class Share:
    """The rows of one teacher. names: what rows call it; one model may have several.

    is_of_all: it is one of a mixture, and scores all rows. is_again: others read them before.
    """

    model: str
    names: tuple[str, ...]
    n_rows: int
    is_of_all: bool = False
    is_again: bool = False

    @property
    def title(self) -> str:
        return ", ".join(self.names)


@dataclass
class Tally:
    """What one teacher has scored. n_fresh, seconds: in forward passes of this run.

    n_impossible: tokens of texts that were scored and left out, one of whose has no probability.

    refused: of a mixture's, by the rows' ids, why; another teacher may score them.
    """

    who: str = ""
    n_rows: int = 0
    n_tokens: int = 0
    total: float = 0.0
    n_impossible: int = 0
    n_fresh: int = 0
    seconds: float = 0.0
    refused: dict[str, str] = field(default_factory=dict)

    def figure(self, title: str) -> Figure:
        """The mean log-probability of a token; n is the number of rows."""
        return Figure({"teacher": title}, self.total / max(1, self.n_tokens), n=self.n_rows)


def shares(
    rows: Iterable[Row], teachers: Mapping[str, str], column: str, name: str
) -> tuple[list[Share], list[str]]:
    """The share of each model, in the order of `teachers`, and the teachers that no row names.

    column: has the name of a row's teacher. name: of the rows' stage, for messages.

    Raises:
        DataError: a row names none of them.
    """
    counts: Counter[str] = Counter()
    for row in rows:
        found = row[column]
        if found not in teachers:
            said = "names no teacher" if not found else f"names the teacher '{found}'"
            raise DataError(
                f"row '{row['id']}' of '{name}' {said} in its column '{column}'; "
                f"{nearest(found or '', teachers)} (teachers)"
            )
        counts[found] += 1
    named: dict[str, list[str]] = {}
    for own, model in teachers.items():
        if counts[own]:
            named.setdefault(model, []).append(own)
    found_shares = [
        Share(model, tuple(own), sum(counts[one] for one in own)) for model, own in named.items()
    ]
    return found_shares, [own for own in teachers if not counts[own]]


@dataclass
class ByTeacher:
    """Makes an example of each row as the teacher reads it that scored it.

    rows: the stage that they are from. preparations: by what a teacher's scores are marked with.
    titles: likewise, the teacher's names.
    n_rows: by title, how many rows were prepared.
    """

    rows: str
    preparations: Mapping[str, RowPreparation]
    titles: Mapping[str, str]
    report: AlignmentReport
    n_rows: Counter[str] = field(default_factory=Counter)

    def encode(self, row: Row) -> Example:
        """Raises:
        UnusableRowError: the row cannot be trained on.
        DataError: none of the teachers scored it, or its scores are not for this row.
        """
        who = row["scored_by"]
        if who not in self.preparations:
            those = ", ".join(f"{title} ({by})" for by, title in self.titles.items())
            raise DataError(
                f"row {row['id']} of '{self.rows}' was scored by {who or 'no model'}, and the "
                f"teachers are {those}; score it with one of them, or name the one that did"
            )
        example = self.preparations[who].encode(row)
        self.n_rows[self.titles[who]] += 1
        return example

    def without_rows(self) -> Sequence[str]:
        """The titles of the teachers that scored no row which is trained on."""
        return [title for title in self.titles.values() if not self.n_rows[title]]

    def figures(self) -> FigureTable:
        counted = (Figure({"teacher": title}, n) for title, n in self.n_rows.items())
        return FigureTable("rows by teacher", tuple(counted))
