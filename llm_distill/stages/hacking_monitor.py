"""Tell from the course of trainings whether students learn their teachers' faults.

in:  {"id": "r1-50", "round": 1, "step": 50, "proxy": 0.21, "golden": 0.46}
out: {"id": "r1-50", "round": 1, "step": 50, "proxy": 0.21, "golden": 0.46, "expected": 0.2,
      "expected_low": 0.17, "expected_high": 0.24, "excess": 0.05, "has_left": false,
      "golden_rises": false, "is_hacking": false}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from llm_distill.errors import DataError
from llm_distill.evaluation.hacking_figures import hacking_tables, points_of, said_of
from llm_distill.evaluation.results import Results, shown
from llm_distill.manifest import read_manifest
from llm_distill.methods.hacking import Judged, Point, judged
from llm_distill.rows.columns import Row, round_after
from llm_distill.stage import Columns, Context, Model, Rows, RowsOutput, Stage, execution_setting

if TYPE_CHECKING:
    from pathlib import Path

MEASURED = ("id", "model", "round", "step", "proxy", "golden")
SAID = (
    "expected",
    "expected_low",
    "expected_high",
    "excess",
    "has_left",
    "golden_rises",
    "is_hacking",
)
TYPES = {
    **dict.fromkeys(("round", "step"), "int64"),
    **dict.fromkeys(("proxy", "golden", *SAID[:4]), "float64"),
    **dict.fromkeys(SAID[4:], "bool"),
}
"""Of columns that are not text. They are the stage's own: others may call anything a step."""


class HackingMonitor(Stage):
    """Finds teacher hacking (arXiv 2502.02671) in curves of proxy and golden over steps.

    Proxy is a student's distance from its teacher, golden that from an oracle; both on prompts that
    are not trained on. With golden, hacking is golden that rises after having fallen, while the
    proxy falls on. Without, all there is is a sign: the proxy stays above the power law (a line in
    log–log) of the first third of its points, for three in a row. A learning rate that falls bends
    that line as well.

    Curves come from trainings of this pipeline (`models`, each a `train_distill` with
    `watch_hacking`), or from rows, such as the log of another trainer; a column `model` tells
    several apart. In a `repeat`, `before: watched@previous` goes on with the curve of the rounds
    before, whose steps are counted on.
    """

    added_columns = SAID
    stage: Literal["hacking_monitor"]
    rows: Rows | None = Field(
        None,
        description="the stage whose rows are measurements: step (of all rounds), proxy, and "
        "golden where it is known",
    )
    models: tuple[Model, ...] = Field(
        (), description="instead: models that were trained with watch_hacking"
    )
    before: Rows | None = Field(
        None, description="with models: this stage in the round before, whose curves go on"
    )
    on_hacking: Literal["warn", "stop"] = execution_setting(
        "warn", "stop: the run stops where it is found"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.rows is None) == (not self.models):
            raise ValueError("set either rows (measurements) or models (trained in this pipeline)")
        if self.before is not None and not self.models:
            raise ValueError("before needs models; rows count their steps over all rounds")
        return self

    def loads(self, place: str) -> bool:
        return False

    def reads_training(self, place: str) -> bool:
        return True

    def asks(self, place: str) -> None:
        return None

    def required_columns(self) -> dict[str, set[str]]:
        if self.rows is not None:
            return {self.rows: {"id", "step", "proxy"}}
        return {} if self.before is None else {self.before: {*MEASURED, *SAID}}

    def remedy(self, column: str) -> str | None:
        return "the log of a training has them, by whatever name" if column != "id" else None

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        if self.rows is None:
            return frozenset((*MEASURED, *SAID))
        return super().output_columns(inputs)

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        return None if self.rows is None else rows.get(self.rows)

    def run(self, context: Context) -> RowsOutput:
        from datasets import Features, Value

        own: Mapping[str, Any] = (
            {name: Value(TYPES.get(name, "string")) for name in MEASURED}
            if self.rows is None
            else context.rows(self.rows).features
        )
        said = {name: Value(TYPES[name]) for name in SAID}
        return RowsOutput(self._rows(context), Features({**own, **said}))

    def _rows(self, context: Context) -> Iterator[Row]:
        curves: dict[str, tuple[list[Point], list[Judged]]] = {}
        found: list[Row] = []
        for name, rows in self._curves(context).items():
            points = [_point(row, self.rows or name) for row in rows]
            try:
                said = judged(points)
            except ValueError as error:
                where = f"'{self.rows}'" + (f", model '{name}'" if name else "")
                raise DataError(f"{where}: {error}; step counts over all rounds") from error
            curves[name] = points, said
            found += [_with(row, each) for row, each in zip(rows, said, strict=True)]
        tables = hacking_tables(curves)
        context.metrics.update(shown(*tables))
        messages = [
            said_of(points, said, constant_rate=None, name=name)
            for name, (points, said) in curves.items()
        ]
        for message in filter(None, messages):
            if self.on_hacking == "stop":
                raise DataError(f"{message}. To go on all the same set on_hacking: warn")
            context.warn(message)
        yield from found

    def _curves(self, context: Context) -> dict[str, list[Row]]:
        """The measurements of each curve, by step."""
        found: dict[str, list[Row]] = {}
        if self.rows is not None:
            for row in self.each_row(context):
                found.setdefault(str(row.get("model") or ""), []).append(row)
            for name, rows in found.items():
                found[name] = sorted(rows, key=lambda row: _step(row, str(self.rows)))
            return found
        if self.before is not None:
            for row in context.each_row(self.before):
                found.setdefault(row["model"], []).append(row)
        plain = [model.partition("@")[0] for model in self.models]
        # In a repeat a curve has one name in all rounds; two rounds beside each other have theirs.
        names = plain if len({*plain}) == len(plain) else self.models
        for name, model in zip(names, self.models, strict=True):
            found[name] = _continued(name, found.get(name, []), _measured(model, context))
        return found


