"""Files of one study are put together; others are refused with what differs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.errors import ConfigError
from llm_distill.sweeps.merge import merged, recipe_differences
from llm_distill.sweeps.outcomes import Outcome, SweepFile, marks_of, read_sweep

FileOf = Callable[..., SweepFile]
EXAM = {"weak": [0, 0, 1, 0]}


def test_a_file_says_all_again(file_of: FileOf, tmp_path: Path) -> None:
    file = file_of({(1, 0): EXAM, ("a, ü", 1): {"weak": [1, 1, 0, 0]}}, profile="half")
    file.put(Outcome(settings={"stages.x.n": 1}, seed=3, state="failed", why="no"))
    file.save(tmp_path / "sweep.json")
    assert read_sweep(tmp_path / "sweep.json") == file


@pytest.mark.parametrize("values", [[0, 1, 0.25, 1], [0.5], [1, 0], [12 / 16, 1]])
def test_marks_are_read_as_they_were(file_of: FileOf, values: list[float]) -> None:
    figure = file_of({(1, 1): EXAM}).runs[0].figures[0]
    for out_of in (1, 4, 16):
        marks = marks_of(values, out_of)
        read = figure.model_copy(update={"marks": marks, "out_of": out_of}).by_item()
        assert read == pytest.approx(values)
    assert marks_of([1, 0, 1], 1) == "101"


def test_runs_of_two_files_are_one_study(file_of: FileOf) -> None:
    a = file_of({(1, 1): EXAM, (1, 2): EXAM})
    b = file_of({(1, 2): EXAM, (1, 3): EXAM, (2, 1): EXAM})
    a.put(Outcome(settings={"stages.x.n": 1}, seed=3, state="failed"))
    whole = merged([("a", a), ("b", b)])
    assert sorted((r.settings["stages.x.n"], r.seed, r.state) for r in whole.runs) == [
        (1, 1, "done"), (1, 2, "done"), (1, 3, "done"), (2, 1, "done"),
    ]  # fmt: skip
    assert len(a.runs) == 3  # as it was


def _pipeline(file: SweepFile) -> None:
    file.pipeline = "slow"


def _profile(file: SweepFile) -> None:
    file.profile = "half"


def _setting(file: SweepFile) -> None:
    file.recipes["r1"]["x"]["settings"]["order"] = "given"


def _version(file: SweepFile) -> None:
    file.recipes["r1"]["x"]["version"] = 2


def _data(file: SweepFile) -> None:
    file.recipes["r1"]["x"]["sources"] = {"items.jsonl": "00"}


def _items(file: SweepFile) -> None:
    figures = [f.model_copy(update={"items": "y"}) for f in file.runs[0].figures]
    file.items["y"] = file.items["x"]
    file.runs[0] = file.runs[0].model_copy(update={"figures": tuple(figures)})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_pipeline, "pipeline quick and pipeline slow"),
        (_profile, "profile none and profile half"),
        (_setting, 'x: setting order: "random" → "given"'),
        (_version, "x: version of select: 1 → 2"),
        (_data, "x: source items.jsonl changed"),
        (_items, "exam has other items in one than in the other"),
    ],
)
def test_runs_of_another_study_are_refused(file_of: FileOf, change: Any, why: str) -> None:
    a, b = file_of({(1, 1): EXAM}), file_of({(1, 2): EXAM})
    merged([("a", a), ("b", b)])
    change(b)
    with pytest.raises(ConfigError, match="b cannot be put together with a") as raised:
        merged([("a", a), ("b", b)])
    assert why in str(raised.value)


def test_what_is_not_swept_is_compared_between_settings_too(file_of: FileOf) -> None:
    a, b = file_of({(1, 1): EXAM}), file_of({(2, 1): EXAM})
    merged([("a", a), ("b", b)])  # n is what is swept
    b.recipes["r2"]["x"]["settings"]["order"] = "given"
    with pytest.raises(ConfigError, match="setting order"):
        merged([("a", a), ("b", b)])


def test_a_run_counts_once(file_of: FileOf) -> None:
    a, b = file_of({(1, 1): EXAM}), file_of({(1, 1): {"weak": [1, 1, 1, 1]}})
    with pytest.raises(ConfigError, match="seed 1, n 1 is in a file before it too"):
        merged([("a", a), ("b", b)])


@pytest.mark.parametrize(
    ("place", "left", "right"),
    [
        ("stages.x.sampling.top_p", {"settings": {"sampling": {"top_p": 1, "n": 3}}}, None),
        ("models.student.dtype", {"models": {"student": {"weights": "a"}}}, None),
        ("variables.hint", {"settings": {"variables": {"hint": "a"}}}, None),
        ("stages.x.rows", {"settings": {"rows": "a"}, "inputs": {"a": None}}, None),
    ],
)
def test_what_a_place_decides(place: str, left: dict[str, Any], right: None) -> None:
    other = json.loads(json.dumps(left).replace(": 1", ": 2").replace('"a"', '"b"'))
    recipes = [{"x": {"stage": "s", "version": 1, **part}} for part in (left, other)]
    assert recipe_differences(*recipes)
    assert recipe_differences(*recipes, [place]) == []
    assert recipe_differences(*recipes, ["stages.y.n"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is not a sweep's file"),
        ("[]", "is not a sweep's file"),
        ('{"schema_version": 9, "pipeline": "x"}', "of a newer llm-distill"),
        ('{"schema_version": 1, "pipeline": "x", "runs": [{"seed": "a"}]}', "runs.0.settings"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(ConfigError, match=why):
        read_sweep(tmp_path / "sweep.json")


def test_a_file_that_was_cut_is_refused(file_of: FileOf, tmp_path: Path) -> None:
    path = tmp_path / "sweep.json"
    file_of({(1, 1): EXAM}).save(path)
    path.write_text(path.read_text().replace('"0010"', '"001"'))
    with pytest.raises(ConfigError, match="the marks of exam, seed 1, do not fit"):
        read_sweep(path)
