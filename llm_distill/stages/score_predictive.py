"""Score documents by how well several models' losses on them predict their benchmark scores.

in:  {"id": "d1", "completion": "…", "teacher_logps": [-0.1, …]} of the scores of `small`, and the
     same documents in those of `middle` and `large`
out: {"id": "d1", "completion": "…", "teacher_logps": [-0.1, …], "predictive_strength": 0.67}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from llm_distill.errors import DataError, nearest
from llm_distill.evaluation.results import Figure, FigureTable, shown
from llm_distill.methods.predictive_strength import predictive_strength
from llm_distill.methods.statistics import bootstrap
from llm_distill.rows.columns import Row, features
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage

ADDED = "predictive_strength"
Benchmark = Annotated[float, Field(allow_inf_nan=False)]


class ScorePredictive(Stage):
    """Adds the share of pairs of models in which the better one finds the document likelier.

    That is PreSelect's predictive strength (arXiv 2503.00808): 1 where the models' losses are in
    the order of their benchmark scores, 0.5 by chance. `select` keeps the highest. The losses are
    those of the whole document, so tokenizers may differ. Documents that a model has not scored are
    counted and left out.
    """

    stage: Literal["score_predictive"]
    rows: list[Rows] = Field(
        min_length=3,
        description="a score_likelihood of each model over the same documents; the first one's "
        "rows are passed on",
    )
    benchmarks: dict[str, Benchmark] = Field(
        description="stage: the benchmark score of its model; more is better"
    )

    @model_validator(mode="after")
    def _each_has_one(self) -> Self:
        if len({*self.rows}) < len(self.rows):
            raise ValueError("rows: each stage can be named once")
        for name in self.benchmarks:
            if name not in self._models:
                raise ValueError(f"benchmarks: no '{name}' in rows; {nearest(name, self._models)}")
        for name in self._models:
            if name not in self.benchmarks:
                raise ValueError(f"benchmarks: '{name}' has none")
        if len({*self.benchmarks.values()}) < 2:
            raise ValueError("benchmarks: all are equal, so there is no order to be predicted")
        return self

    @property
    def _models(self) -> dict[str, str]:
        """Name in the settings, without the round of a `repeat`, to the stage with its scores."""
        return {name.partition("@")[0]: name for name in self.rows}

    def required_columns(self) -> dict[str, set[str]]:
        return {name: {"id", "teacher_logps"} for name in self.rows}

    def remedy(self, column: str) -> str | None:
        return "score_likelihood gives it" if column == "teacher_logps" else None

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        columns = inputs[self.rows[0]]
        return None if columns is None else columns.union([ADDED])

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        return rows[self.rows[0]]

    def run(self, context: Context) -> RowsOutput:
        like = context.rows(self.rows[0]).features
        return RowsOutput(self._rows(context), features([ADDED], like=like))

    def _rows(self, context: Context) -> Iterator[Row]:
        losses = {
            each: {row["id"]: _loss(row, name) for row in context.each_row(name)}
            for each, name in self._models.items()
        }
        order = [*self._models]
        scores = [self.benchmarks[each] for each in order]
        found = []
        for row in context.each_row(self.rows[0]):
            missing = next((each for each in order if row["id"] not in losses[each]), None)
            if missing is not None:
                context.drop(f"not scored in {missing}")
                continue
            strength = predictive_strength([losses[each][row["id"]] for each in order], scores)
            found.append(strength)
            yield {**row, ADDED: strength}
        if not found:
            raise DataError(
                f"no document was scored by all of {', '.join(self.rows)}; score the same rows"
            )
        mean = bootstrap(found)
        labels = {"models": str(len(order))}
        figure = Figure(labels, mean.value, mean.low, mean.high, len(found))
        context.metrics.update(shown(FigureTable("mean predictive strength", (figure,))))


def _loss(row: Row, name: str) -> float:
    """Summed -log p in nats.

    Raises:
        DataError: there are no scores, or they are no number.
    """
    scores = row["teacher_logps"]
    total = -sum(scores) if scores else float("nan")
    if not isfinite(total):
        raise DataError(f"row {row['id']} of '{name}' has no finite scores (teacher_logps)")
    return total
