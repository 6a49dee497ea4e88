"""Tables of what a judge says: grades or wins of models, and the judge's own biases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean
from typing import Literal

from llm_distill.evaluation.exam_results import Sitting
from llm_distill.evaluation.item_values import ItemValues, figure
from llm_distill.evaluation.result_rows import AgreementRow, Figure
from llm_distill.evaluation.results import FigureTable
from llm_distill.methods.grades import Winner
from llm_distill.methods.statistics import Estimate, bootstrap, rank_correlation

Outcome = Literal["won", "tied", "lost"]
WORTH: dict[Outcome, float] = {"won": 1.0, "tied": 0.5, "lost": 0.0}
OUTCOMES: dict[Winner, Outcome] = {"a": "won", "tie": "tied", "b": "lost"}
"""Of the first of two answers."""
POSITION: dict[Winner, float] = {"a": 1.0, "b": -1.0, "tie": 0.0}

GRADING = "correlation of grade and length"
WINNING = "correlation of winning and being longer"

FIGURES = {"agreement": "agreement", "kappa": "kappa", "weighted_kappa": "weighted kappa"}


class GradeResults:
    """Collects the grades of answers. title: what they are, such as `grade of 1 to 5 by judge`."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._values = ItemValues()
        self._lengths: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def add(self, sitting: Sitting, item: str, grade: float | None, length: int) -> None:
        """Take an answer's grade, None where there is none; length: characters of the answer."""
        self._values.add(*sitting, item, grade)
        if grade is not None:
            self._lengths[item].append((grade, float(length)))

    def tables(self) -> tuple[FigureTable, ...]:
        """Mean grades, and differences where there are several models."""
        means = tuple(figure(*found, "number") for found in self._values.means())
        differences = tuple(self._values.differences("difference"))
        return _present(
            FigureTable(self._title, means),
            FigureTable(f"{self._title}: paired differences", differences),
        )

    def biases(self) -> Iterator[Figure]:
        """How the grade goes with the length."""
        yield from length_correlation(GRADING, self._lengths.values())


class PairResults:
    """Collects the outcomes of pairs. title: what they are, such as `pairs against a by judge`."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._worth = ItemValues()
        self._outcomes: dict[Sitting, list[Outcome]] = defaultdict(list)
        self._inconsistent: dict[Sitting, int] = defaultdict(int)
        self._said: dict[str, list[Winner]] = defaultdict(list)
        self._lengths: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def add(
        self,
        sitting: Sitting,
        item: str,
        outcome: Outcome | None,
        said: Sequence[Winner],
        is_inconsistent: bool,
        longer_by: int,
    ) -> None:
        """Take a pair.

        Args:
            sitting: The model that is compared with the baseline.
            item: The item's id.
            outcome: The model's; None where a reply cannot be read.
            said: The judge's replies, `a` for the answer that stood first.
            is_inconsistent: Whether they contradict each other.
            longer_by: Characters that the model's answer has more than the baseline's.
        """
        self._worth.add(*sitting, item, None if outcome is None else WORTH[outcome])
        self._said[item].extend(said)
        if outcome is not None:
            self._outcomes[sitting].append(outcome)
            self._inconsistent[sitting] += is_inconsistent
            if said:
                self._lengths[item].append((WORTH[outcome], float(longer_by)))

    def tables(self) -> tuple[FigureTable, ...]:
        """Win rates, and differences of them where several models meet the baseline."""
        rates = tuple(
            each
            for sitting, found, n in self._worth.means()
            for each in self._of_sitting(sitting, found, n)
        )
        differences = tuple(self._worth.differences("points"))
        return _present(
            FigureTable(self._title, rates),
            FigureTable(f"{self._title}: paired differences of win rates", differences),
        )

    def _of_sitting(self, sitting: Sitting, found: Estimate, n: int) -> Iterator[Figure]:
        yield figure(sitting, found, n, "share", figure="win rate, a tie is half")
        outcomes = self._outcomes[sitting]
        labels = {"model": sitting[0], "shots": str(sitting[1])}
        for outcome in WORTH:
            share = outcomes.count(outcome) / len(outcomes)
            yield Figure({**labels, "figure": outcome}, share, kind="share")
        share = self._inconsistent[sitting] / len(outcomes)
        yield Figure({**labels, "figure": "contradicted itself"}, share, kind="share")

    def biases(self) -> Iterator[Figure]:
        """How often the judge prefers what stands first, and how winning goes with the length."""
        yield from position_bias(self._said.values())
        yield from length_correlation(WINNING, self._lengths.values())


def judge_table(
    agreed: Sequence[AgreementRow],
    biases: Iterator[Figure],
    counts: dict[str, int],
) -> FigureTable:
    """What is known of the judge itself.

    Args:
        agreed: Its agreement with people; what is undefined is left out.
        biases: As the results give them.
        counts: Of replies and answers, by what they are; 0 is shown.
    """
    figures = [
        Figure(
            {"figure": f"{FIGURES[row.figure]} with {row.annotators[0]}"},
            row.value,
            row.low,
            row.high,
            row.n,
            "share" if row.figure == "agreement" else "number",
        )
        for row in agreed
        if row.value is not None
    ]
    counted = (Figure({"figure": what}, float(count)) for what, count in counts.items())
    return FigureTable("the judge", (*figures, *biases, *counted))


def position_bias(said: Iterable[Sequence[Winner]]) -> Iterator[Figure]:
    """How much more often a judge chooses what stands first, over all its replies.

    said: of each item its replies, `a` for the answer that stood first.
    """
    means = [fmean(POSITION[winner] for winner in of_item) for of_item in said if of_item]
    if means:
        found = bootstrap(means)
        labels = {"figure": "position bias: first chosen − second chosen"}
        yield Figure(labels, found.value, found.low, found.high, len(means), "points")


def length_correlation(
    what: str, of_items: Iterable[Sequence[tuple[float, float]]]
) -> Iterator[Figure]:
    """How a verdict goes with the length. of_items: of each item pairs of both."""
    groups = list(of_items)
    found = rank_correlation(groups)
    if found is not None:
        yield Figure({"figure": what}, found.value, found.low, found.high, len(groups))


def _present(*tables: FigureTable) -> tuple[FigureTable, ...]:
    return tuple(table for table in tables if table.figures)
