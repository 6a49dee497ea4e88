"""What prune chooses, what it never takes, and what is left of what it took."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.errors import ConfigError
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.liveness import Process
from llm_distill.runtime.prune import DAY, Chosen, Filters, Item, choose
from llm_distill.runtime.pruned import find_pruned

Cli = Callable[..., Any]
NOW = 1000 * DAY
TOY = """\
name: toy
stages:
  numbers: {stage: toy_rows, n: 4}
  answers: {stage: toy_map, rows: numbers}
  length: {stage: toy_measure, rows: numbers}
"""


def item(name: str, days: float, size: int = 10, **more: Any) -> Item:
    return Item("artifact", name, Path(name), size, NOW - days * DAY, **more)


def names(chosen: Chosen) -> list[str]:
    return [each.name for each in chosen.items]


ITEMS = (
    item("new", 0.5, last_of=0),
    item("week", 7, last_of=2),
    item("large", 40.1, size=100, last_of=4),
    item("small", 40.2, size=5, last_of=4),
    item("orphan", 90),
    item("needed", 95, last_of=0, kept="needed by toy/1"),
    item("live", 99, in_use=True),
)


@pytest.mark.parametrize(
    ("filters", "going"),
    [
        (Filters(older_than=30 * DAY), ["orphan", "large", "small"]),
        (Filters(unused_by=3), ["orphan", "large", "small"]),
        (Filters(unused_by=1), ["orphan", "large", "small", "week"]),
        (Filters(older_than=60 * DAY, unused_by=1), ["orphan"]),
        (Filters(keep_size=140), ["orphan", "large"]),
        (Filters(keep_size=144, older_than=1), ["orphan", "large"]),
        (Filters(keep_size=1000), []),
        (Filters(keep_size=0), ["orphan", "large", "small", "week", "new"]),
        (Filters(older_than=60 * DAY, even_needed=True), ["needed", "orphan"]),
    ],
)
def test_what_all_filters_say_goes(filters: Filters, going: list[str]) -> None:
    assert names(choose(ITEMS, filters, NOW)) == going


def test_what_would_go_but_is_needed_is_said() -> None:
    chosen = choose(ITEMS, Filters(older_than=30 * DAY), NOW)
    assert [each.name for each in chosen.needed] == ["live", "needed"]
    assert choose(ITEMS, Filters(keep_size=140), NOW).needed == []  # it was not in the way
    assert choose(ITEMS, Filters(keep_size=0), NOW).needed != []


@pytest.fixture
def toy(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Two runs: the newer one uses other artifacts throughout."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text(TOY)
    for n in (4, 5):
        assert cli("run", "toy.yaml", "--set", f"stages.numbers.n={n}").code == 0
    return Workspace(tmp_path / "data")


def _runs(workspace: Workspace) -> list[Path]:
    """run.json, the oldest first."""
    found = workspace.runs.glob("toy/*/run.json")
    return sorted(found, key=lambda path: json.loads(path.read_text())["started"])


def _artifacts(workspace: Workspace, run: Path) -> set[str]:
    stages = json.loads(run.read_text())["stages"].values()
    return {stage["artifact"] for stage in stages}


def _there(workspace: Workspace) -> set[str]:
    return {path.name for path in workspace.artifacts.iterdir() if path.name[0] != "."}


def test_nothing_goes_without_yes_and_then_only_what_no_kept_run_needs(
    toy: Workspace, cli: Cli
) -> None:
    old, new = (_artifacts(toy, run) for run in _runs(toy))
    said = json.loads(cli("prune", "--unused-by", "1", "--json").out)
    assert {each["name"] for each in said["chosen"]} == old
    assert _there(toy) == old | new
    deleted = cli("prune", "--unused-by", "1", "--yes")
    assert "deleted: 3 artifacts" in deleted.out
    assert _there(toy) == new
    kept = cli("prune", "--keep-size", "0", "--yes")
    assert "deleted: nothing" in kept.out
    assert "--even-needed chooses it too" in kept.out
    assert _there(toy) == new
    assert cli("prune", "--keep-size", "0", "--even-needed", "--yes").code == 0
    assert _there(toy) == set()


def test_a_sweep_after_a_run_does_not_make_its_model_one_to_go(toy: Workspace, cli: Cli) -> None:
    plain, newest = _runs(toy)
    newest.write_text(json.dumps({**json.loads(newest.read_text()), "sweep": "toy.json"}))
    for options in (["--unused-by", "1"], ["--keep-size", "0"]):
        said = json.loads(cli("prune", *options, "--json").out)
        assert not {each["name"] for each in said["chosen"]} & _artifacts(toy, plain)


def test_a_run_without_its_artifacts_still_says_what_it_measured(
    toy: Workspace, cli: Cli, tmp_path: Path
) -> None:
    cli("prune", "--keep-size", "0", "--even-needed", "--yes")
    status = cli("status").out
    assert "pruned since, and made again by the next run: numbers, answers, length" in status
    assert cli("report", "--output", "report.html").code == 0
    report = (tmp_path / "report.html").read_text()
    assert "length: length of texts" in report  # the figures
    assert f"cannot be shown: it was pruned on {time.strftime('%Y-%m-%d')}" in report
    push = cli("push", "toy", "answers", "--repo-id", "a/b", "--dry-run")
    assert (push.code, "was pruned on" in push.err) == (5, True)
    assert "its artifact was pruned" in cli("plan", "toy.yaml", "--set", "stages.numbers.n=5").out
    (address,) = [a for a in _artifacts(toy, _runs(toy)[1]) if a.startswith("answers-")]
    assert find_pruned(toy, address) is not None
    again = cli("run", "toy.yaml", "--set", "stages.numbers.n=5")
    assert "✓ answers" in again.out
    assert find_pruned(toy, address) is None  # it is there again


def _live(run: Path) -> None:
    record = json.loads(run.read_text())
    process = Process.this().model_dump()
    run.write_text(json.dumps({**record, "state": "running", "process": process}))


def test_what_a_run_that_lives_may_use_stays_whatever_is_asked(toy: Workspace, cli: Cli) -> None:
    old, new = _runs(toy)
    artifacts = _there(toy)
    _live(old)
    said = cli("prune", "--keep-size", "0", "--even-needed", "--runs", "--yes")
    assert "as a run is at work that may use it" in said.out
    assert _there(toy) == artifacts  # of the other run too: they have the same stages
    assert (old.exists(), new.exists()) == (True, False)


def test_a_run_that_begins_meanwhile_gets_it_back(
    toy: Workspace, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, _ = _runs(toy)
    real, artifacts = Workspace.set_aside, _there(toy)

    def set_aside(self: Workspace, path: Path, why: str) -> Path:
        _live(old)  # it begins after everything was looked at
        return real(self, path, why)

    monkeypatch.setattr(Workspace, "set_aside", set_aside)
    said = cli("prune", "--unused-by", "1", "--yes")
    assert "a run that has begun meanwhile may use it" in said.out
    assert _there(toy) == artifacts
    assert list((toy.artifacts / ".pruned").glob("*")) == []


def test_what_a_run_holds_is_left(
    toy: Workspace, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = _artifacts(toy, _runs(toy)[0])
    (held,) = [address for address in old if address.startswith("answers-")]

    def lock(self: Workspace, address: str, on_wait: Any) -> Any:
        if address == held:
            on_wait("another run")
        return real(self, address, on_wait)

    real = Workspace.lock
    monkeypatch.setattr(Workspace, "lock", lock)
    said = cli("prune", "--unused-by", "1", "--yes")
    assert f"left: {held}: a run is working on it" in said.out
    assert _there(toy) & old == {held}


def test_runs_and_what_was_set_aside_go_too(toy: Workspace, cli: Cli) -> None:
    old, new = _runs(toy)
    left = toy.artifacts / ".going" / "answers-0a-1"
    left.mkdir(parents=True)
    (left / "rows").write_text("x")
    assert cli("prune", "--unused-by", "1", "--yes").code == 0
    assert (left.exists(), old.exists()) == (False, True)
    assert cli("prune", "--unused-by", "1", "--runs", "--yes").code == 0
    assert (old.exists(), new.exists()) == (False, True)


def test_a_damaged_artifact_goes_without_a_trace(toy: Workspace, cli: Cli) -> None:
    old = _artifacts(toy, _runs(toy)[0])
    for address in old:
        (toy.path(address) / "manifest.json").write_text("{")
    assert cli("prune", "--unused-by", "1", "--yes").code == 0
    assert _there(toy).isdisjoint(old)
    assert all(find_pruned(toy, address) is None for address in old)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "say what to delete"),
        (("--older-than", "soon"), "expected an age"),
        (("--keep-size", "100"), "expected a size"),
        (("--older-than", "1d", "--workspace", "none"), "no artifacts and no runs"),
    ],
)
def test_mistakes(toy: Workspace, cli: Cli, arguments: tuple[str, ...], why: str) -> None:
    said = cli("prune", *arguments)
    assert said.code in (2, 5)
    assert why in said.err


@pytest.mark.parametrize(
    ("text", "days"), [("30d", 30), ("12h", 0.5), ("2w", 14), ("7", 7), ("1.5 d", 1.5)]
)
def test_ages(text: str, days: float) -> None:
    from llm_distill.cli.prune_command import read_age

    assert read_age(text) == days * DAY


def test_sizes() -> None:
    from llm_distill.cli.prune_command import read_size
    from llm_distill.errors import sized

    assert [read_size(t) for t in ("100GB", "1.5 MB", "2GiB", "1kb", "0")] == [
        100_000_000_000, 1_500_000, 2 * 1024**3, 1000, 0,
    ]  # fmt: skip
    assert [sized(n) for n in (0, 999, 1500, 2 * 10**12)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2.0 TB",
    ]
    with pytest.raises(ConfigError):
        read_size("-1GB")