def _measured(model: str, context: Context) -> list[Point]:
    folder: Path | None = context.artifact(model)
    manifest = None if folder is None else read_manifest(folder)
    history = () if manifest is None else Results.from_metrics(manifest.metrics).history
    points = points_of(history)
    if not points:
        raise DataError(
            f"'{model}' was not watched while it was trained: name a train_distill of this "
            "pipeline with watch_hacking"
        )
    return points


def _continued(name: str, before: Sequence[Row], points: Sequence[Point]) -> list[Row]:
    """A round more of a curve; its start is where the round before ended."""
    number = round_after(before)
    done = max((row["step"] for row in before), default=0)
    new = [
        {
            "id": f"{name}, round {number}, step {done + point.step}",
            "model": name,
            "round": number,
            "step": done + point.step,
            "proxy": point.proxy,
            "golden": point.golden,
        }
        for point in points
        if point.step or not before
    ]
    return [*before, *new]


def _step(row: Row, rows: str) -> int:
    try:
        return int(row["step"])
    except (TypeError, ValueError) as error:
        raise DataError(
            f"row {row['id']} of '{rows}': step is {row['step']!r}, not a whole number"
        ) from error


def _point(row: Row, rows: str) -> Point:
    def number(column: str) -> float:
        try:
            value = float(row[column])
        except (TypeError, ValueError) as error:
            what = f"{column} is {row[column]!r}, not a number"
            raise DataError(f"row {row['id']} of '{rows}': {what}") from error
        if not isfinite(value):
            raise DataError(f"row {row['id']} of '{rows}': {column} is {value}, not a number")
        return value

    golden = None if row.get("golden") is None else number("golden")
    return Point(_step(row, rows), number("proxy"), golden)


def _with(row: Row, said: Judged) -> Row:
    own: dict[str, Any] = {
        "expected": said.expected,
        "expected_low": said.low,
        "expected_high": said.high,
        "excess": said.excess,
        "has_left": said.has_left,
        "golden_rises": said.golden_rises,
        "is_hacking": said.is_hacking,
    }
    return {**row, **own}
