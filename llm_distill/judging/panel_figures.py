"""What a panel of judges found: tables of its verdicts, of its agreement, and of each judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llm_distill.evaluation.agreement_figures import agreement_table
from llm_distill.evaluation.judge_results import (
    GRADING,
    OUTCOMES,
    WINNING,
    WORTH,
    judge_table,
    length_correlation,
    position_bias,
)
from llm_distill.evaluation.results import FigureTable
from llm_distill.evaluation.verdict_figures import (
    By,
    grade_table,
    known_table,
    winner_table,
)
from llm_distill.judging.answers import Compared, Graded, label_of
from llm_distill.judging.judge import Judge
from llm_distill.judging.row_cases import Case
from llm_distill.judging.scale import Scale
from llm_distill.methods.agreement import Label
from llm_distill.methods.verdicts import mean_grade, most_say

ALL = "all judges"


@dataclass(frozen=True)
class PanelFigures:
    """Tables of verdicts on cases: each row's, once for each criterion.

    Attributes:
        criteria: In the order of a row's cases.
        scale: Of grades; None for pairs.
        groups: Of each row the group that it is in; None without groups.
        known: What verdicts are compared with, `people` or `truth`, of each case.
    """

    criteria: Sequence[str]
    scale: Scale | None
    groups: Sequence[str] | None
    known: Mapping[str, Sequence[Label | None]]

    def tables(
        self,
        judges: Mapping[str, Judge],
        found: Mapping[str, Sequence[Any]],
        cases: Sequence[Case],
    ) -> list[FigureTable]:
        """All that have figures. found: of each judge its verdict on each case."""
        step = len(self.criteria)
        tables = [
            table
            for at, criterion in enumerate(self.criteria)
            for table in self._of_criterion(
                criterion,
                {name: of[at::step] for name, of in found.items()},
                {name: labels[at::step] for name, labels in self.known.items()},
            )
        ]
        tables += [self._of_judge(judge, found[name], cases) for name, judge in judges.items()]
        return [table for table in tables if table.figures]

    def _of_criterion(
        self,
        criterion: str,
        found: Mapping[str, Sequence[Any]],
        known: Mapping[str, Sequence[Label | None]],
    ) -> Iterator[FigureTable]:
        combine: Callable[[Sequence[Any]], Any] = mean_grade if self.scale else most_say
        by_judge: dict[str, list[Any]] = {
            name: [label_of(each) for each in of] for name, of in found.items()
        }
        together: dict[str, list[Any]] = {}
        if len(by_judge) > 1:
            together[ALL] = [combine(given) for given in zip(*by_judge.values(), strict=True)]
        said: By = {**by_judge, **together}
        graded = self.scale is not None
        name = f"{criterion}, {self.scale}" if graded else "verdicts"
        if graded:
            yield grade_table(name, said, self.groups)
        else:
            flips = {judge: [_contradicts(each) for each in of] for judge, of in found.items()}
            yield winner_table(name, said, flips, self.groups)
        for what, labels in known.items():
            yield known_table(f"{name}: against {what}", said, labels, self.groups, graded)
        people = {"people": known["people"]} if "people" in known else {}
        annotators: By = {**by_judge, **people}
        if len(annotators) > 1:
            yield agreement_table(f"{name}: agreement", annotators, graded=graded)

    def _of_judge(self, judge: Judge, found: Sequence[Any], cases: Sequence[Case]) -> FigureTable:
        lengths = [_length(case, each) for case, each in zip(cases, found, strict=True)]
        known = [[pair] for pair in lengths if pair is not None]
        places = position_bias([each.said for each in found]) if self.scale is None else iter(())
        biases = [*places, *length_correlation(GRADING if self.scale else WINNING, known)]
        return replace(
            judge_table((), iter(biases), judge.counts()), title=f"the judge {judge.name}"
        )


def unreadable(judge: Judge) -> str:
    """What is said of replies that cannot be read."""
    return (
        f"{judge.unreadable} of {judge.asked} replies of the judge '{judge.name}' have no "
        f"{judge.wanted}; what they are about is left out of its figures"
    )


def _contradicts(found: Compared) -> bool | None:
    return found.is_inconsistent if len(found.said) == 2 else None


def _length(case: Case, found: Graded | Compared) -> tuple[float, float] | None:
    """A verdict beside the length of what it is about; None where the judge was not asked."""
    if isinstance(found, Graded):
        if found.grade is None or found.reply is None:
            return None
        return found.grade, float(len(case[0].text))
    if found.winner is None or not found.said:
        return None
    return WORTH[OUTCOMES[found.winner]], float(len(case[0].text) - len(case[1].text))
