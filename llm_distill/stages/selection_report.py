"""What does a choice of rows prefer? Each value's share of the chosen, beside that of the pool.

in:  chosen {"id": "a", "skills": ["subtraction"]} and the pool it was chosen from,
     {"id": "a", "skills": ["subtraction"]}, {"id": "b", "skills": ["addition"]}, …
out: {"id": "round 1, skills, subtraction", "round": 1, "column": "skills", "value": "subtraction",
      "n_pool": 18, "n_chosen": 9, "share_of_pool": 0.11, "precision": 0.56, "precision_low": 0.33,
      "precision_high": 0.77, "recall": 0.5, "p_value": 0.00001, "is_preferred": true}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from llm_distill.errors import DataError
from llm_distill.evaluation.results import Figure, FigureTable, shown
from llm_distill.methods.composition import Preference, preferences
from llm_distill.rows.columns import Row, round_after
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage

COLUMNS = {
    **{"id": "string", "round": "int64", "column": "string", "value": "string"},
    **{"n_pool": "int64", "n_chosen": "int64"},
    **dict.fromkeys(("share_of_pool", "precision", "precision_low", "precision_high"), "float64"),
    **{"recall": "float64", "p_value": "float64", "is_preferred": "bool"},
}
IDS = ("id", "source_id", "parent_id")


class SelectionReport(Stage):
    """Which values of columns a choice has more often than a random one would.

    One row a value: its share of the chosen (`precision`, with Wilson's interval) and of the pool,
    and how much of what the pool has was chosen (`recall`). `is_preferred`: as many random rows
    would have it so often in fewer than 5 of 100 choices, over all values of the column together
    (one-sided exact test, Bonferroni). What is chosen is found in the pool by its `id`,
    `source_id` or `parent_id`; a row that was chosen twice counts once. Of a list, such as skills,
    each item is a value.

    In a `repeat`, `before: watched@previous` passes on the rounds before, so that the report draws
    them. Where nothing was chosen there is nothing to compare: the rounds before are passed on.
    """

    stage: Literal["selection_report"]
    rows: Rows = Field(description="the stage whose rows were chosen")
    pool: Rows = Field(description="the stage whose rows they were chosen from")
    by: tuple[str, ...] = Field(
        min_length=1, description="columns of the pool, such as skills or task, each for itself"
    )
    before: Rows | None = Field(
        None,
        description="the report of the round before: its rows are passed on, and this is the next "
        "round",
    )

    def required_columns(self) -> dict[str, set[str]]:
        needed = {self.rows: {"id"}}
        needed.setdefault(self.pool, set()).update({"id", *self.by})
        if self.before is not None:
            needed.setdefault(self.before, set()).update(COLUMNS)
        return needed

    def may_be_empty(self) -> set[str]:
        return {self.rows, *filter(None, [self.before])}

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset(COLUMNS)

    def run(self, context: Context) -> RowsOutput:
        from datasets import Features, Value

        earlier = list(context.each_row(self.before)) if self.before is not None else []
        number = round_after(earlier)
        pool = {row["id"]: row for row in context.each_row(self.pool)}
        chosen = {self._id(row, pool) for row in context.each_row(self.rows)}
        rows, preferred = earlier, []
        for column in self.by if chosen else ():
            found = preferences({i: _values(row[column]) for i, row in pool.items()}, chosen)
            if not found:
                raise DataError(f"no row of '{self.pool}' has a value in '{column}'")
            rows = [*rows, *(_row(number, column, each) for each in found)]
            preferred += [each.value for each in found if each.is_preferred]
        if not chosen:
            context.warn(f"'{self.rows}' has no rows: nothing was chosen")
        tables = [_table(column, rows) for column in self.by]
        context.metrics.update(chosen=len(chosen), preferred=preferred, **shown(*tables))
        types = Features({name: Value(kind) for name, kind in COLUMNS.items()})
        return RowsOutput(rows, types)

    def _id(self, row: Row, pool: Mapping[str, Any]) -> str:
        for name in IDS:
            if row.get(name) in pool:
                return str(row[name])
        raise DataError(
            f"row {row['id']} of '{self.rows}' is not from '{self.pool}': none of {', '.join(IDS)} "
            "is the id of one of its rows; name the stage that it was chosen from"
        )


def _values(value: Any) -> Sequence[str]:
    """The different values that a row has in a column."""
    if value is None:
        return ()
    listed = value if isinstance(value, list) else [value]
    return list(dict.fromkeys(str(item) for item in listed))


def _row(number: int, column: str, found: Preference) -> Row:
    return {
        "id": f"round {number}, {column}, {found.value}",
        "round": number,
        "column": column,
        "value": found.value,
        "n_pool": found.n_pool,
        "n_chosen": found.n_chosen,
        "share_of_pool": found.share_of_pool,
        "precision": found.precision,
        "precision_low": found.low,
        "precision_high": found.high,
        "recall": found.recall,
        "p_value": found.p_value,
        "is_preferred": found.is_preferred,
    }


def _table(column: str, rows: Sequence[Mapping[str, Any]]) -> FigureTable:
    """A line for each round and value of the column."""
    figures: list[Figure] = []
    for row in (row for row in rows if row["column"] == column):
        labels = {"round": str(row["round"]), "value": row["value"]}
        ends = row["precision_low"], row["precision_high"]
        for called, value, (low, high) in (
            ("of the pool", row["share_of_pool"], (None, None)),
            ("of the chosen", row["precision"], ends),
            ("of its rows chosen", row["recall"], (None, None)),
        ):
            named = {**labels, "figure": called}
            figures.append(Figure(named, value, low, high, kind="share"))
    title, drawn = f"chosen by {column}", ("of the chosen",)
    return FigureTable(title, tuple(figures), across="figure", over="round", drawn=drawn)
