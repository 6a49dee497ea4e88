"""n rows out of nothing, each after a pause: `{"id": "row-0", "value": 0}`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from llm_distill.stage import Columns, Context, RowsOutput, Stage, execution_setting


class ToyRows(Stage):
    """Gives n rows, and appends a line to `trace` for each execution."""

    stage: Literal["toy_rows"]
    n: int = Field(3, ge=0)
    mode: Literal["plain", "odd"] = "plain"
    pause: float = execution_setting(0.0, "seconds before each row")
    trace: str | None = execution_setting(None, "file that gets a line when the stage runs")
    error: Literal["disk_full", "interrupt", "crash"] | None = execution_setting(None, "what fails")

    def output_columns(self, inputs: Any) -> Columns:
        return None if self.mode == "odd" else frozenset({"id", "question"})

    def is_seeded(self) -> bool:
        return self.mode == "odd"

    def run(self, context: Context) -> RowsOutput:
        from llm_distill.rows.columns import features

        if self.trace:
            with Path(self.trace).open("a") as file:
                file.write(f"toy_rows {os.getpid()}\n")
        return RowsOutput(self._rows(context), features(["id", "question"]))

    def _rows(self, context: Context) -> Iterator[dict[str, Any]]:
        for index in range(self.n):
            time.sleep(self.pause)
            if self.error == "disk_full":
                raise OSError(28, "No space left on device")
            if self.error == "interrupt":
                raise KeyboardInterrupt
            if self.error == "crash":
                raise RuntimeError("a bug")
            yield {"id": f"row-{index}", "question": f"question {index}"}
