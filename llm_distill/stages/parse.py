"""Read columns out of what a model wrote.

in:  {"id": "a-0", "completion": "3 + 4 = 7. <ans>7</ans>"}
out: {"id": "a-0", "completion": "3 + 4 = 7. <ans>7</ans>", "answer": "7",
      "rationale": "3 + 4 = 7. <ans>7</ans>", "error": None}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from llm_distill.methods.parsed_rows import ParseSettings
from llm_distill.rows.columns import features
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage


class Parse(ParseSettings, Stage):
    """Reads tags, a regular expression or JSON out of a text column into columns.

    With `each`, every block of the text becomes a row of its own, with the id `<parent>-<k>`, and
    values and `keep_text_as` are taken from the block. A row that cannot be read is counted, not an
    error; an empty value counts as not found.
    """

    rows_may_be_empty = True
    version: ClassVar[int] = 2

    stage: Literal["parse"]
    rows: Rows = Field(description="the stage whose rows are read")
    column: str = Field("completion", description="the text to read")

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id", self.column, *self.dropped_columns()}}

    def read_as_text(self) -> dict[str, set[str]]:
        return {self.rows: {self.column}}

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        columns = inputs[self.rows]
        return None if columns is None else (columns | {*self.new_columns()}) - {*self.drop_columns}

    def run(self, context: Context) -> RowsOutput:
        kept = features(self.new_columns(), like=context.rows(self.rows).features)
        for name in self.drop_columns:
            kept.pop(name, None)
        return RowsOutput(self.read_rows(self.each_row(context), self.column, context.drop), kept)
