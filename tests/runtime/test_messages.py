"""What `run` and `status` tell a person whom something has stopped."""

from __future__ import annotations

import fcntl
import io
import os
import re
import shlex
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from llm_distill.cli.run import stop_as_after_ctrl_c
from llm_distill.errors import WorkspaceError
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.record import read_run

TOY = """\
name: toy
stages:
  numbers: {stage: toy_rows, n: 4}
  others: {stage: toy_rows, n: 2}
  answers: {stage: toy_map, rows: numbers}
  more: {stage: toy_map, rows: answers}
"""
CLI = [sys.executable, str(Path(__file__).parents[1] / "cli_with_toys.py")]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--until answer", 2, "--until answer: no such stage; did you mean 'answers'"),
        ("--from answer", 2, "--from answer: no such stage"),
        ("--force answer", 2, "--force answer: no such stage"),
        ("--force more --until answers", 2, "--force more comes after --until answers"),
        ("--workspace toy.yaml/x", 5, "cannot write to workspace toy.yaml/x"),
    ],
)
def test_what_keeps_a_run_from_beginning_is_one_message(
    bench: Any, cli: Any, monkeypatch: pytest.MonkeyPatch, options: str, code: int, message: str
) -> None:
    monkeypatch.chdir(bench(TOY).file.parent)
    said = cli("run", "toy.yaml", *options.split())
    assert (said.code, said.out, said.err.count("\n")) == (code, "", 1)
    assert said.err.startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("error", "options", "goes_on"),
    [
        ("interrupt", "", ""),
        ("interrupt", "--force others", "--force others"),
        ("interrupt", "--force numbers", "--force answers"),
        ("interrupt", "--force numbers --until others", "--until others"),
        ("disk_full", "--force numbers", "--force answers"),
    ],
)
def test_a_stopped_run_says_which_command_goes_on(
    bench: Any, cli: Any, error: str, options: str, goes_on: str
) -> None:
    toy = bench(TOY)
    run = ("run", toy.file, "--workspace", toy.workspace.root, *options.split())
    said = cli(*run, "--set", f"stages.others.error={error}")
    assert said.code == (130 if error == "interrupt" else 5)
    assert "finished stages are kept" in said.out
    wanted = ["run", str(toy.file), "--set", f"stages.others.error={error}", *goes_on.split()]
    (shown,) = re.findall(r"to go on from there: llm-distill (.*)", said.out)
    assert shlex.split(shown) == [*wanted, "--workspace", str(toy.workspace.root)]


def test_where_nothing_has_run_nothing_is_said_to_be_kept(bench: Any, cli: Any) -> None:
    toy = bench(TOY)
    said = cli("run", toy.file, "--workspace", toy.workspace.root, "--from", "answers")
    assert said.code == 5
    assert "start earlier" in said.err
    assert "are kept" not in said.out


def test_a_bug_keeps_what_is_finished_and_its_traceback_is_in_the_log(
    bench: Any, cli: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = bench(TOY)
    where = ("--workspace", toy.workspace.root)
    with pytest.raises(RuntimeError, match="a bug"):
        cli("run", toy.file, *where, "--set", "stages.others.error=crash")
    assert "failed: finished stages are kept" in capsys.readouterr().out
    log = read_run(toy.workspace, None).directory / "logs" / "others.log"
    assert "RuntimeError: a bug" in log.read_text()
    cli("run", toy.file, *where, "--set", "stages.others.error=disk_full")
    status = cli("status", *where).out
    assert "others failed: the disk of" in status
    assert "stage 'others'" not in status


def test_a_message_is_not_cut_where_there_is_no_terminal(bench: Any, cli: Any) -> None:
    toy = bench(TOY)
    workspace = toy.workspace.root.joinpath("[long]" * 20, "x" * 100)
    said = cli("run", toy.file, "--workspace", workspace, "--until", "numbers")
    assert f"workspace {workspace}\n" in said.out
    assert f"kept in {workspace}/runs/toy/" in said.out


def test_signs_that_the_terminal_lacks_do_not_end_a_run(
    bench: Any, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = bench(TOY)
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert cli("run", toy.file, "--workspace", toy.workspace.root).code == 0
    sys.stdout.flush()
    assert b"? numbers: 4 rows" in written.getvalue()


def test_one_of_something_is_no_plural(bench: Any, cli: Any) -> None:
    toy = bench("name: toy\nstages: {numbers: {stage: toy_rows, n: 1}}\n")
    assert "valid (1 stage)" in cli("validate", toy.file).out
    assert "numbers: 1 row," in cli("run", toy.file, "--workspace", toy.workspace.root).out


def test_the_workspaces_name(
    bench: Any, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Workspace(Path("~/x")).artifacts == tmp_path / "x" / "artifacts"
    with pytest.raises(WorkspaceError, match="no such home folder"):
        Workspace(Path("~nobody-of-this-name/x"))
    said = cli("plan", bench(TOY).file, "--workspace", "")
    assert said.code == 2
    assert "the name is empty" in said.err


@pytest.mark.usefixtures("cli")
def test_under_nohup_a_closed_terminal_does_not_stop_a_run() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop_as_after_ctrl_c()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_run_whose_terminal_is_closed_is_interrupted(bench: Any, tmp_path: Path) -> None:
    toy = bench(TOY)
    trace = tmp_path / "trace"
    master, slave = os.openpty()

    def own_the_terminal() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    slow = ("--set", "stages.others.pause=60", "--set", f"stages.others.trace={trace}")
    process = subprocess.Popen(
        [*CLI, "run", str(toy.file), "--workspace", str(toy.workspace.root), *slow],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=own_the_terminal,
    )
    os.close(slave)
    end = time.monotonic() + 30
    while not trace.exists():
        assert time.monotonic() < end, os.read(master, 10000).decode()
        time.sleep(0.02)
    os.close(master)
    assert process.wait(30) == 130
    assert read_run(toy.workspace, None).state == "interrupted"
