"""The file of a sweep: what each of its runs measured, down to the items. Needs no workspace.

{"schema_version": 1, "pipeline": "alm", "profile": null, "places": ["stages.x.learning_rate"],
 "recipes": {"0a1b…": {"exam": {"stage": "evaluate", "version": 4, "settings": {…}, …}, …}},
 "items": {"4c5d…": {"n": 4, "groups": {"skills": {"addition": "1100"}}}},
 "runs": [{"settings": {"stages.x.learning_rate": 1e-05}, "seed": 1, "run": "alm/20261129-101500",
           "state": "done", "recipe": "0a1b…", "figures": [
             {"stage": "exam", "labels": {"model": "student", "shots": "0"}, "kind": "share",
              "value": 0.5, "n": 4, "items": "4c5d…", "marks": "0110"}]}]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from llm_distill.digests import canonical_json
from llm_distill.errors import ConfigError
from llm_distill.evaluation.result_rows import Kind, Number
from llm_distill.runtime.disk import disk_explained, write_durably
from llm_distill.sweeps.grid import setting_key

SCHEMA_VERSION = 1

Key = tuple[str, str]
"""What a figure is: the stage, and its labels' one spelling."""


class Measured(BaseModel, extra="ignore", frozen=True):
    """A figure of a run.

    items: the digest of the items that it is the mean over; None where they are not known.
    marks: right answers to each item, in the order of the items' ids: a digit for each, or numbers
        with spaces between. out_of: answers to each item.
    """

    stage: str
    labels: dict[str, str]
    kind: Kind
    value: Number
    n: int | None = None
    items: str | None = None
    marks: str | None = None
    out_of: int = Field(1, ge=1)

    @property
    def key(self) -> Key:
        return self.stage, canonical_json(self.labels)

    def by_item(self) -> list[float]:
        """Of each item, in [0, 1] where it is a share; empty where that is not known."""
        marks = self.marks or ""
        numbers = marks.split() if " " in marks else list(marks)
        return [float(number) / self.out_of for number in numbers]


class Items(BaseModel, extra="ignore", frozen=True):
    """The items of an exam. groups: column to value to which items have it, a 0 or 1 for each."""

    n: int
    groups: dict[str, dict[str, str]] = Field(default_factory=dict)


class Outcome(BaseModel, extra="ignore", frozen=True):
    """What a run with a setting and a seed gave.

    report: the run's report, from the workspace's folder. recipe: see `recipes` of the file.
    """

    settings: dict[str, Any]
    seed: int
    state: Literal["done", "failed"]
    run: str = ""
    report: str | None = None
    why: str = ""
    recipe: str = ""
    started: float = 0.0
    seconds: float = 0.0
    figures: tuple[Measured, ...] = ()

    @property
    def setting(self) -> str:
        return setting_key(self.settings)


class SweepFile(BaseModel, extra="ignore"):
    """All of it.

    places: what the settings say, in this order.
    recipes: by digest, for each stage what could change its result apart from the seed and earlier
        stages, so that runs of another pipeline, version, model or data are told apart.
    items: by digest.
    """

    schema_version: int = SCHEMA_VERSION
    pipeline: str
    profile: str | None = None
    places: tuple[str, ...] = ()
    recipes: dict[str, dict[str, Any]] = Field(default_factory=dict)
    items: dict[str, Items] = Field(default_factory=dict)
    runs: list[Outcome] = Field(default_factory=list)

    def find(self, setting: str, seed: int) -> Outcome | None:
        return next((r for r in self.runs if r.setting == setting and r.seed == seed), None)

    def put(
        self, outcome: Outcome, recipe: dict[str, Any] | None = None, items: Any = None
    ) -> None:
        """Add a run, in place of an earlier one with its setting and seed."""
        self.runs = [
            r for r in self.runs if r.setting != outcome.setting or r.seed != outcome.seed
        ] + [outcome]
        if recipe is not None:
            self.recipes[outcome.recipe] = recipe
        self.items.update(items or {})

    def done(self) -> list[Outcome]:
        return [outcome for outcome in self.runs if outcome.state == "done"]

    def save(self, path: Path) -> None:
        """Write the whole file or nothing; what no run refers to is left out.

        Raises:
            WorkspaceError: it cannot be written.
        """
        values = self.model_dump(mode="json", exclude_defaults=False)
        named = {run.recipe for run in self.runs}
        values["recipes"] = {k: v for k, v in values["recipes"].items() if k in named}
        head = {name: value for name, value in values.items() if name != "runs"}
        text = json.dumps(head, ensure_ascii=False)[:-1]
        lines = ",\n".join(json.dumps(_short(run), ensure_ascii=False) for run in values["runs"])
        with disk_explained(path.parent, "the sweep's file: "):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, f'{text},\n"runs": [\n{lines}\n]}}\n')


def read_sweep(path: Path) -> SweepFile:
    """A sweep's file.

    Raises:
        ConfigError: it cannot be read, is of a newer version, or is not one.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not a sweep's file: {error}") from error
    version = values.get("schema_version") if isinstance(values, dict) else None
    if not isinstance(version, int) or "pipeline" not in values:
        raise ConfigError(f"{path} is not a sweep's file, which sweep writes")
    if version > SCHEMA_VERSION:
        raise ConfigError(f"{path} is of a newer llm-distill (form {version}); update this one")
    try:
        found = SweepFile.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path} is not a sweep's file: {place}: {first['msg']}") from error
    _check(found, path)
    return found


def _check(found: SweepFile, path: Path) -> None:
    """What types do not say: a figure's marks are as many as its items."""
    for outcome in found.runs:
        if set(outcome.settings) != set(found.places):
            raise ConfigError(f"{path}: a run with seed {outcome.seed} has not the file's places")
        for figure in outcome.figures:
            if figure.marks is None:
                continue
            items = found.items.get(figure.items or "")
            try:
                n = len(figure.by_item())
            except ValueError:
                n = -1
            if items is None or n != items.n:
                raise ConfigError(
                    f"{path}: the marks of {figure.stage}, seed {outcome.seed}, do not fit its "
                    "items; it was changed by hand, or cut"
                )


def marks_of(values: Sequence[float], out_of: int) -> str:
    """Right answers to each item (of `out_of`) as `Measured.marks`."""
    numbers = [value * out_of for value in values]
    if all(number in range(10) for number in numbers):
        return "".join(str(int(number)) for number in numbers)
    return "".join(f"{number:.6g} " for number in numbers)


def seeds_of(outcomes: Iterable[Outcome]) -> tuple[int, ...]:
    return tuple(sorted({outcome.seed for outcome in outcomes}))


def _short(run: dict[str, Any]) -> dict[str, Any]:
    """Without what is at its default."""
    figures = [
        {k: v for k, v in figure.items() if v is not None and (k, v) != ("out_of", 1)}
        for figure in run["figures"]
    ]
    stated = {k: v for k, v in run.items() if v not in (None, "", 0.0) or k == "seed"}
    return {**stated, "figures": figures}
