"""A disk that is full: one message, the reason is not lost, and nothing is half-written."""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llm_distill.errors import DataError, WorkspaceError
from llm_distill.runtime import artifact, disk, perform, record
from llm_distill.runtime.disk import disk_explained, network_file_system, write_durably
from tests.runtime.conftest import CLI

ROOT = Path(__file__).parents[2]

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
        (OSError(errno.EDQUOT, "Disk quota exceeded"), WorkspaceError, "quota there is used up"),
        (OSError(errno.EFBIG, "", "x"), WorkspaceError, r"^x: File too large; .*ulimit -f"),
        (OSError(errno.EROFS, "", b"x"), WorkspaceError, r"^x: Read-only .*--workspace DIR"),
        (OSError(errno.EIO, "", "x"), WorkspaceError, r"^x: Input/output error; .*dmesg"),
        (OSError(errno.ENAMETOOLONG, "", "x"), WorkspaceError, "^x: File name too long; .* 255"),
        (Exception("I/O error: File too large (os error 27)"), WorkspaceError, "ulimit -f"),
        (RuntimeError(f"{ARCHIVE}unexpected pos 576 vs 534"), WorkspaceError, "is full"),
        (Exception("I/O error: No space left on device (os error 28)"), WorkspaceError, "is full"),
        (RuntimeError(f"{ARCHIVE}file not found"), RuntimeError, "file not found"),
        (OSError(errno.EFBIG, "File too large", "x"), WorkspaceError, "ulimit -f"),
        (RuntimeError("I/O error: File too large (os error 27)"), WorkspaceError, "ulimit -f"),
        (
            PermissionError(errno.EACCES, "Permission denied", "x"),
            WorkspaceError,
            "^x: .* denied; .*ls -ld",
        ),
        (RuntimeError("a bug"), RuntimeError, "a bug"),
        (DataError("a row"), DataError, "a row"),
    ],
)
def test_errors_of_a_full_disk_are_told_from_others(
    tmp_path: Path, error: Exception, expected: type[Exception], message: str
) -> None:
    with pytest.raises(expected, match=message), disk_explained(tmp_path):
        raise error


def test_a_disk_without_inodes_is_not_said_to_lack_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = {"f_frsize": 4096, "f_blocks": 2**31, "f_bfree": 2**30, "f_bavail": 2**30}
    found = SimpleNamespace(**blocks, f_favail=0, f_files=9)
    monkeypatch.setattr(disk.os, "statvfs", lambda _: found)
    says = "no more files fit: it has no free inodes"
    with pytest.raises(WorkspaceError, match=says), disk_explained(tmp_path):
        no_room()


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


def limited(limits: str, *arguments: object, **files: Any) -> subprocess.CompletedProcess[str]:
    """The command line in another process, with limits of the shell set first."""
    command = shlex.join(map(str, [*CLI, *arguments]))
    return subprocess.run(
        ["bash", "-c", f"{limits}; exec {command}"], text=True, **{"capture_output": True, **files}
    )


def is_one_message(done: subprocess.CompletedProcess[str], says: str, code: int = 5) -> None:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    assert re.search(says, done.stderr), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("kilobytes", [1, 17, 40])
def test_a_limit_on_the_size_of_files_is_said_and_what_is_left_is_not_taken_for_whole(
    bench: Any, kilobytes: int
) -> None:
    toy = bench(TOY.replace("n: 4", "n: 3000"))
    where = ("run", toy.file, "--workspace", toy.workspace.root)
    done = limited(f"ulimit -f {kilobytes}", *where)
    is_one_message(done, "File too large; .*ulimit -f")
    assert toy.run().state == "done"
    assert len(toy.rows(toy.run(), "numbers")) == 3000


@pytest.mark.parametrize("extra", [[], ["--log-format", "json"]])
def test_output_to_a_full_disk_is_one_message(bench: Any, extra: list[str]) -> None:
    toy = bench(TOY)
    where = ("--workspace", toy.workspace.root)
    with Path("/dev/full").open("w") as full:
        files = {"stdout": full, "stderr": subprocess.PIPE, "capture_output": False}
        done = limited(":", "run", toy.file, *where, *extra, **files)
        is_one_message(done, "the output cannot be written: No space left on device")
        done = limited(":", "stages", **files)
        is_one_message(done, "the output cannot be written: No space left on device")
    assert toy.run().state == "done"


