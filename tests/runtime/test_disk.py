"""A disk that is full: one message, the reason is not lost, and nothing is half-written."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llm_distill.errors import DataError, WorkspaceError
from llm_distill.runtime import artifact, disk, perform, record
from llm_distill.runtime.disk import disk_explained, write_durably

TOY = """\
name: toy
stages:
  numbers: {stage: toy_rows, n: 4}
  answers: {stage: toy_map, rows: numbers}
"""
ARCHIVE = "[enforce fail at inline_container.cc:672] . "


def no_room(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def fail_to_write(
    monkeypatch: pytest.MonkeyPatch, module: Any, fails: Callable[[Path, str], bool]
) -> None:
    """Let a module's `write_durably` find no room where `fails` says so."""

    def write(path: Path, text: str) -> None:
        (no_room if fails(path, text) else write_durably)(path, text)

    monkeypatch.setattr(module, "write_durably", write)


def test_a_file_that_cannot_be_written_leaves_no_part_and_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_durably(tmp_path / "run.json", "old")
    monkeypatch.setattr(disk.os, "fsync", no_room)
    with pytest.raises(OSError, match="No space"):
        write_durably(tmp_path / "run.json", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert (tmp_path / "run.json").read_text() == "old"


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (OSError(errno.ENOSPC, "No space left"), WorkspaceError, "is full .* GiB free"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), WorkspaceError, "is full"),
        (RuntimeError(f"{ARCHIVE}unexpected pos 576 vs 534"), WorkspaceError, "is full"),
        (Exception("I/O error: No space left on device (os error 28)"), WorkspaceError, "is full"),
        (RuntimeError(f"{ARCHIVE}file not found"), RuntimeError, "file not found"),
        (OSError(errno.EFBIG, "File too large", "x"), WorkspaceError, "raise the limit .ulimit -f"),
        (RuntimeError("I/O error: File too large (os error 27)"), WorkspaceError, "ulimit -f"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), WorkspaceError, "denied: 'x'"),
        (RuntimeError("a bug"), RuntimeError, "a bug"),
        (DataError("a row"), DataError, "a row"),
    ],
)
def test_errors_of_a_full_disk_are_told_from_others(
    tmp_path: Path, error: Exception, expected: type[Exception], message: str
) -> None:
    with pytest.raises(expected, match=message), disk_explained(tmp_path):
        raise error


def test_torch_cannot_write_an_archive_where_hardly_any_room_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "NEARLY_FULL", 2**80)
    with pytest.raises(WorkspaceError, match="is full"), disk_explained(tmp_path):
        raise RuntimeError(f"{ARCHIVE}PytorchStreamWriter failed writing file data/0")


def test_the_room_is_measured_before_the_failed_stages_rows_are_removed(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = bench(TOY)

    def fill(_: Any, directory: Path) -> None:
        (directory.parent / "rows.arrow").write_text("all that there is room for")
        raise RuntimeError(f"{ARCHIVE}PytorchStreamWriter failed writing file data/0")

    def usage(_: Path) -> Any:
        full = list(toy.workspace.artifacts.rglob("rows.arrow"))
        return SimpleNamespace(free=0 if full else 2**40)

    monkeypatch.setattr(perform, "write_rows", fill)
    monkeypatch.setattr(disk.shutil, "disk_usage", usage)
    with pytest.raises(
        WorkspaceError, match=r"^stage 'numbers': the disk of .* is full \(0.00 GiB"
    ):
        toy.run()


def test_a_full_disk_is_noticed_before_anything_runs(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = bench(TOY)
    fail_to_write(monkeypatch, artifact, lambda _, text: len(text) > 4000)
    with pytest.raises(WorkspaceError, match="the disk of .* is full"):
        toy.run()
    assert not list(toy.workspace.runs.iterdir())


@pytest.mark.parametrize("saves_before", range(6))
def test_a_record_that_cannot_be_saved_is_one_message_and_the_next_run_goes_on(
    bench: Any, monkeypatch: pytest.MonkeyPatch, saves_before: int
) -> None:
    toy = bench(TOY)
    saves = iter(range(100))
    with monkeypatch.context() as patched:
        fail_to_write(
            patched,
            record,
            lambda path, _: path.name == "run.json" and next(saves) >= saves_before,
        )
        where = r"^(stage '(numbers|answers)': )?the run's record: the disk of .* is full"
        with pytest.raises(WorkspaceError, match=where):
            toy.run()
    assert not list(toy.workspace.runs.rglob(".*"))
    assert len(list(toy.workspace.runs.glob("toy/*"))) == (1 if saves_before else 0)
    assert toy.run().state == "done"


def test_the_record_does_not_hide_what_stopped_the_run(
    bench: Any, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = bench(TOY)
    fail_to_write(monkeypatch, record, lambda _, text: '"failed"' in text)
    with pytest.raises(RuntimeError, match="a bug"):
        toy.run("stages.numbers.error=crash")
    where = ("run", toy.file, "--workspace", toy.workspace.root)
    said = cli(*where, "--set", "stages.numbers.error=disk_full")
    assert said.code == 5
    assert said.err.startswith("error: stage 'numbers': the disk of ")
    assert said.err.count("\n") == 1


def test_a_log_that_cannot_be_written_prints_nothing_of_its_own(
    bench: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = bench(TOY)
    monkeypatch.setattr(record.logging.FileHandler, "format", no_room)
    monkeypatch.setattr(record.logging.FileHandler, "close", no_room)
    with pytest.raises(RuntimeError, match="a bug"):
        toy.run("stages.numbers.error=crash")
    assert "Traceback" not in capsys.readouterr().err
