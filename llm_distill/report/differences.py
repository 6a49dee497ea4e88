"""What differs between two runs, as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llm_distill.report.charts import Share
from llm_distill.report.collect import RunView, StageView
from llm_distill.report.figures import result_rows, share, sitting
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
class ResultPair:
    """An exam's figure in either run: the same stage, model and number of worked examples."""

    stage: str
    sitting: str
    a: Share | None
    b: Share | None


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


def results(a: RunView, b: RunView) -> list[ResultPair]:
    """The accuracies of both runs, those that are equal too."""
    left, right = _accuracies(a), _accuracies(b)
    return [
        ResultPair(*place, left.get(place), right.get(place))
        for place in dict.fromkeys([*left, *right])
    ]


def _accuracies(run: RunView) -> dict[tuple[str, str], Share]:
    found = {}
    for stage in run.stages:
        for row in result_rows(stage.results):
            accuracy = share(row)
            if accuracy is not None:
                found[stage.name, sitting(row)] = accuracy
    return found


def _flat(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """(`stages.exam.shots`, `[0, 3]`) for every value that is no mapping; a list is one value."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{place}.{name}" if place else str(name))
    else:
        yield place, value if isinstance(value, str) else repr(value)
