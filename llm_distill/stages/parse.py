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
from llm_distill.rows.columns import features, note_seed, renamed
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage


class Parse(ParseSettings, Stage):
    """Reads tags, a regular expression or JSON out of a text column into columns.

    With `each`, every block of the text becomes a row of its own, with the id `<parent>-<k>`, and
    values and `keep_text_as` are taken from the block. A row that cannot be read is counted, not an
    error; an empty value counts as not found. If a row gets another `question`, what was said about
    the one before (its answer, skills, …) goes on as `seed_question`, `seed_reference_answer` and
    so on.
    """

    rows_may_be_empty = True
    reads_conversations = True
    version: ClassVar[int] = 3

    stage: Literal["parse"]
    rows: Rows = Field(description="the stage whose rows are read")
    column: str = Field("completion", description="the text to read")

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id", self.column, *self.dropped_columns()}}

    def read_as_text(self) -> dict[str, set[str]]:
        return {self.rows: {self.column}}

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        columns = inputs[self.rows]
        if columns is None:
            return None
        kept = renamed(dict.fromkeys(columns), self.of_seed(columns, self.column))
        return frozenset({*kept, *self.new_columns()} - {*self.drop_columns})

    def run(self, context: Context) -> RowsOutput:
        given = context.rows(self.rows).features
        names = self.of_seed(given, self.column)
        note_seed(names)
        kept = features(self.new_columns(), like=renamed(given, names))
        for name in self.drop_columns:
            kept.pop(name, None)
        rows = (renamed(row, names) for row in self.each_row(context))
        return RowsOutput(self.read_rows(rows, self.column, context.drop), kept)
