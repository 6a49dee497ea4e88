"""The next mixture of domains: more of those where the student lags (DDK).

in:  {"id": "sums", "score": 1.5}, {"id": "dates", "score": 1.0}
out: {"id": "sums", "domain": "sums", "round": 1, "weight": 0.62, "weights": [0.62]},
     {"id": "dates", "domain": "dates", "round": 1, "weight": 0.38, "weights": [0.38]}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from llm_distill.errors import DataError
from llm_distill.evaluation.results import Figure, FigureTable, shown
from llm_distill.methods.domain_shares import SMOOTHING, first_shares, next_shares
from llm_distill.rows.columns import Row, round_after, score_of
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage

TYPES = {"round": "int64", "weight": "float64", "weights": "list", "score": "float64"}


class MixtureReweight(Stage):
    """Each domain's share of the next rows, for `mix` (`weights_from`).

    The method of DDK (arXiv 2407.16154): without a mixture before, softmax(ρ), ρ being `score` of
    `perplexity_gap`; after one, r ← α · r·exp(ρ) / Σ r·exp(ρ) + (1 − α) / N, with α `smoothing`.
    The first is not smoothed, as in the paper: a domain with a ρ of 10 beside others of 1 gets
    nearly all of it. `weights` are the shares of all rounds so far.
    """

    stage: Literal["mixture_reweight"]
    rows: Rows = Field(description="a row for each domain, whose id is its name")
    before: Rows | None = Field(None, description="the mixture of the round before; null: none")
    score: str = Field(
        "score", min_length=1, description="the column with ρ: the higher, the more is drawn"
    )
    by: str = Field("domain", min_length=1, description="what the column with the domain is called")
    smoothing: float = Field(
        SMOOTHING, ge=0, le=1, description="α: 1 does not smooth, 0 gives equal shares"
    )

    @model_validator(mode="after")
    def _keeps_its_columns(self) -> Self:
        if self.by in ("id", *TYPES):
            raise ValueError(f"by: '{self.by}' is a column of the result; rename the domains'")
        return self

    def required_columns(self) -> dict[str, set[str]]:
        needed = {self.rows: {"id", self.score}}
        if self.before is not None:
            needed.setdefault(self.before, set()).update({"id", "weight", "weights", "round"})
        return needed

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset({"id", self.by, *TYPES})

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        return rows[self.rows]

    def run(self, context: Context) -> RowsOutput:
        from datasets import Features, List, Value

        lags = {row["id"]: self._lag(row) for row in context.each_row(self.rows)}
        earlier = list(context.each_row(self.before)) if self.before is not None else []
        history = {row["id"]: list(row["weights"] or ()) for row in earlier}
        try:
            if earlier:
                before = {row["id"]: row["weight"] for row in earlier}
                shares = next_shares(lags, before, self.smoothing)
            else:
                shares = first_shares(lags)
        except ValueError as error:
            raise DataError(f"'{self.rows}': {error}") from error
        number = round_after(earlier)
        rows = [
            {
                "id": domain,
                self.by: domain,
                "round": number,
                "weight": share,
                "weights": [*history.get(domain, []), share],
                "score": lags[domain],
            }
            for domain, share in shares.items()
        ]
        context.metrics.update(shown(self._table(rows)))
        types: dict[str, Any] = {"id": Value("string"), self.by: Value("string")}
        types |= {n: List(Value("float64")) if t == "list" else Value(t) for n, t in TYPES.items()}
        return RowsOutput(rows, Features(types))

    def _lag(self, row: Row) -> float:
        lag = score_of(row["id"], row[self.score], self.score, self.rows)
        if lag is None:
            raise DataError(f"row {row['id']} of '{self.rows}' has no finite {self.score}")
        return lag

    def _table(self, rows: list[Row]) -> FigureTable:
        """Shares by domain over the rounds."""
        figures = tuple(
            Figure({"round": str(number), "domain": row["id"]}, share, kind="share")
            for number in range(1, rows[0]["round"] + 1)
            for row in rows
            for share in row["weights"][number - 1 : number]
        )
        drawn = tuple(row["id"] for row in rows)
        return FigureTable("mixture by round", figures, across="domain", over="round", drawn=drawn)
