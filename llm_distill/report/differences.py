"""What differs between two runs, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llm_distill.evaluation.results import Figure, Results
from llm_distill.report.collect import RunView, StageView
from llm_distill.runtime.fingerprint import differences as identity_differences

ABSENT = "—"


@dataclass(frozen=True)
class SettingDifference:
    """A value of the resolved pipeline file: where it stands, and what it is in either run."""

    place: str
    a: str
    b: str


@dataclass(frozen=True)
class StageDifference:
    """A stage with another artifact, or one that only one of the runs has; None where it is not.

    why: what of its identity differs, such as `setting n: 4 → 9`, where both manifests are there.
    """

    name: str
    a: StageView | None
    b: StageView | None

    @property
    def why(self) -> list[str]:
        old, new = (stage.manifest if stage else None for stage in (self.a, self.b))
        return identity_differences(old.identity, new.identity) if old and new else []


@dataclass(frozen=True)
class FigurePair:
    """A figure in either run: of the same stage, and of the same there; None where it is not.

    of: such as the model and number of worked examples; of a table of the stage's own its title
        too.
    """

    stage: str
    of: str
    a: Figure | None
    b: Figure | None

    @property
    def change(self) -> str:
        """B - A with its sign, in points for shares; nothing where either is not there."""
        if self.a is None or self.b is None:
            return ""
        change = self.b.value - self.a.value
        return f"{change:+.4g}" if self.b.kind == "number" else f"{100 * change:+.1f}"


def settings(a: RunView, b: RunView) -> list[SettingDifference]:
    """Every place whose value differs, in the order of the files."""
    left, right = (dict(_flat(run.settings)) for run in (a, b))
    return [
        SettingDifference(place, left.get(place, ABSENT), right.get(place, ABSENT))
        for place in dict.fromkeys([*left, *right])
        if left.get(place) != right.get(place)
    ]


def stages(a: RunView, b: RunView) -> list[StageDifference]:
    """Every stage whose artifacts differ; one that has not run differs from one that has."""
    names = dict.fromkeys(stage.name for run in (a, b) for stage in run.stages)
    found = [StageDifference(name, a.stage(name), b.stage(name)) for name in names]
    return [
        pair
        for pair in found
        if pair.a is None or pair.b is None or pair.a.record.artifact != pair.b.record.artifact
    ]


def results(a: RunView, b: RunView) -> list[FigurePair]:
    """The accuracies of both runs, those that are equal too."""
    return _pairs(a, b, lambda found: [("", row.as_figure) for row in found.exam])


def own_figures(a: RunView, b: RunView) -> list[FigurePair]:
    """What stages of both runs show in tables of their own, what is equal too."""
    return _pairs(
        a, b, lambda found: [(own.title, figure) for own in found.own for figure in own.figures]
    )


def _pairs(
    a: RunView, b: RunView, figures: Callable[[Results], list[tuple[str, Figure]]]
) -> list[FigurePair]:
    left, right = (
        {
            (stage.name, ", ".join([*([title] if title else []), *figure.names])): figure
            for stage in run.stages
            for title, figure in figures(stage.results)
        }
        for run in (a, b)
    )
    return [
        FigurePair(*place, left.get(place), right.get(place))
        for place in dict.fromkeys([*left, *right])
    ]


def _flat(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """(`stages.exam.shots`, `[0, 3]`) for every value that is no mapping; a list is one value."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{place}.{name}" if place else str(name))
    else:
        yield place, value if isinstance(value, str) else repr(value)
