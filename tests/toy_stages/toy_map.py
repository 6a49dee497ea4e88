"""Adds an answer to each row: `{"id", "question"}` becomes `{"id", "question", "answer"}`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage, execution_setting


class ToyMap(Stage):
    """Upper-cases a column into the answer; drops every second row if asked to."""

    stage: Literal["toy_map"]
    rows: Rows
    also: tuple[Rows, ...] = ()
    column: str = "question"
    drop_odd: bool = False
    may_be_without_rows: bool = False
    template: str | None = None
    variables: dict[str, Any] = {}
    trace: str | None = execution_setting(None, "file that gets a line when the stage runs")

    def may_be_empty(self) -> set[str]:
        return {self.rows} if self.may_be_without_rows else set()

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {self.column}}

    def output_columns(self, inputs: Any) -> Columns:
        columns = inputs[self.rows]
        return None if columns is None else frozenset({*columns, "answer"})

    def template_variables(self, inputs: Any) -> dict[str, Columns]:
        if self.template is None:
            return {}
        columns = inputs[self.rows]
        return {self.template: None if columns is None else frozenset({*columns, *self.variables})}

    def run(self, context: Context) -> RowsOutput:
        from llm_distill.rows.columns import features

        rows = context.rows(self.rows)
        if self.trace:
            with Path(self.trace).open("a") as file:
                file.write("toy_map\n")

        def answered() -> Any:
            for index, row in enumerate(rows):
                if self.drop_odd and index % 2:
                    context.drop("odd")
                else:
                    yield {**row, "answer": row[self.column].upper()}

        return RowsOutput(answered(), features(["answer"], like=rows.features))
