"""Keep n rows: the first, random ones, or those with the highest or lowest score.

in:  {"id": "a", "score": 0.2}, {"id": "b", "score": 0.9}
out: {"id": "b", "score": 0.9}
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from llm_distill.errors import DataError
from llm_distill.hints import hint
from llm_distill.methods.seeds import derive_seed
from llm_distill.rows.columns import score_of
from llm_distill.stage import Context, Rows, RowsOutput, Stage, later_setting

MOST_NAMED = 5


class Select(Stage):
    """Keeps n rows in total, or n for each value of a column, in their order.

    Rows with a null in one of `drop_where_null` are dropped first; with `highest` and `lowest`, so
    are those without a score (null, NaN), and with `at_least` those with a lower one. Of equal
    scores, which may be of any unit and sign, a random row wins. Too few rows are a warning, or an
    error if `strict`.
    """

    rows_may_be_empty = True
    version: ClassVar[int] = 2
    stage: Literal["select"]
    rows: Rows = Field(description="the stage whose rows are read")
    n: int = Field(ge=1, description="how many rows to keep")
    per: str | None = Field(None, description="a column; n rows for each of its values")
    order: Literal["first", "random", "highest", "lowest"] = Field(
        "first", description="which rows to keep"
    )
    by: str = Field("score", description="with `highest` and `lowest`: the column to rank by")
    at_least: float | None = later_setting(
        None, "rows whose `by` is lower, or null, are dropped first, whatever the order"
    )
    strict: bool = Field(False, description="fewer than n rows is an error, not a warning")
    min_share: float = later_setting(
        0.1,
        "a run stops where fewer than this share of the rows that are wanted is there (but some): "
        "what is trained on them shows nothing; 0: never",
        ge=0,
        le=1,
    )
    drop_where_null: tuple[str, ...] = Field(
        (), description="columns that must not be null in a kept row"
    )

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        there = rows[self.rows]
        if self.per is not None:
            return there
        return self.n if there is None else min(self.n, there)

    def fewest_rows(self) -> list[tuple[str, str, int]]:
        return [("n", self.rows, self.n)] if self.strict else []

    def required_columns(self) -> dict[str, set[str]]:
        ranked = {self.by} if self._reads_scores else set()
        grouped = {self.per} if self.per else set()
        return {self.rows: {"id", *ranked, *grouped, *self.drop_where_null}}

    @property
    def _reads_scores(self) -> bool:
        return self.order in ("highest", "lowest") or self.at_least is not None

    def is_seeded(self) -> bool:
        return self.order != "first"

    def run(self, context: Context) -> RowsOutput:
        rows = context.rows(self.rows)
        whole = self._without_nulls(rows, context)
        groups: dict[str, list[int]] = defaultdict(list)
        values = list(rows[self.per]) if self.per else None
        for index in whole:
            # A list, such as skills, groups by all its items.
            groups["" if values is None else str(values[index])].append(index)
        if values is not None and groups:
            there = dict.fromkeys(str(value) for value in values if value is not None)
            self._warn_of_emptied([value for value in there if value not in groups], context)
        ranks = self._ranks(rows, context.seed)
        kept: list[int] = []
        for value, indices in groups.items() if groups else [("", [])]:
            if len(indices) < self.n:
                self._too_few(value, len(indices), context)
            kept.extend(sorted(indices, key=ranks.__getitem__)[: self.n])
        self._check_share(len(kept), self.n * max(1, len(groups)))
        context.drop("not selected", len(whole) - len(kept))
        return RowsOutput(rows.select(sorted(kept)), rows.features)

    def _without_nulls(self, rows: Any, context: Context) -> list[int]:
        """Places of the rows with every column that they need; ranked ones need a score."""
        left = list(range(len(rows)))
        ranked = (self.by,) if self._reads_scores else ()
        for column in dict.fromkeys((*self.drop_where_null, *ranked)):
            values = self._scores(rows) if column in ranked else list(rows[column])
            whole = [index for index in left if values[index] is not None]
            context.drop(f"no {column}", len(left) - len(whole))
            left = whole
        if self.at_least is None:
            return left
        scores = self._scores(rows)
        high = [index for index in left if (scores[index] or 0.0) >= self.at_least]
        context.drop(f"{self.by} below {self.at_least:g}", len(left) - len(high))
        return high

    def _scores(self, rows: Any) -> list[float | None]:
        pairs = zip(rows["id"], rows[self.by], strict=True)
        return [score_of(identity, value, self.by, self.rows) for identity, value in pairs]

    def _ranks(self, rows: Any, seed: int) -> list[tuple[float, int]]:
        """Each row's rank: the lowest in a group are kept."""
        if self.order == "first":
            return [(0.0, index) for index in range(len(rows))]
        # By id, not by position: the same rows are drawn in any order.
        drawn = [derive_seed(seed, identity) for identity in rows["id"]]
        if self.order == "random":
            return [(0.0, number) for number in drawn]
        # Of equals not the first: candidates are often ordered by strategy.
        sign = -1.0 if self.order == "highest" else 1.0
        scores = [sign * (score or 0.0) for score in self._scores(rows)]  # null is never chosen
        return list(zip(scores, drawn, strict=True))

    def _warn_of_emptied(self, values: list[str], context: Context) -> None:
        if not values:
            return
        named = ", ".join(f"'{value}'" for value in values[:MOST_NAMED])
        more = f" and {len(values) - MOST_NAMED} others" if len(values) > MOST_NAMED else ""
        message = f"no row is left with {self.per} {named}{more}, of which there were some"
        if self.strict:
            raise DataError(f"{message}; drop fewer, or make more rows upstream")
        context.warn(message)

    def _check_share(self, found: int, wanted: int) -> None:
        if 0 < found < self.min_share * wanted:
            raise DataError(
                f"only {found} of the {wanted} rows that are wanted are there. Mend what stages "
                "before this one drop, lower n, or set min_share: 0 to go on with so few. What "
                f"they have dropped: {hint('status')}"
            )

    def _too_few(self, value: str, count: int, context: Context) -> None:
        where = f" with {self.per} '{value}'" if self.per else ""
        message = f"{count} rows{where}, but {self.n} are wanted"
        if self.strict:
            raise DataError(f"{message}; lower n, or make more rows upstream")
        context.warn(message)
