"""Accuracy of a student against the budget of explanations, by who is explained first.

in:  {"id": "q1", "correct_without": false, "correct_with": true, "utility": 0.5}
out: {"id": "utility at 0.2", "ranking": "utility", "budget": 0.2, "n_explained": 12, "n_items": 60,
      "accuracy": 0.6, "low": 0.5, "high": 0.7, "difference": 0.1, "difference_low": 0.03,
      "difference_high": 0.17}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llm_distill.errors import DataError
from llm_distill.evaluation.intervention_figures import budget_tables, correlation_table
from llm_distill.evaluation.results import shown
from llm_distill.methods.answers import AnswerKind, answers_equal
from llm_distill.methods.intervention import (
    BUDGETS,
    expected_right,
    explained_shares,
    n_explained,
    oracle_scores,
)
from llm_distill.methods.statistics import bootstrap, paired_bootstrap
from llm_distill.rows.columns import Row, score_of
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage

COLUMNS = {
    **{"id": "string", "ranking": "string", "budget": "float64"},
    **{"n_explained": "int64", "n_items": "int64"},
    **dict.fromkeys(("accuracy", "low", "high"), "float64"),
    **dict.fromkeys(("difference", "difference_low", "difference_high"), "float64"),
}
OWN = ("random", "oracle")
Budget = Annotated[float, Field(ge=0, le=1)]


class Ranking(BaseModel):
    """By which column rows are ranked, and from which end they are explained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: str = Field(min_length=1, description="the column with the score")
    order: Literal["highest", "lowest"] = Field(
        "highest",
        description="which rows are explained first; lowest: by utility, a misaligned one",
    )


@dataclass
class _Outcomes:
    """By item what the student gets right without and with help, and its scores by ranking."""

    without: list[bool] = field(default_factory=list)
    helped: list[bool] = field(default_factory=list)
    scores: dict[str, list[float | None]] = field(default_factory=dict)


class TeachingReport(Stage):
    """What the best ⌊b · N⌋ explanations are worth, for each budget b and each ranking of rows.

    Every row has the student's outcome without and with its explanation (arXiv 2306.09299), so each
    choice is computed, not run again. `random`, the mean over all choices, and `oracle`, by what
    help does in truth, are always among the rankings. Rows with the same score are explained with
    the same share, as if ties were broken in all ways; rows without one come last.

    Intervals are over rows, with the choice held fixed. At b = 0 and b = 1 all rankings are the
    same.
    """

    stage: Literal["teaching_report"]
    rows: Rows = Field(description="rows with both outcomes and the scores")
    rankings: dict[str, Ranking] = Field(
        min_length=1,
        description="by name, such as {utility: {by: utility}, misaligned: {by: utility, order: "
        "lowest}}",
    )
    budgets: tuple[Budget, ...] = Field(
        BUDGETS, min_length=1, description="shares of the rows that are explained"
    )
    answer_kind: AnswerKind | None = Field(
        None,
        description="null: correct_without and correct_with say it; else answer_without and "
        "answer_with are compared with reference_answer, as `verify` does",
    )

    @model_validator(mode="after")
    def _names_are_free(self) -> Self:
        taken = [name for name in OWN if name in self.rankings]
        if taken:
            raise ValueError(f"rankings: {taken[0]} is always there; choose another name")
        # As they are written in the rows' ids.
        if len({f"{budget:g}" for budget in self.budgets}) < len(self.budgets):
            raise ValueError("budgets: each can be named once, and differ in six digits")
        return self

    def required_columns(self) -> dict[str, set[str]]:
        if self.answer_kind is None:
            outcomes = {"correct_without", "correct_with"}
        else:
            outcomes = {"answer_without", "answer_with", "reference_answer"}
        return {self.rows: {"id", *outcomes, *(each.by for each in self.rankings.values())}}

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset(COLUMNS)

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        return len(self.budgets) * (len(self.rankings) + len(OWN))

    def run(self, context: Context) -> RowsOutput:
        from datasets import Features, Value

        found = self._outcomes(context)
        lines = list(self._lines(found))
        pairs = zip(found.without, found.helped, strict=True)
        truth = [float(after) - float(before) for before, after in pairs]
        table = correlation_table(found.scores, truth)
        context.metrics.update(
            items=len(truth),
            turned_right=sum(each > 0 for each in truth),
            turned_wrong=sum(each < 0 for each in truth),
            **shown(*budget_tables(lines), *([table] if table.figures else [])),
        )
        return RowsOutput(lines, Features({name: Value(kind) for name, kind in COLUMNS.items()}))

    def _outcomes(self, context: Context) -> _Outcomes:
        """Raises:
        DataError: no row has both outcomes, or no row has a score by one of the rankings.
        """
        found = _Outcomes(scores={name: [] for name in self.rankings})
        for row in context.each_row(self.rows):
            before, after = self._is_right(row, "without"), self._is_right(row, "with")
            if before is None or after is None:
                context.drop("no outcome")
                continue
            found.without.append(before)
            found.helped.append(after)
            for name, ranking in self.rankings.items():
                score = score_of(row["id"], row[ranking.by], ranking.by, self.rows)
                lowest = score is not None and ranking.order == "lowest"
                found.scores[name].append(-score if lowest else score)  # type: ignore[operator]
        if not found.without:
            raise DataError(f"no row of '{self.rows}' has an outcome both without and with help")
        for name, scores in found.scores.items():
            missing = sum(score is None for score in scores)
            if missing == len(scores):
                by = self.rankings[name].by
                raise DataError(f"rankings.{name}: no row of '{self.rows}' has a number in '{by}'")
            if missing:
                context.warn(f"{missing} rows have no score by {name}: they are explained last")
        return found

    def _is_right(self, row: Row, side: str) -> bool | None:
        """None where there is no outcome."""
        if self.answer_kind is None:
            value = row[f"correct_{side}"]
            if value not in (True, False, None):  # 1 and 0 are equal to these
                raise DataError(
                    f"row {row['id']} of '{self.rows}': correct_{side} is {value!r}, neither true "
                    "nor false; a mean over several answers has no ranking of its own"
                )
            return None if value is None else bool(value)
        reference = row["reference_answer"]
        if reference is None or not str(reference).strip():
            return None
        answer = row[f"answer_{side}"]
        return answers_equal(
            None if answer is None else str(answer), str(reference), self.answer_kind
        )

    def _lines(self, found: _Outcomes) -> Iterator[Row]:
        """One for each ranking and budget."""
        n = len(found.without)
        orders: dict[str, Sequence[float | None]] = {
            **found.scores,
            "random": [0.0] * n,
            "oracle": oracle_scores(found.without, found.helped),
        }
        for budget in sorted(self.budgets):
            paid = n_explained(budget, n)
            right = {
                name: expected_right(explained_shares(scores, paid), found.without, found.helped)
                for name, scores in orders.items()
            }
            for name, each in right.items():
                accuracy, better = bootstrap(each), paired_bootstrap(right["random"], each)
                line: dict[str, Any] = {
                    "id": f"{name} at {budget:g}",
                    "ranking": name,
                    "budget": budget,
                    "n_explained": paid,
                    "n_items": n,
                    **{"accuracy": accuracy.value, "low": accuracy.low, "high": accuracy.high},
                    "difference": better.value,
                    "difference_low": better.low,
                    "difference_high": better.high,
                }
                yield line
