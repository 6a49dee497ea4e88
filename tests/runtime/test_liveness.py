"""Whether a run lives: on this machine, in a container, on another machine; ids that are reused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_distill.runtime import artifact, liveness
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.liveness import DEAD_AFTER, Process, age, beating
from llm_distill.runtime.record import HEARTBEAT, RECORD, read_run
from tests.runtime.conftest import CLI

TOY = """\
name: toy
stages:
  numbers: {stage: toy_rows, n: 2}
  others: {stage: toy_rows, n: 2}
"""
ELSEWHERE = Process(host="node-7", where="other boot pid:[1]", pid=1, ticks=1)


@pytest.fixture
def ended() -> Iterator[subprocess.Popen[bytes]]:
    """A process that was killed and not waited for."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def touched(path: Path, seconds_ago: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (time.time() - seconds_ago,) * 2)
    return path


def test_this_process_lives_without_a_heartbeat(tmp_path: Path) -> None:
    assert Process.this().is_here
    assert Process.this().is_alive(tmp_path / "none")


def test_an_id_that_was_given_to_another_process_is_not_alive(tmp_path: Path) -> None:
    me = Process.this()
    assert me.ticks is not None
    before = me.model_copy(update={"ticks": me.ticks - 1})
    assert not before.is_alive(touched(tmp_path / "beat", 0))


def test_a_killed_process_is_dead_before_its_parent_notices(
    ended: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    ticks = liveness._stat(ended.pid)[1]
    process = Process.this().model_copy(update={"pid": ended.pid, "ticks": ticks})
    assert process.is_alive()
    ended.kill()
    end = time.monotonic() + 10
    while liveness._stat(ended.pid)[0] != "Z":
        assert time.monotonic() < end
    assert not process.is_alive(touched(tmp_path / "beat", 0))


@pytest.mark.parametrize(("seconds", "lives"), [(0, True), (60, True), (120, False)])
def test_elsewhere_the_heartbeat_decides(tmp_path: Path, seconds: float, lives: bool) -> None:
    old, beat = touched(tmp_path / RECORD, 9999), touched(tmp_path / HEARTBEAT, seconds)
    assert ELSEWHERE.is_alive(old, beat) == lives
    assert not ELSEWHERE.is_alive(tmp_path / "none")


def test_the_age_is_by_the_disks_clock_not_by_this_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = touched(tmp_path / "beat", 30)
    for wrong in (-7200, 7200):
        now = time.time() + wrong
        with monkeypatch.context() as patched:
            patched.setattr(liveness.time, "time", lambda now=now: now)
            assert 29 < age(beat) < 40
    assert [path.name for path in tmp_path.iterdir()] == ["beat"]


def test_a_heartbeat_goes_on_while_the_work_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "SECONDS_BETWEEN_BEATS", 0.02)
    beat = tmp_path / "beat"
    with beating(beat):
        touched(beat, 1000)
        end = time.monotonic() + 10
        while age(beat) > 100:
            assert time.monotonic() < end
            time.sleep(0.02)
    time.sleep(0.1)
    touched(beat, 1000)
    time.sleep(0.1)
    assert age(beat) > 100


@pytest.mark.parametrize(("seconds", "state"), [(5, "running"), (200, "interrupted")])
def test_a_run_of_another_machine_is_shown_by_its_heartbeat(
    bench: Any, cli: Any, seconds: float, state: str
) -> None:
    toy = bench(TOY)
    record = toy.run()
    raw = json.loads((record.directory / RECORD).read_text())
    assert raw["process"] == Process.this().model_dump()
    raw.update(state="running", process=ELSEWHERE.model_dump())
    raw["stages"]["others"]["state"] = "running"
    (record.directory / RECORD).write_text(json.dumps(raw))
    for name in (RECORD, HEARTBEAT):
        touched(record.directory / name, seconds)
    assert read_run(toy.workspace, None).stages["others"].state == state
    said = cli("status", "--workspace", toy.workspace.root).out
    assert f", {state}{' on node-7' if state == 'running' else ''}" in said


