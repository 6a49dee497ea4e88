"""The differences between runs, as plain values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llm_distill.errors import counted
from llm_distill.evaluation.results import Figure, Results
from llm_distill.report.collect import RunView, StageView
from llm_distill.runtime.fingerprint import differences as identity_differences

ABSENT = "—"


@dataclass(frozen=True)
class StageDifference:
    """A stage whose artifacts differ, or that only some of the runs have (None in the others)."""

    name: str
    views: tuple[StageView | None, ...]

    def why(self, index: int) -> list[str]:
        """How a run's identity of it differs from the first's, such as `setting n: 4 → 9`.

        Nothing without both manifests.
        """
        old, new = (
            stage.manifest if stage else None for stage in (self.views[0], self.views[index])
        )
        return identity_differences(old.identity, new.identity) if old and new else []


@dataclass(frozen=True)
class Measured:
    """A stage's figure in each run; None where it is not.

    of: What tells it from the stage's others, such as the model and number of worked examples;
        the title of the stage's own table comes first.
    """

    stage: str
    of: str
    figures: tuple[Figure | None, ...]

    @property
    def change(self) -> str:
        """The last minus the first with its sign, in points for shares; nothing without both."""
        first, last = self.figures[0], self.figures[-1]
        if first is None or last is None or math.isnan(change := last.value - first.value):
            return ""
        is_share = last.kind in ("share", "points")
        return f"{100 * change:+.1f} points" if is_share else f"{change:+.4g}"


def described(stage: StageView | None) -> str:
    """`4f3b1a36830c, 240 rows`: its artifact, or why there is none."""
    if stage is None:
        return "not in this run"
    if stage.record.artifact is None:
        return stage.state
    digest = stage.record.artifact.rpartition("-")[2]
    rows = stage.record.rows
    return f"{digest}, {'model' if rows is None else counted(rows, 'row')}"


def settings(*runs: RunView) -> list[tuple[str, ...]]:
    """Every place in the resolved pipeline files whose value differs, with the values."""
    flat = [dict(_flat(run.settings)) for run in runs]
    places = dict.fromkeys(place for values in flat for place in values)
    rows = [(place, *(values.get(place, ABSENT) for values in flat)) for place in places]
    return [row for row in rows if len(set(row[1:])) > 1]


def stages(*runs: RunView) -> list[StageDifference]:
    """Every stage whose artifacts differ; one that has not run differs from one that has run."""
    names = dict.fromkeys(stage.name for run in runs for stage in run.stages)
    found = [StageDifference(name, tuple(run.stage(name) for run in runs)) for name in names]
    return [
        each
        for each in found
        if None in each.views or len({view.record.artifact for view in each.views if view}) > 1
    ]


def figures(*runs: RunView) -> list[Measured]:
    """All that was measured in any run, even if it is equal."""
    found = [
        {(stage.name, of): figure for stage in run.stages for of, figure in _named(stage.results)}
        for run in runs
    ]
    places = dict.fromkeys(place for values in found for place in values)
    return [Measured(*place, tuple(values.get(place) for values in found)) for place in places]


def _named(found: Results) -> Iterator[tuple[str, Figure]]:
    for row in (*found.rows, *found.differences):
        yield ", ".join(row.as_figure.names), row.as_figure
    for own in found.listed:
        for figure in own.figures:
            yield ", ".join([own.title, *figure.names]), figure


def _flat(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """(`stages.exam.shots`, `[0, 3]`) for every value but mappings; a list is one value."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{place}.{name}" if place else str(name))
    else:
        yield place, value if isinstance(value, str) else repr(value)
