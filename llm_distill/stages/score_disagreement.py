"""Score how far a model's sampled answers to each question differ, from each other and from gold.

in:  {"id": "q1", "question": "2 + 2?"} and samples {"parent_id": "q1", "answer": "4"},
     {"parent_id": "q1", "answer": "5"}, {"parent_id": "q1", "answer": "4."}
out: {"id": "q1", "question": "2 + 2?", "score": 0.33, "metric": "disagreement",
      "answer_entropy": 0.64, "error_rate": null, "n_answers": 3}
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import Literal

from pydantic import Field

from llm_distill.errors import DataError
from llm_distill.evaluation.results import Figure, FigureTable, shown
from llm_distill.methods.answers import AnswerKind, answers_equal
from llm_distill.methods.sampled_answers import answer_entropy, disagreement
from llm_distill.rows.columns import Row
from llm_distill.stage import Context, Rows, RowsOutput, Stage

MEASURES = ("score", "answer_entropy", "error_rate")
CALLED = ("disagreement", "entropy of the answers, nats", "wrong answers")


class ScoreDisagreement(Stage):
    """Gives each question what its sampled answers say of how sure their writer is.

    `samples` are answers to the rows by a `generate` with `n` above 1, a temperature and `parse`.
    `score` is 1 − the share of the most common answer, `answer_entropy` −Σ p·ln p of the shares,
    and `error_rate` the share that differs from the row's `reference_answer` (null without one).
    An answer that cannot be read is unlike any other, and wrong. `select` ranks by any of the three
    (`by`). A row without samples has null scores, which `select` leaves out, and is counted.

    None of them tells a question that is hard from one that nobody can answer.
    """

    added_columns = ("score", "metric", "answer_entropy", "error_rate", "n_answers")
    stage: Literal["score_disagreement"]
    rows: Rows = Field(description="the questions, whose columns are passed on")
    samples: Rows = Field(description="several answers to each (`parent_id`, `answer`)")
    answer_kind: AnswerKind = Field("exact", description="when two answers are the same")

    def required_columns(self) -> dict[str, set[str]]:
        needed = {self.rows: {"id"}}
        needed.setdefault(self.samples, set()).update({"parent_id", "answer"})
        return needed

    def remedy(self, column: str) -> str | None:
        if column == "answer":
            return "the stage that samples reads it: parse: {tags: {answer: ans}, on_failure: keep}"
        return None

    def run(self, context: Context) -> RowsOutput:
        return RowsOutput(self._rows(context), self.output_features(context))

    def _rows(self, context: Context) -> Iterator[Row]:
        answers: dict[str, list[str | None]] = {}
        for sample in context.each_row(self.samples):
            text = None if sample["answer"] is None else str(sample["answer"])
            if not sample.get("error") or text is not None:
                answers.setdefault(str(sample["parent_id"]), []).append(text)
            else:  # a request that failed says nothing of the student, an unread answer does
                answers.setdefault(str(sample["parent_id"]), [])
        scored: list[tuple[float | None, ...]] = []
        n_rows = n_alone = 0
        for row in self.each_row(context):
            n_rows += 1
            own = answers.get(row["id"], [])
            n_alone += len(own) == 1
            found = self._measured(own, row) if own else (None, None, None)
            if own:
                scored.append(found)
            measures = dict(zip(MEASURES, found, strict=True))
            yield {**row, **measures, "metric": "disagreement", "n_answers": len(own)}
        if not scored:
            raise DataError(
                f"no row of '{self.samples}' answers a row of '{self.rows}': its parent_id has to "
                "be their id; sample with generate over the same rows"
            )
        if n_alone:
            context.warn(
                f"{n_alone} of {n_rows} rows have one sample, which cannot disagree; raise n of "
                f"'{self.samples}'"
            )
        if n_rows > len(scored):
            context.warn(f"{n_rows - len(scored)} of {n_rows} rows have no sample, so no score")
        context.metrics.update(
            rows_scored=len(scored), unscored=n_rows - len(scored), **shown(_means(scored))
        )

    def _measured(self, answers: list[str | None], row: Row) -> tuple[float | None, ...]:
        kind, reference = self.answer_kind, row.get("reference_answer")
        wrong = None
        if str(reference if reference is not None else "").strip():
            wrong = fmean(not answers_equal(a, str(reference), kind) for a in answers)
        return disagreement(answers, kind), answer_entropy(answers, kind), wrong


def _means(scored: list[tuple[float | None, ...]]) -> FigureTable:
    figures = []
    for name, values in zip(CALLED, zip(*scored, strict=True), strict=True):
        there = [value for value in values if value is not None]
        if there:
            figures.append(Figure({"mean of": name}, fmean(there), n=len(there)))
    return FigureTable("sampled answers", tuple(figures))
