"""A stage in a process of its own: its figures, logs, errors and death reach the parent."""

from __future__ import annotations

import os
import signal
import sys
import time
from multiprocessing import forkserver
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llm_distill.errors import ModelError

STAGE = """
import logging, os, signal, subprocess, sys, time
from typing import Literal
from llm_distill.errors import DataError
from llm_distill.stage import Context, Model, ModelOutput, Rows, Stage

class Odd(Exception):
    def __init__(self, one, two):  # cannot be unpickled
        super().__init__(one)

class Probe(Stage):
    output = "model"
    stage: Literal["probe"]
    model: Model
    rows: Rows
    does: str

    def run(self, context: Context) -> ModelOutput:
        directory = context.work_dir / "model"
        directory.mkdir()
        (directory / "config.json").write_text(str(os.getpid()))
        (directory / "model.safetensors").write_text(os.getcwd())
        logging.getLogger("some.library").info("%s said", "the library")
        os.write(2, b"compiled code said\\n")
        context.warn("a warning")
        context.metrics["pid"] = os.getpid()
        with context.progress("works", 3) as bar:
            bar.advance(3, tokens=7)
        if self.does == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.does == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.does == "exit":
            os._exit(7)
        if self.does == "mistake":
            raise DataError("row r1: the user's mistake")
        if self.does == "bug":
            raise KeyError("a bug")
        if self.does == "odd":
            raise Odd("cannot be sent", 2)
        if self.does == "hangs":
            child = subprocess.Popen(["sleep", "600"])  # such as a library's own workers
            (directory / "README.md").write_text(str(child.pid))
            time.sleep(600)
        return ModelOutput(directory)
"""
FILE = """\
name: probing
models:
  student: {model_name_or_path: scripted/x, engine: {kind: scripted, function: "json:dumps"}}
stages:
  numbers: {stage: toy_rows, n: 2}
  probed: {stage: probe, model: student, rows: numbers, does: nothing}
"""


@pytest.fixture
def probing(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    plugin = tmp_path / "plugin"
    info = plugin / "probe-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: probe\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[llm_distill.stages]\nprobe = probe:Probe\n")
    (plugin / "probe.py").write_text(STAGE)
    monkeypatch.syspath_prepend(plugin)
    monkeypatch.setenv("PYTHONPATH", str(plugin), prepend=os.pathsep)
    yield bench(FILE)
    sys.modules.pop("probe", None)


def is_running(pid: str) -> bool:
    """Not only waiting for somebody to read how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def log_of(record: Any) -> str:
    return (record.directory / "logs" / "probed.log").read_text()


def test_what_a_worker_did_reaches_the_manifest_and_the_log(probing: Any) -> None:
    record = probing.run()
    manifest = probing.workspace.find(record.stages["probed"].artifact).manifest
    assert manifest.metrics["pid"] != os.getpid()
    assert manifest.warnings == ("a warning",)
    log = log_of(record)
    assert "INFO some.library: the library said" in log
    assert "WARNING llm_distill: a warning" in log
    assert "INFO llm_distill: printed: compiled code said" in log


def test_a_worker_is_gone_when_its_stage_is_done(probing: Any) -> None:
    record = probing.run()
    pid = probing.workspace.find(record.stages["probed"].artifact).manifest.metrics["pid"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_worker_works_where_the_run_was_started(
    probing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server that forks workers is older than that."""
    monkeypatch.chdir(tmp_path)
    record = probing.run()
    weights = probing.workspace.path(record.stages["probed"].artifact) / "model.safetensors"
    assert weights.read_text() == str(tmp_path)


@pytest.mark.parametrize("name", ["script.py", "<stdin>"])
def test_a_worker_does_not_import_what_started_the_run(
    probing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A script without a guard would begin its run again there; there is no file of that name."""
    (tmp_path / "script.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    main = ModuleType("__main__")
    main.__file__ = str(tmp_path / name)
    monkeypatch.setitem(sys.modules, "__main__", main)
    meanwhile = []
    connect = forkserver.connect_to_new_process

    def slowly(fds: Any) -> Any:  # until the server has imported what workers need
        meanwhile.append(sys.modules["__main__"])
        return connect(fds)

    monkeypatch.setattr(forkserver, "connect_to_new_process", slowly)
    assert probing.run().state == "done"
    assert not (tmp_path / "imported").exists()
    assert meanwhile == [main] == [sys.modules["__main__"]]  # other threads see it as it is


@pytest.mark.parametrize(
    ("does", "kind", "message"),
    [
        ("killed", ModelError, r"stage 'probed': .*killed \(SIGKILL\).*batch_size"),
        ("segfault", ModelError, "stage 'probed': its process died of SIGSEGV"),
        ("exit", ModelError, r"without a result \(exit code 7\)"),
        ("mistake", Exception, "^stage 'probed': row r1: the user's mistake$"),
        ("bug", KeyError, "a bug"),
        ("odd", RuntimeError, "cannot be sent"),
    ],
)
def test_what_ends_a_worker_is_said(
    probing: Any, does: str, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message) as failure:
        probing.run(f"stages.probed.does={does}")
    if does in ("bug", "odd"):
        assert "probe.py" in "".join(failure.value.__notes__)  # where in the worker
    record = sorted(probing.workspace.runs.glob("*/*/logs/probed.log"))[-1]
    assert "the library said" in record.read_text()
    assert "compiled code said" in record.read_text()


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.exhaustive),
        pytest.param(signal.SIGTERM, marks=pytest.mark.exhaustive),
        signal.SIGKILL,
    ],
)
def test_a_worker_ends_with_the_process_that_started_it(
    probing: Any, number: signal.Signals
) -> None:
    process = probing.start("--set", "stages.probed.does=hangs")
    work = probing.workspace.artifacts / ".work"
    while not list(work.glob("probed-*/model/README.md")):
        assert process.poll() is None
        time.sleep(0.05)
    (folder,) = work.glob("probed-*/model")
    while not (child := (folder / "README.md").read_text()):
        time.sleep(0.05)
    pid = (folder / "config.json").read_text()
    process.send_signal(number)
    process.wait(timeout=60)
    deadline = time.monotonic() + 60
    for one in (pid, child):
        while is_running(one):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130)
    assert process.stdout is not None
    assert "said" not in process.stdout.read()
    process.stdout.close()
