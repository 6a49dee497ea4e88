"""One judge of a panel before rows: first those that people have judged, as its gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from llm_distill.errors import DataError, counted
from llm_distill.judging.answers import Answer, Compared, Graded, comparisons, grades, label_of
from llm_distill.judging.judge import Judge
from llm_distill.judging.labelled import FEWEST, held_to
from llm_distill.judging.scale import Scale
from llm_distill.methods.agreement import Label

Found = TypeVar("Found", Graded, Compared)


@dataclass(frozen=True)
class Gate:
    """With whom a judge has to agree.

    Attributes:
        people: What they say of each case; None where they say nothing.
        columns: Where they say it, of each case; None: nowhere. Agreement is by column.
        rows: The stage with the rows, for messages.
        wanted: The lowest kappa, of grades weighted.
    """

    people: Sequence[Label | None]
    columns: Sequence[str | None]
    rows: str
    wanted: float

    def check_enough(self) -> None:
        """Whether people have judged enough, before anything is paid for.

        Raises:
            DataError: there are fewer than two of a column.
        """
        for column in self.named:
            n = len(self.of(column))
            if n < FEWEST:
                raise DataError(
                    f"min_agreement: '{self.rows}' has {counted(n, 'row')} with a label in "
                    f"'{column}'; agreement needs at least {FEWEST}, and some dozens to say much"
                )

    @property
    def named(self) -> list[str]:
        """The columns, each once."""
        return list(dict.fromkeys(column for column in self.columns if column is not None))

    def of(self, column: str) -> list[int]:
        """The places of the cases that people have judged in a column."""
        return [
            place
            for place, (label, of) in enumerate(zip(self.people, self.columns, strict=True))
            if of == column and label is not None
        ]


@dataclass
class Panelist(Generic[Found]):
    """A judge, and what it says of the cases. ask: Gives its verdicts on some of them."""

    judge: Judge
    ask: Callable[[Sequence[int]], Iterator[Found]]
    _found: dict[int, Found] = field(default_factory=dict)

    def verdicts(self, n: int, ids: Sequence[str], gate: Gate | None) -> list[Found]:
        """Of each of the `n` cases, those that people have judged first.

        Raises:
            DataError: It agrees too little with people, or ignores the form.
        """
        if gate is not None:
            self._take([place for place in range(n) if gate.people[place] is not None])
            for column in gate.named:
                self._check(column, ids, gate)
        self._take([place for place in range(n) if place not in self._found])
        return [self._found[place] for place in range(n)]

    def _take(self, places: Sequence[int]) -> None:
        if places:
            self._found.update(zip(places, self.ask(places), strict=True))

    def _check(self, column: str, ids: Sequence[str], gate: Gate) -> None:
        labels = [
            (ids[place], gate.people[place], label_of(self._found[place]))
            for place in gate.of(column)
        ]
        held_to(labels, self.judge, column, gate.rows, gate.wanted)


def grading(judge: Judge, scale: Scale, cases: Sequence[Answer]) -> Panelist[Graded]:
    """A judge that grades answers."""
    return Panelist(
        judge,
        lambda places: grades(judge, scale, [cases[place] for place in places]),
    )


def comparing(judge: Judge, cases: Sequence[tuple[Answer, Answer]]) -> Panelist[Compared]:
    """A judge that compares two answers."""
    return Panelist(
        judge,
        lambda places: comparisons(judge, [cases[place] for place in places]),
    )
