"""Put the rows of several stages together, all of them or in proportions.

in:  {"id": "a", "question": "…", "domain": "sums"} of `old`, {"id": "a", "question": "…"} of `new`
out: {"id": "a-5d41402a", "question": "…", "domain": "sums", "source": "old", "round": 1},
     {"id": "a-7c9e11b3", "question": "…", "domain": null, "source": "new", "round": 2}
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from llm_distill.errors import DataError, counted, nearest
from llm_distill.evaluation.results import Figure, FigureTable, shown
from llm_distill.methods.mixture import (
    content_digest,
    copy_ids,
    distinct_ids,
    first_of_each,
    part_counts,
    times_drawn,
)
from llm_distill.rows.columns import Row, features
from llm_distill.rows.union import union
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage

SOURCE = "source"
"""The column that says which stage a row comes from; also where parts are told apart by default."""
ROUND = "round"
"""Which round of a `repeat` made a row, where rows of rounds are mixed."""
NOT_CONTENT = ("id", SOURCE, ROUND)
COPIES_AT_ONCE = 1000
"""Of rows that come again, how many are in memory."""
MOST_DRAWN = 10**9
"""More is taken for a typing mistake."""
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Weights = Annotated[dict[str, Weight], Field(min_length=1)]
Count = Annotated[int, Field(ge=0, le=MOST_DRAWN)]


@dataclass(frozen=True)
class _There:
    """A row: its new id, the stage that it comes from, its part, and whether it can be taken.

    It cannot where the same row is there already, and is not drawn without a part.
    """

    id: str
    source: str
    part: str | None
    is_kept: bool


class Mix(Stage):
    """The rows of several stages one after the other, or `n` of them drawn part by part.

    A row gets the name of its stage as `source`, without a round, and null in columns that only
    others have; where stages of a `repeat` are among them, also the number of its round as `round`,
    which a row keeps from mixture to mixture. Parts are the sources, or the values of the column
    `by`. With `weights` or `weights_from` each part has its share of `n` rows (largest remainder),
    with `weights: equal` as many as any other, with `counts` its own number, with `n` alone its
    share of all rows. A part with too few rows starts again: the copies are called `id-copy-2` and
    so on.

    Which rows are drawn depends on their ids and the seed, not on their order. The same row twice
    (id and content) is one row, of the source whose name comes first; only where sources have
    shares of their own is it a row of each. Different rows with one id all get the beginning of
    their content's digest behind it; any other id stays.
    """

    rows_may_be_empty = True
    stage: Literal["mix"]
    rows: list[Rows] = Field(min_length=1, description="the stages whose rows are put together")
    n: int | None = Field(
        None, ge=1, le=MOST_DRAWN, description="how many rows to draw; null: all of them, once"
    )
    weights: Weights | Literal["equal"] | None = Field(
        None,
        description="part: its weight among the n rows; 0 leaves it out. equal: as many of each",
    )
    weights_from: Rows | None = Field(
        None,
        description="instead: a stage with a row for each part, whose `weight` it is; the part is "
        "its column `by` if it has one, else its id",
    )
    counts: dict[str, Count] | None = Field(
        None, min_length=1, description="instead of n: part: how many of its rows"
    )
    by: str = Field(SOURCE, min_length=1, description="the column whose values are the parts")
    repeat: bool = Field(
        True, description="a part with too few rows starts again; false: it stops the run"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(set(self.rows)) < len(self.rows):
            raise ValueError("rows: each stage can be named once; to have more of one give weights")
        given = [s for s in ("weights", "weights_from", "counts") if getattr(self, s) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)}: give one of them")
        if self.counts is not None and self.n is not None:
            raise ValueError("n: counts say how many rows there are; leave one of them out")
        if given and self.counts is None and self.n is None:
            raise ValueError(f"{given[0]}: say how many rows to draw (n), or give counts")
        idle = [name for name in ("by", "repeat") if name in self.model_fields_set]
        if idle and not self._draws:
            raise ValueError(
                f"{' and '.join(idle)}: all rows are taken, so there are no parts to draw; give n, "
                "weights or counts"
            )
        for name in ("weights", "counts"):
            wanted = getattr(self, name)
            if wanted is None or wanted == "equal":
                continue
            if not any(wanted.values()):
                raise ValueError(f"{name}: all are 0, so there is nothing to draw")
            if self.by == SOURCE:
                self._check_parts(wanted, {_source(each) for each in self.rows}, name)
        return self

    def _check_parts(self, wanted: Mapping[str, float], parts: set[str], name: str) -> None:
        """Raises ValueError: a part is not there, or has none of the weights."""
        for part in wanted:
            if part not in parts:
                raise ValueError(f"{name}: no part '{part}' ({self.by}); {nearest(part, parts)}")
        if missing := sorted(parts.difference(wanted)):
            named = ", ".join(f"'{part}'" for part in missing)
            if self.weights_from is not None:
                raise ValueError(
                    f"weights_from: '{self.weights_from}' has no row for {named} ({self.by}), of "
                    "which there are rows to draw; give what it is made from something of every "
                    f"{self.by}, such as validation texts, or leave out rows of {named} before"
                )
            raise ValueError(
                f"{name} ({self.by}) do not name {named}; write '{missing[0]}: 0' to leave it out"
            )

    @property
    def _given(self) -> str | None:
        """The setting that says how much of each part is wanted; None: none does."""
        settings = ("weights", "weights_from", "counts")
        return next((name for name in settings if getattr(self, name) is not None), None)

    @property
    def _draws(self) -> bool:
        return self.n is not None or self.counts is not None

    def is_seeded(self) -> bool:
        return self._draws

    def may_be_empty(self) -> list[str]:
        return self.rows  # a first round may have found nothing

    def required_columns(self) -> dict[str, set[str]]:
        by = {self.by} if self._draws and self.by != SOURCE else set()
        needed: dict[str, set[str]] = {name: {"id", *by} for name in self.rows}
        if self.weights_from is not None:
            needed.setdefault(self.weights_from, set()).update({"id", "weight"})
        return needed

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        found = set(self._told)
        for name in self.rows:
            columns = inputs[name]
            if columns is None:
                return None
            found |= columns
        return frozenset(found)

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        if self.counts is not None:
            return sum(self.counts.values())
        there = [rows[name] for name in self.rows]
        return self.n or (None if None in there else sum(filter(None, there)))

    def run(self, context: Context) -> RowsOutput:
        types = union({name: context.rows(name).features for name in self.rows}, but=self._told)
        columns = features(self._told, like=types)
        there = self._read(context)
        if self._draws:
            context.drop(f"no {self.by}", sum(row.part is None for row in there if row.is_kept))
        counts = self._counts(context, there)
        if counts is None:
            times = [int(row.is_kept) for row in there]
        else:
            parts = [row.part if row.is_kept else None for row in there]
            times = times_drawn([row.id for row in there], parts, counts, context.seed)
            missed = (part and not n for part, n in zip(parts, times, strict=True))
            context.drop("not drawn", sum(map(bool, missed)))
        self._show(context, there, times)
        return RowsOutput(self._rows(context, self._called(there, times), list(columns)), columns)

    @property
    def _told(self) -> tuple[str, ...]:
        """The columns that say where a row comes from."""
        return (SOURCE, ROUND) if any(map(_round, self.rows)) else (SOURCE,)

    def _each(self, context: Context) -> Iterator[Row]:
        for name in self.rows:
            for row in context.each_row(name):
                yield self._told_of(row, name)

    def _told_of(self, row: Row, name: str) -> Row:
        """The row of the stage `name`, with where it comes from.

        Raises:
            DataError: it has a round that is no number.
        """
        told: Row = {SOURCE: _source(name)}
        if ROUND in self._told:
            told[ROUND] = _round(name) if row.get(ROUND) is None else row[ROUND]
            if not isinstance(told[ROUND], int | None):
                raise DataError(
                    f"row {row['id']} of '{name}': '{ROUND}' is {told[ROUND]!r}, and a "
                    "mixture of rounds keeps their numbers there; give the column another "
                    "name (columns of load_dataset)"
                )
        return {**row, **told}

    def _read(self, context: Context) -> list[_There]:
        """Of each row what the draw needs to know."""
        seen, parts, sources = [], [], []
        with context.progress(self.stage, sum(len(context.rows(r)) for r in self.rows)) as bar:
            for row in self._each(context):
                seen.append((row["id"], content_digest(row, NOT_CONTENT)))
                parts.append(self._part(row))
                sources.append(row[SOURCE])
                bar.advance()
        ids = distinct_ids(seen)
        # A source with a share of its own has its rows, even if another has them as well.
        keys = list(zip(ids, parts, strict=True)) if self._given else ids
        kept = first_of_each(keys, sources)
        renamed = (k and i != was for k, i, (was, _) in zip(kept, ids, seen, strict=True))
        context.metrics["renamed"] = sum(renamed)
        context.drop("the same row twice", kept.count(False))
        return [_There(*row) for row in zip(ids, sources, parts, kept, strict=True)]

    def _called(self, there: list[_There], times: list[int]) -> list[list[str]]:
        """The ids under which each row is given, whatever the order of `rows`."""
        order = sorted(range(len(there)), key=lambda index: there[index].source)
        names = copy_ids([there[index].id for index in order], [times[index] for index in order])
        by_place = dict(zip(order, names, strict=True))
        return [by_place[index] for index in range(len(there))]

    def _part(self, row: Row) -> str | None:
        value = row.get(self.by) if self._draws else row[SOURCE]
        if isinstance(value, (list, dict)):
            raise DataError(
                f"row {row['id']} of '{row[SOURCE]}': '{self.by}' holds several values, and a part "
                "needs one; name a column with a single value (by)"
            )
        return None if value is None else str(value)

    def _counts(self, context: Context, rows: list[_There]) -> dict[str, int] | None:
        """How many rows of each part; None: all that there are."""
        there = Counter(row.part for row in rows if row.is_kept and row.part is not None)
        if not self._draws:
            return None
        if rows and not there:
            raise DataError(
                f"no row of {', '.join(map(repr, self.rows))} has a {self.by} (by), so there is no "
                "part to draw from; name a column that says which part a row is of"
            )
        if not there and (self._given is None or self.weights == "equal"):
            return None
        wanted: Mapping[str, float] = there
        if self._given is not None:
            wanted = self._wanted(context, there)
            if self.weights != "equal":
                self._check_known(wanted, set(there))
        try:
            counts = self.counts or part_counts(wanted, self.n or 0)
        except ValueError as error:
            raise DataError(f"{self._given}: {error}") from error
        for part, count in counts.items():
            self._check_enough(context, part, there[part], count)
        return dict(counts)

    def _check_known(self, wanted: Mapping[str, float], there: set[str]) -> None:
        assert self._given is not None
        known = there | ({_source(r) for r in self.rows} if self.by == SOURCE else set())
        try:
            self._check_parts(wanted, known, self._given)
        except ValueError as error:
            raise DataError(str(error)) from error

    def _wanted(self, context: Context, there: Collection[str]) -> Mapping[str, float]:
        """What was given for each part."""
        if self.weights_from is not None:
            return self._from_rows(context, self.weights_from)
        if self.weights == "equal":
            return dict.fromkeys(there, 1)
        return self.weights or self.counts or {}

    def _from_rows(self, context: Context, weights_from: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for row in context.each_row(weights_from):
            own = row.get(self.by)
            part = str(row["id"] if own is None else own)
            where = f"row {row['id']} of '{weights_from}'"
            if part in found:
                raise DataError(f"{where}: the part '{part}' has a weight already; give it one row")
            if isinstance(row["weight"], bool) or not isinstance(row["weight"], (int, float)):
                raise DataError(f"{where}: weight is {row['weight']!r}; a weight is a number")
            found[part] = row["weight"]
        return found

    def _check_enough(self, context: Context, part: str, there: int, count: int) -> None:
        if count <= there:
            return
        has = f"the part '{part}' ({self.by}) has {counted(there, 'row')}, and {count:,} are wanted"
        if not there:
            raise DataError(f"{has}; see what was dropped before, or give it 0")
        if not self.repeat:
            raise DataError(f"{has} (repeat: false); lower what is wanted, or make more rows")
        context.warn(f"{has}: it starts again, and a row comes up to {-(-count // there)} times")

    def _show(self, context: Context, rows: list[_There], times: list[int]) -> None:
        there: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for row, often in zip(rows, times, strict=True):
            if row.is_kept and row.part is not None:
                there[row.part][0] += 1
                there[row.part][1] += often
        total = sum(times) or 1
        figures = [
            figure
            for part, (n, taken) in sorted(there.items())
            for figure in (
                Figure({self.by: part, "of": "rows"}, n),
                Figure({self.by: part, "of": "taken"}, taken),
                Figure({self.by: part, "of": "share"}, taken / total, kind="share"),
            )
        ]
        if figures:
            context.metrics.update(shown(FigureTable("mixture", tuple(figures), across="of")))

    def _rows(self, context: Context, names: list[list[str]], columns: list[str]) -> Iterator[Row]:
        """Each row once, then all that come twice again, so that copies are not neighbours."""
        for called, row in zip(names, self._each(context), strict=True):
            if called:
                yield {name: row.get(name) for name in columns} | {"id": called[0]}
        for again in range(1, max(map(len, names), default=0)):
            for called, row in self._again(context, names, again):
                yield {name: row.get(name) for name in columns} | {"id": called[again]}

    def _again(
        self, context: Context, names: list[list[str]], again: int
    ) -> Iterator[tuple[list[str], Row]]:
        """The rows that have a copy of this number, which alone are read; with their names."""
        start = 0
        for name in self.rows:
            rows = context.rows(name)
            own, start = names[start : start + len(rows)], start + len(rows)
            places = [place for place, called in enumerate(own) if len(called) > again]
            for first in range(0, len(places), COPIES_AT_ONCE):
                few = places[first : first + COPIES_AT_ONCE]
                read = rows[few]
                for index, place in enumerate(few):
                    row = {column: values[index] for column, values in read.items()}
                    yield own[place], self._told_of(row, name)


def _source(name: str) -> str:
    """A stage's name without its round."""
    return name.partition("@")[0]


def _round(name: str) -> int | None:
    number = name.partition("@")[2]
    return int(number) if number.isdecimal() else None
