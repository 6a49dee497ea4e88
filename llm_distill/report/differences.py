"""The differences between two runs, as plain values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llm_distill.evaluation.results import Figure, Results
from llm_distill.report.collect import RunView, StageView
from llm_distill.runtime.fingerprint import differences as identity_differences

ABSENT = "—"


@dataclass(frozen=True)
class StageDifference:
    """A stage whose artifacts differ, or that only one of the runs has (None in the other)."""

    name: str
    a: StageView | None
    b: StageView | None

    @property
    def why(self) -> list[str]:
        """How its identity differs, such as `setting n: 4 → 9`, if both manifests are there."""
        old, new = (stage.manifest if stage else None for stage in (self.a, self.b))
        return identity_differences(old.identity, new.identity) if old and new else []


@dataclass(frozen=True)
class FigurePair:
    """A stage's figure in either run; None where it is not.

    of: What tells it from the stage's others, such as the model and number of worked examples;
        the title of the stage's own table comes first.
    """

    stage: str
    of: str
    a: Figure | None
    b: Figure | None

    @property
    def change(self) -> str:
        """B - A with its sign, in points for shares; nothing where either is not there."""
        if self.a is None or self.b is None or math.isnan(change := self.b.value - self.a.value):
            return ""
        is_share = self.b.kind in ("share", "points")
        return f"{100 * change:+.1f} points" if is_share else f"{change:+.4g}"


def settings(a: RunView, b: RunView) -> list[tuple[str, str, str]]:
    """Every place in the resolved pipeline files whose value differs, with both values."""
    left, right = (dict(_flat(run.settings)) for run in (a, b))
    return [
        (place, left.get(place, ABSENT), right.get(place, ABSENT))
        for place in dict.fromkeys([*left, *right])
        if left.get(place) != right.get(place)
    ]


def stages(a: RunView, b: RunView) -> list[StageDifference]:
    """Every stage whose artifacts differ; one that has not run differs from one that has run."""
    names = dict.fromkeys(stage.name for run in (a, b) for stage in run.stages)
    found = [StageDifference(name, a.stage(name), b.stage(name)) for name in names]
    return [
        pair
        for pair in found
        if pair.a is None or pair.b is None or pair.a.record.artifact != pair.b.record.artifact
    ]


def figures(a: RunView, b: RunView) -> list[FigurePair]:
    """All that was measured in either run, even if it is equal."""
    left, right = (
        {(stage.name, of): figure for stage in run.stages for of, figure in _named(stage.results)}
        for run in (a, b)
    )
    return [
        FigurePair(*place, left.get(place), right.get(place))
        for place in dict.fromkeys([*left, *right])
    ]


def _named(found: Results) -> Iterator[tuple[str, Figure]]:
    for row in found.rows:
        yield ", ".join(row.as_figure.names), row.as_figure
    for own in found.own:
        for figure in own.figures:
            yield ", ".join([own.title, *figure.names]), figure


def _flat(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """(`stages.exam.shots`, `[0, 3]`) for every value but mappings; a list is one value."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{place}.{name}" if place else str(name))
    else:
        yield place, value if isinstance(value, str) else repr(value)
