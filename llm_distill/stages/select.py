"""Keep n rows: the first, random ones, or those with the highest or lowest score.

in:  {"id": "a", "score": 0.2}, {"id": "b", "score": 0.9}
out: {"id": "b", "score": 0.9}
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llm_distill.errors import DataError, few, nearest
from llm_distill.hints import hint
from llm_distill.methods.seeds import derive_seed
from llm_distill.rows.columns import score_of
from llm_distill.stage import Context, Rows, RowsOutput, Stage, Values, later_setting

MOST_NAMED = 5
Count = Annotated[int, Field(ge=1)]


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
    n: Count | dict[str, Count] = Field(
        description="how many rows to keep; with `per` also for each value, and no others"
    )
    per: str | None = Field(None, description="a column; n rows for each of its values")
    order: Literal["first", "random", "highest", "lowest"] = Field(
        "first", description="which rows to keep"
    )
    by: str = Field("score", description="with `highest` and `lowest`: the column to rank by")
    at_least: float | dict[str, float] | None = later_setting(
        None,
        "rows whose `by` is lower, or null, are dropped first, whatever the order; with `per` also "
        "for each value",
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

    @model_validator(mode="after")
    def _values_of_a_column(self) -> Self:
        for setting in ("n", "at_least"):
            given = getattr(self, setting)
            if isinstance(given, dict) and self.per is None:
                raise ValueError(f"{setting}: values of which column? set per, such as per: label")
            if given == {}:
                raise ValueError(f"{setting}: name at least one value of '{self.per}'")
        return self

    def misfits(self, inputs: Mapping[str, Values]) -> Iterator[tuple[str, str]]:
        there = inputs.get(self.rows, {}).get(self.per or "")
        for setting in ("n", "at_least") if there is not None else ():
            given = getattr(self, setting)
            for value in given if isinstance(given, dict) else ():
                if value not in (there or ()):
                    message = f"no row of '{self.rows}' can have {self.per} '{value}'; "
                    yield f"{setting}.{value}", message + nearest(value, there or ())

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        there = rows[self.rows]
        if self.per is not None and isinstance(self.n, int):
            return there
        return self._whole if there is None else min(self._whole, there)

    def fewest_rows(self) -> list[tuple[str, str, int]]:
        return [("n", self.rows, self._whole)] if self.strict else []

    @property
    def _whole(self) -> int:
        """How many rows are wanted, of one value where all have the same n."""
        return self.n if isinstance(self.n, int) else sum(self.n.values())

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
            named = there if isinstance(self.n, int) else ()  # else it is one of too few
            self._warn_of_emptied([value for value in named if value not in groups], context)
            self._warn_of_unknown(there, context)
        ranks = self._ranks(rows, context.seed)
        wanted = self._wanted(groups)
        kept: list[int] = []
        for value, n in wanted.items():
            indices = groups.get(value, [])
            if len(indices) < n:
                self._too_few(value, len(indices), n, context)
            kept.extend(sorted(indices, key=ranks.__getitem__)[:n])
        self._check_share(len(kept), sum(wanted.values()))
        unnamed = sum(len(of) for value, of in groups.items() if value not in wanted)
        context.drop(f"{self.per} without an n", unnamed)
        context.drop("not selected", len(whole) - len(kept) - unnamed)
        return RowsOutput(rows.select(sorted(kept)), rows.features)

    def _wanted(self, groups: Mapping[str, Any]) -> dict[str, int]:
        """Of each group, how many rows."""
        if isinstance(self.n, int):
            return dict.fromkeys(groups or [""], self.n)
        return self.n

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
        if not isinstance(self.at_least, dict):
            high = [index for index in left if (scores[index] or 0.0) >= self.at_least]
            context.drop(f"{self.by} below {self.at_least:g}", len(left) - len(high))
            return high
        least = [self.at_least.get(str(value), float("-inf")) for value in rows[self.per]]
        high = [index for index in left if (scores[index] or 0.0) >= least[index]]
        context.drop(f"{self.by} below that of its {self.per}", len(left) - len(high))
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
        named = few([f"'{value}'" for value in values], MOST_NAMED)
        message = f"no row is left with {self.per} {named}, of which there were some"
        if self.strict:
            raise DataError(f"{message}; drop fewer, or make more rows upstream")
        context.warn(message)

    def _warn_of_unknown(self, there: Iterable[str], context: Context) -> None:
        """Thresholds of values that are not there: a slip leaves what was meant without one."""
        given = self.at_least if isinstance(self.at_least, dict) else {}
        for value in sorted(given.keys() - {*there}):
            context.warn(f"at_least: no row has {self.per} '{value}'; {nearest(value, there)}")

    def _check_share(self, found: int, wanted: int) -> None:
        if 0 < found < self.min_share * wanted:
            raise DataError(
                f"only {found} of the {wanted} rows that are wanted are there. Mend what stages "
                "before this one drop, lower n, or set min_share: 0 to go on with so few. What "
                f"they have dropped: {hint('status')}"
            )

    def _too_few(self, value: str, count: int, n: int, context: Context) -> None:
        where = f" with {self.per} '{value}'" if self.per else ""
        if self.per and value == str(None):
            where = f" without a {self.per} (drop_where_null: [{self.per}] leaves them out)"
        message = f"{count} rows{where}, but {n} are wanted"
        if self.strict:
            raise DataError(f"{message}; lower n, or make more rows upstream")
        context.warn(message)
