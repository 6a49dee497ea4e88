"""Elect one of a question's sampled answers by number or by score, and measure ways to do it.

in:  {"id": "q1-0", "parent_id": "q1", "answer": "7", "score": 0.2},
     {"id": "q1-1", "parent_id": "q1", "answer": "8", "score": 0.9},
     {"id": "q1-2", "parent_id": "q1", "answer": "7.", "score": 0.3}
out: {"id": "q1-1", "parent_id": "q1", "answer": "8", "score": 0.9, "agreement": 1}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from llm_distill.errors import DataError
from llm_distill.evaluation.results import Figure, FigureTable, shown
from llm_distill.methods.answers import AnswerKind, answers_equal
from llm_distill.methods.sampled_answers import Vote, elected
from llm_distill.methods.statistics import bootstrap, paired_bootstrap, wilson_interval
from llm_distill.rows.columns import Row, check_references, score_of
from llm_distill.stage import Context, Rows, RowsOutput, Stage

Verdicts = dict[str, list[float]]
"""By way of choosing, 1 or 0 for each question; the share of right ones for a random choice."""


class ElectByVote(Stage):
    """Passes on, for each question, the sample whose answer is elected.

    Rows with the same `parent_id` are the samples of a question. `majority` (self-consistency)
    elects the most common answer; `score_sum` the one with the highest sum of scores and
    `best_score` that of the best-scored sample (SUM and MAX of Learning by Teaching, arXiv
    2406.14629). `agreement` is the number of samples with the elected answer. A question without a
    readable, scored answer is dropped.

    With `compare`, the accuracy of these ways on the same samples is measured against
    `reference_answer`, each with its interval over questions and its difference from the first;
    `random` is a sample drawn at random, on average, and `single` the answers of the stage
    `single`, such as greedy ones.
    """

    added_columns = ("agreement",)
    rows_may_be_empty = True
    stage: Literal["vote"]
    rows: Rows = Field(description="the stage whose rows are sampled answers")
    vote: Vote = Field("majority", description="how an answer is elected")
    by: str = Field("score", description="the column with the score; not for majority")
    answer_kind: AnswerKind = Field("exact", description="when two answers are the same")
    compare: list[Literal[Vote, "random", "single"]] = Field(
        [], description="ways to choose that are measured; differences are from the first"
    )
    single: Rows | None = Field(
        None, description="one answer to each question (`parent_id`), to be compared as `single`"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if ("single" in self.compare) != (self.single is not None):
            raise ValueError("`single` in compare goes with a stage `single:`")
        if len(set(self.compare)) < len(self.compare):
            raise ValueError("compare: each way can be named once")
        return self

    def required_columns(self) -> dict[str, set[str]]:
        scored = {self.vote, *self.compare} & {"score_sum", "best_score"}
        needed = {self.rows: {"id", "parent_id", "answer"}}
        needed[self.rows] |= {self.by} if scored else set()
        needed[self.rows] |= {"reference_answer"} if self.compare else set()
        if self.single is not None:
            needed.setdefault(self.single, set()).update({"parent_id", "answer"})
        return needed

    def run(self, context: Context) -> RowsOutput:
        return RowsOutput(self._rows(context), self.output_features(context))

    def _rows(self, context: Context) -> Iterator[Row]:
        questions: dict[str, list[Row]] = {}
        for row in context.each_row(self.rows):
            if row["parent_id"] is None:
                raise DataError(f"row {row['id']} of '{self.rows}' has no parent_id, its question")
            questions.setdefault(row["parent_id"], []).append(row)
        if "score_sum" in (self.vote, *self.compare):
            self._check_sums(questions)
        if self.compare:
            self._measure(context, questions)
        context.metrics["questions"] = len(questions)
        for samples in questions.values():
            at = self._elected(samples, self.vote)
            if at is None:
                context.drop("no answer that can be elected")
                continue
            answer = str(samples[at]["answer"])
            same = [answers_equal(_answer(row), answer, self.answer_kind) for row in samples]
            yield {**samples[at], "agreement": sum(same)}

    def _check_sums(self, questions: Mapping[str, list[Row]]) -> None:
        for row in (row for samples in questions.values() for row in samples):
            if (self._score(row) or 0.0) < 0:
                raise DataError(
                    f"row {row['id']} of '{self.rows}' has the {self.by} {row[self.by]:g}; sums of "
                    "scores below 0 would elect the rarest answer: set vote: best_score, or use "
                    "scores from 0 up, such as score_in_context's"
                )

    def _score(self, row: Row) -> float | None:
        return score_of(row["id"], row[self.by], self.by, self.rows)

    def _elected(self, samples: Sequence[Row], vote: Vote) -> int | None:
        scores = [None if vote == "majority" else self._score(row) for row in samples]
        return elected([_answer(row) for row in samples], scores, vote, self.answer_kind)

    def _measure(self, context: Context, questions: Mapping[str, list[Row]]) -> None:
        for samples in questions.values():
            check_references(samples[:1], self.rows)
        singles = self._singles(context, questions)
        verdicts: Verdicts = {way: [] for way in self.compare}
        for identity, samples in questions.items():
            reference = samples[0]["reference_answer"]
            right = [self._equal(row, reference) for row in samples]
            for way, found in verdicts.items():
                if way == "random":
                    found.append(fmean(right))
                elif way == "single":
                    found.append(self._equal(singles[identity], reference))
                else:
                    at = self._elected(samples, way)  # type: ignore[arg-type]
                    found.append(0.0 if at is None else right[at])
        if questions:
            context.metrics.update(shown(*_tables(verdicts)))

    def _singles(self, context: Context, questions: Mapping[str, Any]) -> dict[str, Row]:
        if self.single is None:
            return {}
        singles: dict[str, Row] = {}
        for row in context.each_row(self.single):
            if row["parent_id"] in singles:
                raise DataError(
                    f"'{self.single}' has several answers to question '{row['parent_id']}'; "
                    "`single` is one answer to each"
                )
            singles[row["parent_id"]] = row
        missing = [identity for identity in questions if identity not in singles]
        if missing:
            raise DataError(
                f"'{self.single}' has no answer to question '{missing[0]}' of '{self.rows}' "
                f"({len(missing)} are missing); ask it about the same rows, and keep failures "
                "(parse: on_failure: keep)"
            )
        return singles

    def _equal(self, row: Row, reference: str) -> float:
        return float(answers_equal(_answer(row), reference, self.answer_kind))


def _answer(row: Row) -> str | None:
    return None if row["answer"] is None else str(row["answer"])


def _tables(verdicts: Verdicts) -> list[FigureTable]:
    """The accuracy of each way, and its difference from the first on the same questions."""
    accuracy = []
    for way, right in verdicts.items():
        whole = all(value in (0.0, 1.0) for value in right)
        found = wilson_interval(round(sum(right)), len(right)) if whole else bootstrap(right)
        labels = {"chosen by": way}
        accuracy.append(
            Figure(labels, found.value, found.low, found.high, len(right), kind="share")
        )
    (first, baseline), *others = verdicts.items()
    differences = []
    for way, right in others:
        found = paired_bootstrap(baseline, right)
        labels = {"chosen by": way}
        differences.append(
            Figure(labels, found.value, found.low, found.high, len(right), kind="points")
        )
    tables = [FigureTable("accuracy of the chosen answers", tuple(accuracy))]
    if differences:
        tables.append(FigureTable(f"difference from {first}", tuple(differences)))
    return tables