def container() -> list[str]:
    """How to start a process in a namespace of process ids of its own, as a container does."""
    own = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    for command in (own, [*own[:1], "--user", "--map-root-user", *own[1:]]):
        if shutil.which("unshare") and not subprocess.call(
            [*command, "true"], stderr=subprocess.DEVNULL
        ):
            return command
    return []


def test_a_run_in_a_container_lives_and_its_death_is_noticed(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = container()
    if not start:
        pytest.skip("no namespaces here")
    toy, trace = bench(TOY), tmp_path / "trace"
    sets = ["--set", "stages.others.pause=60", "--set", f"stages.others.trace={trace}"]
    command = [*start, *CLI, "run", str(toy.file), "--workspace", str(toy.workspace.root), *sets]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while not trace.exists():
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.05)
        record = read_run(toy.workspace, None)
        assert record.state == "running"
        assert record.process is not None
        assert not record.process.is_here
        assert f"on {os.uname().nodename}" in record.described
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    for name in (RECORD, HEARTBEAT):
        touched(record.directory / name, DEAD_AFTER + 10)
    assert read_run(toy.workspace, None).state == "interrupted"
    for note in (toy.workspace.artifacts / ".locks").glob("*.holder"):
        touched(note, DEAD_AFTER + 10)
    assert toy.run().state == "done"


def noted(workspace: Workspace, text: str, seconds: float) -> Path:
    note = workspace.artifacts / ".locks" / "a-0.holder"
    touched(note, 0).write_text(text)
    return touched(note, seconds)


def test_what_another_machine_works_on_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock does not reach here: it is not held."""
    monkeypatch.setattr(artifact, "SECONDS_BETWEEN_BEATS", 0.05)
    workspace = Workspace(tmp_path)
    workspace.prepare()
    note = noted(workspace, ELSEWHERE.model_dump_json(), 5)
    said: list[str] = []

    def die(holder: str) -> None:
        said.append(holder)
        touched(note, DEAD_AFTER + 10)

    with workspace.lock("a-0", die):
        assert Process.model_validate_json(note.read_text()) == Process.this()
    assert said == ["another run (process 1 on node-7)"]
    assert not note.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', ELSEWHERE.model_dump_json()])
def test_a_note_that_was_left_long_ago_holds_nobody_up(tmp_path: Path, text: str) -> None:
    workspace = Workspace(tmp_path)
    workspace.prepare()
    noted(workspace, text, DEAD_AFTER + 10)
    with workspace.lock("a-0", pytest.fail):
        pass


def test_a_note_of_this_machine_without_a_lock_was_left_by_a_kill(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.prepare()
    noted(workspace, Process.this().model_dump_json(), 0)
    with workspace.lock("a-0", pytest.fail):
        pass


def test_what_another_machine_works_on_is_not_pruned(tmp_path: Path, cli: Any) -> None:
    workspace = Workspace(tmp_path)
    workspace.prepare()
    (workspace.work / "a-0").mkdir()
    note = noted(workspace, ELSEWHERE.model_dump_json(), 5)
    prune = ("cache", "prune", "--older-than", "0", "--yes", "--workspace", tmp_path)
    cli(*prune)
    assert (workspace.work / "a-0").exists()
    assert note.exists()
    touched(note, DEAD_AFTER + 10)
    cli(*prune)
    assert not (workspace.work / "a-0").exists()


def test_where_the_system_does_not_say_the_heartbeat_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS, without /proc."""
    monkeypatch.setattr(liveness, "PROC", tmp_path / "no-proc")
    me = Process.this()
    assert (me.where, me.ticks, me.is_here) == ("", None, False)
    assert me.is_alive(touched(tmp_path / "beat", 1))
    assert not me.is_alive(touched(tmp_path / "beat", 500))
