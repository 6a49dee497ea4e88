"""How far a student lags behind its teacher on each domain's validation texts.

in:  {"id": "v1", "domain": "sums", "completion": "3 + 4 = 7.", "teacher_logps": [-0.1, …]} of the
     teacher's scores, and the same of the student's
out: {"id": "sums", "domain": "sums", "student_ppl": 1.9, "teacher_ppl": 1.2, "score": 1.58,
      "low": 1.4, "high": 1.8, "n_items": 24, "n_units": 830, "unit": "byte"}
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from math import isfinite
from typing import Literal, Self

from pydantic import Field, model_validator

from llm_distill.errors import DataError, counted, few
from llm_distill.evaluation.results import Figure, FigureTable, shown
from llm_distill.methods.perplexity_gap import ScoredText, Unit, common_unit, gap_of
from llm_distill.rows.columns import Row
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage

TYPES = {
    "student_ppl": "float64", "teacher_ppl": "float64", "score": "float64", "low": "float64",
    "high": "float64", "n_items": "int64", "n_units": "int64", "unit": "string",
}  # fmt: skip


class PerplexityGap(Stage):
    """By domain, the perplexity of the student divided by that of the teacher (DDK's ρ), `score`.

    Both have scored the same validation texts with `score_likelihood`: texts that are right, and
    that neither the teacher nor the student wrote. ρ is 1 where the student knows as much, and
    above where it lags. It is per token where both cut every text into as many, and else per byte:
    tokens of two tokenizers are not of one size.
    """

    stage: Literal["perplexity_gap"]
    student_scores: Rows = Field(description="a score_likelihood of the student over the texts")
    teacher_scores: Rows = Field(
        description="a score_likelihood of the teacher over the same texts"
    )
    by: str = Field("domain", min_length=1, description="the column that names a text's domain")
    rows: Rows | None = Field(
        None, description="the rows that are trained on: each of their domains must have texts"
    )
    text_column: str = Field(
        "completion", min_length=1, description="the text that was scored, for perplexity by byte"
    )
    unit: Unit | None = Field(
        None, description="perplexity by token or by byte; null: token where both have as many"
    )

    @model_validator(mode="after")
    def _are_of_two(self) -> Self:
        if self.student_scores == self.teacher_scores:
            raise ValueError("student_scores and teacher_scores are those of two models")
        if self.by in ("id", *TYPES):
            raise ValueError(f"by: '{self.by}' is a column of the result; rename the domains'")
        return self

    def required_columns(self) -> dict[str, set[str]]:
        of_student = {"id", self.by, self.text_column, "teacher_logps"}
        needed = {self.student_scores: of_student, self.teacher_scores: {"id", "teacher_logps"}}
        if self.rows is not None:
            needed[self.rows] = needed.get(self.rows, set()) | {self.by}
        return needed

    def remedy(self, column: str) -> str | None:
        return "score_likelihood gives it" if column == "teacher_logps" else None

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset({"id", self.by, *TYPES})

    def run(self, context: Context) -> RowsOutput:
        from datasets import Features, Value

        domains = self._texts(context)
        every = [text for texts in domains.values() for text in texts]
        unit = self.unit or common_unit(every)
        rows = [self._row(name, texts, unit) for name, texts in sorted(domains.items())]
        context.metrics.update(shown(self._table(rows)))
        types = {"id": "string", self.by: "string", **TYPES}
        return RowsOutput(rows, Features({name: Value(kind) for name, kind in types.items()}))

    def _texts(self, context: Context) -> dict[str, list[ScoredText]]:
        """By domain the texts that both have scored.

        Raises:
            DataError: a domain has none.
        """
        of_teacher = {
            row["id"]: _sum_of(row, self.teacher_scores)
            for row in context.each_row(self.teacher_scores)
        }
        found: dict[str, list[ScoredText]] = defaultdict(list)
        wanted: set[str] = set()
        for row in context.each_row(self.student_scores):
            if row[self.by] is None:
                context.drop(f"no {self.by}")
                continue
            wanted.add(str(row[self.by]))
            teacher = of_teacher.pop(row["id"], None)
            if teacher is None:
                context.drop("not scored by the teacher")
                continue
            student, n_bytes = _sum_of(row, self.student_scores), self._n_bytes(row)
            text = ScoredText(student[0], teacher[0], student[1], teacher[1], n_bytes)
            found[str(row[self.by])].append(text)
        context.drop("not scored by the student", len(of_teacher))
        if self.rows is not None:
            trained = (row[self.by] for row in context.each_row(self.rows))
            wanted |= {str(domain) for domain in trained if domain is not None}
        without = sorted(wanted.difference(found))
        if without or not found:
            of = (
                f"{counted(len(without), self.by)}: {few(without)}" if without else f"any {self.by}"
            )
            raise DataError(
                f"'{self.student_scores}' and '{self.teacher_scores}' share no scored text of {of} "
                f"({self.by}s with texts: {few(sorted(found)) or 'none'}); hold texts of each "
                f"{self.by} out, or leave its rows out of what is trained"
            )
        return found

    def _n_bytes(self, row: Row) -> int:
        text = row[self.text_column]
        if not isinstance(text, str):
            raise DataError(
                f"row {row['id']} of '{self.student_scores}': {self.text_column} is not text; "
                "name the column with what was scored (text_column)"
            )
        return len(text.encode())

    def _row(self, domain: str, texts: list[ScoredText], unit: Unit) -> Row:
        """Raises:
        DataError: perplexities that are no numbers.
        """
        try:
            found = gap_of(texts, unit)
        except ValueError as error:
            raise DataError(f"{self.by} {domain}: {error}: look at the scores") from error
        return {
            "id": domain,
            self.by: domain,
            "student_ppl": found.student,
            "teacher_ppl": found.teacher,
            "score": found.ratio,
            "low": found.low,
            "high": found.high,
            "n_items": len(texts),
            "n_units": found.n_units,
            "unit": unit,
        }

    def _table(self, rows: list[Row]) -> FigureTable:
        figures = []
        for row in rows:
            of = {self.by: row["id"], "texts": str(row["n_items"])}
            figures += [
                Figure({**of, "of": "student"}, row["student_ppl"]),
                Figure({**of, "of": "teacher"}, row["teacher_ppl"]),
                Figure({**of, "of": "ratio"}, row["score"], row["low"], row["high"]),
            ]
        unit = rows[0]["unit"]
        return FigureTable(f"perplexity by {unit}", tuple(figures), across="of")


def _sum_of(row: Row, name: str) -> tuple[float, int]:
    """(summed -log p in nats, tokens).

    Raises:
        DataError: there are no scores, or one is no number.
    """
    scores = row["teacher_logps"]
    total = -sum(scores) if scores else 0.0
    if not scores or not isfinite(total):
        raise DataError(f"row {row['id']} of '{name}' has no finite scores (teacher_logps)")
    return total, len(scores)
