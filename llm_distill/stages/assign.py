"""Give each row one of several texts, such as a system message, drawn by weight.

in:  {"id": "q1", "question": "3 + 4?"}
out: {"id": "q1", "question": "3 + 4?", "system_message": "Think step by step.", "variant": "steps"}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from llm_distill.errors import DataError
from llm_distill.evaluation.results import shown
from llm_distill.evaluation.shares import share_table
from llm_distill.methods.assignment import assigned
from llm_distill.rows.columns import COLUMNS, Row, features
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage

VARIANT = "variant"


class Condition(BaseModel):
    """For which rows a variant is: those with something in a column, or those with nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    present: str | None = Field(
        None, min_length=1, description="a column that must not be null, blank or an empty list"
    )
    absent: str | None = Field(None, min_length=1, description="a column that must be so")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.present is None) == (self.absent is None):
            raise ValueError("give one of present and absent")
        return self

    @property
    def column(self) -> str:
        return self.present or self.absent or ""

    def holds(self, row: Mapping[str, Any]) -> bool:
        value = row[self.column]
        is_there = bool(value.strip()) if isinstance(value, str) else value not in (None, [])
        return is_there == (self.present is not None)


class Variant(BaseModel):
    """A text with its weight."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = Field(description="what the column gets; an empty text is one too")
    weight: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="its chance, relative to the others"
    )
    when: Condition | None = Field(
        None, description="only for rows such as {present: choices}, or {absent: choices}"
    )


class Assign(Stage):
    """Writes one of the variants' texts into a column, and its name into `variant`.

    As Orca (arXiv 2306.02707) gives each query one of 16 system messages, one of them empty and two
    for multiple choice only. A row's variant depends on its id and the seed, not on other rows:
    rows can be added and turned round. Among the variants whose `when` holds for a row the chances
    are as their weights. Rows for which none does are dropped and counted.
    """

    always_seeded: ClassVar[bool] = True
    rows_may_be_empty = True
    stage: Literal["assign"]
    rows: Rows = Field(description="the stage whose rows get a text")
    column: str = Field("system_message", min_length=1, description="the column with the text")
    variants: dict[str, Variant] = Field(min_length=1, description="the texts by name")

    @field_validator("column")
    @classmethod
    def _not_taken(cls, value: str) -> str:
        if value in ("id", VARIANT):
            raise ValueError(f"'{value}' holds something else; choose another column")
        kind = COLUMNS.get(value, ("string",))[0]
        if kind != "string":
            raise ValueError(
                f"'{value}' holds {kind}, and a variant is text; choose another column"
            )
        return value

    def required_columns(self) -> dict[str, set[str]]:
        asked = {each.when.column for each in self.variants.values() if each.when is not None}
        return {self.rows: {"id", *asked}}

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        columns = inputs[self.rows]
        return None if columns is None else columns.union((self.column, VARIANT))

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        return rows[self.rows]

    def run(self, context: Context) -> RowsOutput:
        like = context.rows(self.rows).features
        return RowsOutput(self._rows(context), features((self.column, VARIANT), like=like))

    def _rows(self, context: Context) -> Iterator[Row]:
        counts = Counter(dict.fromkeys(self.variants, 0))
        for row in context.each_row(self.rows):
            fitting = {
                name: each.weight
                for name, each in self.variants.items()
                if each.when is None or each.when.holds(row)
            }
            if not fitting:
                context.drop("no variant fits")
                continue
            name = assigned(fitting, context.seed, self.column, row["id"])
            counts[name] += 1
            yield {**row, self.column: self.variants[name].text, VARIANT: name}
        self._tell(context, counts)

    def _tell(self, context: Context, counts: Counter[str]) -> None:
        n = counts.total()
        if not n:
            if len(context.rows(self.rows)):
                raise DataError(
                    f"no row of '{self.rows}' fits a variant: each has a `when`; leave it out for "
                    "one of them"
                )
            return
        never = [name for name, count in counts.items() if not count]
        if never:
            context.warn(f"no row has the variant {', '.join(never)}")
        table = share_table(f"variants of {self.column}", VARIANT, counts, counts, n)
        context.metrics.update(shown(table))