def test_why_a_run_failed_is_said_though_the_output_is_on_a_full_disk(bench: Any) -> None:
    toy = bench("name: toy\nstages: {a: {stage: toy_rows, n: 0}, b: {stage: toy_map, rows: a}}\n")
    toy.run(until="a")
    with Path("/dev/full").open("w") as full:
        files = {"stdout": full, "stderr": full, "capture_output": False}
        where = ("run", toy.file, "--workspace", toy.workspace.root)
        assert limited(":", *where, **files).returncode == 5  # and nowhere to say why


def test_the_reason_of_the_store_is_the_disks(tmp_path: Path) -> None:
    """SQLite says "disk I/O error", whatever the reason."""
    script = (
        "from tests.engines.store.test_repair import *\n"
        f"fill(Path({str(tmp_path / 'c' / 'store.sqlite')!r}), 500, lambda _: 500)"
    )
    command = f"ulimit -f 100; exec {shlex.quote(sys.executable)} -c {shlex.quote(script)}"
    done = subprocess.run(["bash", "-c", command], text=True, capture_output=True, cwd=ROOT)
    assert re.search(r"OSError: \[Errno 27\] File too large: '.*store.sqlite'", done.stderr)


def may_not() -> str:
    """What takes root's right to read everything; nothing where that is not needed."""
    if os.geteuid() != 0:
        return ":"
    if shutil.which("setpriv") is None:
        pytest.skip("root reads what it may not, and there is no setpriv")
    return 'run() { exec setpriv --bounding-set=-dac_override,-dac_read_search "$@"; }'


PLACES = ["", "artifacts", "artifacts/numbers-*", "runs", "runs/toy", "runs/toy/*"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", ["run", "plan", "status", "report", "cache verify"])
def test_a_folder_that_may_not_be_entered_is_named(bench: Any, place: str, command: str) -> None:
    toy = bench(TOY)
    toy.run()
    before = {p.name for p in toy.workspace.artifacts.iterdir()}
    (folder,) = toy.workspace.root.glob(place) if place else (toy.workspace.root,)
    folder.chmod(0)
    words = [*CLI, *command.split(), *([toy.file] if command in ("run", "plan") else [])]
    try:
        setup = may_not()
        line = shlex.join(map(str, [*words, "--workspace", toy.workspace.root]))
        line = f"{setup}; {'' if setup == ':' else 'run '}{line}"
        done = subprocess.run(["bash", "-c", line], text=True, capture_output=True)
    finally:
        folder.chmod(0o755)
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert done.returncode == 5
        assert "ermission denied" in done.stdout + done.stderr or command == "cache verify"
    assert {p.name for p in toy.workspace.artifacts.iterdir()} >= before  # nothing is set aside
    assert toy.run().state == "done"
    assert toy.display.ran == []


@pytest.mark.parametrize(("name", "n_bytes"), [("a" * 201, 201), ("問" * 67, 201)])
def test_a_stages_name_that_makes_too_long_a_file_name_is_refused(
    bench: Any, cli: Any, name: str, n_bytes: int
) -> None:
    toy = bench(f"name: toy\nstages:\n  {name}: {{stage: toy_rows, n: 1}}\n")
    said = cli("validate", toy.file)
    assert said.code == 2
    assert f"has at most 200 bytes, as it is part of names of files; this one has {n_bytes}" in (
        said.err
    )
    toy.write(f"name: {'p' * 201}\nstages: {{a: {{stage: toy_rows}}}}\n")
    assert cli("validate", toy.file).code == 2


@pytest.mark.parametrize("name", ["a" * 200, "問" * 66])
def test_the_longest_names_run_are_damaged_and_run_again(bench: Any, name: str) -> None:
    toy = bench(f"name: {'p' * 200}\nstages:\n  {name}: {{stage: toy_rows, n: 1}}\n")
    toy.run()
    (toy.artifact(name) / "manifest.json").write_text("{}")
    assert toy.run().state == "done"
    assert toy.display.ran == [name]
    (toy.artifact(name) / "manifest.json").unlink()
    toy.run(force=(name,))


def test_a_network_file_system_is_told_by_the_nearest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/a / ext4 rw 0 0\nserver:/x /mnt/shared nfs4 rw 0 0\n"
        "/dev/b /mnt/shared/scratch xfs rw 0 0\nbox /mnt/my\\040share fuse.sshfs rw 0 0\n"
    )
    kinds = {
        "/mnt/shared/data": "nfs4",
        "/mnt/shared/scratch/data": None,
        "/mnt/sharedata": None,
        "/mnt/my share": "fuse.sshfs",
        "/home": None,
    }
    assert {at: network_file_system(Path(at), mounts) for at in kinds} == kinds
    assert network_file_system(Path("/"), tmp_path / "none") is None
