"""Artifacts: a dataset or a model on disk with a manifest that is written last.

An artifact is the folder `<workspace>/artifacts/<stage>-<12 hex of its fingerprint>`. It is put
together in another folder and renamed, so that whatever has this name is complete. The manifest has
every file's sha256 and its own: damage is noticed before anything is reused.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from llm_distill.digests import fingerprint
from llm_distill.doing import doing
from llm_distill.errors import WorkspaceError
from llm_distill.integrity import (
    FINGERPRINT_LENGTH,
    DamagedError,
    check_files,
    checked_manifest,
)
from llm_distill.manifest import MANIFEST, FileDigest, Manifest
from llm_distill.paths import file_digests
from llm_distill.runtime.disk import disk_error, sync, write_durably
from llm_distill.runtime.liveness import (
    DEAD_AFTER,
    SECONDS_BETWEEN_BEATS,
    Process,
    age,
    beating,
)

PROBE_BYTES = 16384  # an empty file can be made even on a full disk
# Files without rows that `datasets` writes with a random or machine-dependent part.
NOT_CONTENT = frozenset({"state.json", "dataset_info.json", "README.md"})


@dataclass(frozen=True)
class Artifact:
    """A complete artifact: where it is and what its manifest says."""

    path: Path
    manifest: Manifest


class Workspace:
    """The folder that holds artifacts and runs (`data/` unless the command line says otherwise)."""

    def __init__(self, root: Path) -> None:
        try:
            self.root = root.expanduser()  # a shell leaves the ~ of a quoted name as it is
        except RuntimeError as error:
            raise WorkspaceError(f"--workspace {root}: there is no such home folder") from error
        self.artifacts = self.root / "artifacts"
        self.work = self.artifacts / ".work"
        self.runs = self.root / "runs"
        self.tracking = self.root / "tracking"
        self.completions = self.root / "completions" / "store.sqlite"

    def prepare(self) -> None:
        """Create the folders.

        Raises:
            WorkspaceError: the workspace cannot be written to.
        """
        try:
            for folder in (self.work, self.artifacts / ".locks", self.runs):
                folder.mkdir(parents=True, exist_ok=True)
            probe = self.work / ".probe"
            write_durably(probe, " " * PROBE_BYTES)
            probe.unlink(missing_ok=True)  # another run may have been faster
        except OSError as error:
            what = f"cannot write to workspace {self.root}: "
            raise disk_error(error, self.root, what) or WorkspaceError(
                f"{what}{error}; choose another with --workspace DIR"
            ) from error

    def first_run(self, pipeline: str, *, note: bool = True) -> date:
        """The day on which a pipeline first ran here: today, if it is not noted yet.

        note: note it.
        """
        file = self.root / "dates" / pipeline
        try:
            return date.fromisoformat(file.read_text(encoding="utf-8").strip())
        except (OSError, ValueError):
            today = date.today()
        if note:
            file.parent.mkdir(exist_ok=True)
            write_durably(file, f"{today.isoformat()}\n")
        return today

    def address(self, stage: str, digest: str) -> str:
        return f"{stage}-{digest[:FINGERPRINT_LENGTH]}"

    def path(self, address: str) -> Path:
        return self.artifacts / address

    def pruned_place(self, address: str) -> Path:
        """Where the manifest of an artifact stays that was pruned; see `runtime.pruned`."""
        return self.artifacts / ".pruned" / address

    def work_dir(self, address: str) -> Path:
        """Where the artifact is put together; survives a kill, for training checkpoints."""
        return self.work / address

    def find(self, address: str, *, read_files: bool = True) -> Artifact | None:
        """The artifact, or None if there is none.

        read_files: False compares the files' sizes only, which is quick for large models too.

        Raises:
            DamagedError: it is there but does not agree with its manifest.
        """
        path = self.path(address)
        if not path.exists():
            return None
        artifact = Artifact(path, checked_manifest(path))
        _check_nothing_was_put_in(artifact)
        check_files(path, artifact.manifest, read_up_to=math.inf if read_files else -1)
        return artifact

    def latest(self, stage: str) -> Manifest | None:
        """The newest readable manifest of a stage name, to show what has changed since."""
        newest: Manifest | None = None
        for path in self.artifacts.glob(f"{stage}-*/{MANIFEST}"):
            if path.parent.name.rpartition("-")[0] != stage:
                continue
            try:
                manifest = checked_manifest(path.parent)
            except (DamagedError, OSError):
                continue
            if newest is None or manifest.created > newest.created:
                newest = manifest
        return newest

    @contextmanager
    def lock(self, address: str, on_wait: Callable[[str], None]) -> Iterator[None]:
        """Hold the artifact's lock, as whoever puts it together does.

        On one machine the system's lock decides: it is released if the process dies. Not every
        shared disk has locks that reach other machines, so a note of the holder lies beside it.

        on_wait: told who holds it before this waits for it; may raise to go without.
        """
        from filelock import FileLock, Timeout

        place = self.artifacts / ".locks" / f"{address}.lock"
        note = place.with_suffix(".holder")
        lock = FileLock(str(place))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait(_holder(note))
            lock.acquire()
        try:
            told = False
            while not _noted(note):
                if not told:
                    on_wait(_holder(note))
                told = True
                time.sleep(SECONDS_BETWEEN_BEATS / 3)
            try:
                with beating(note):
                    yield
            finally:
                note.unlink(missing_ok=True)
        finally:
            lock.release()

    def publish(self, address: str, directory: Path, said: Mapping[str, Any]) -> Artifact:
        """Write the manifest into `directory` and rename it into place.

        An artifact with the same address (of a forced run) is replaced.

        said: the manifest's fields, except for those of the files.
        """
        files = {
            name: FileDigest(sha256=digest, bytes=(directory / name).stat().st_size)
            for name, digest in file_digests(directory).items()
        }
        content = {n: f.sha256 for n, f in files.items() if Path(n).name not in NOT_CONTENT}
        manifest = Manifest(
            **said, content_digest=fingerprint(content), files=files, created=time.time()
        )
        write_durably(directory / MANIFEST, manifest.text())
        with doing("write to the disk"):
            for path in (*directory.rglob("*"), directory):
                sync(path)
        target = self.path(address)
        before = self.set_aside(target, "replaced") if target.exists() else None
        try:
            directory.rename(target)
        except BaseException:
            if before is not None and not target.exists():
                before.rename(target)
            raise
        sync(self.artifacts)
        if before is not None:  # only now: until the new one is in place, it is the only one
            shutil.rmtree(before, ignore_errors=True)
        shutil.rmtree(self.pruned_place(address), ignore_errors=True)
        return Artifact(target, manifest)

    def set_aside(self, path: Path, why: str) -> Path:
        """Move something out of the way; returns where to."""
        folder = self.artifacts / f".{why}"
        folder.mkdir(exist_ok=True)
        target = folder / f"{path.name}-{time.time_ns()}"
        path.rename(target)
        return target


def _noted(note: Path) -> bool:
    """Write down that this process holds a lock; False while one of another machine does.

    What a process of this machine left is written over: if it lived, it would hold the lock.
    """
    try:
        holder = Process.model_validate_json(note.read_bytes())
        is_held = not holder.is_here and holder.is_alive(note)
    except FileNotFoundError:
        is_held = False
    except ValueError:  # it is just being written, or was cut short by a kill
        is_held = age(note) < DEAD_AFTER
    if is_held:
        return False
    note.unlink(missing_ok=True)
    try:
        with note.open("x", encoding="utf-8") as file:
            file.write(Process.this().model_dump_json())
    except FileExistsError:  # another machine was faster
        return False
    return True


def _holder(note: Path) -> str:
    """Who holds a lock, for people."""
    try:
        holder = Process.model_validate_json(note.read_bytes())
    except (OSError, ValueError):
        return "another run"
    return f"another run (process {holder.pid} on {holder.host})"


READ_BY_NAME = (".arrow", ".jinja", ".json", ".model", ".safetensors", ".txt")
"""Endings of files that libraries read wherever they lie in a model's or a dataset's folder."""


def _check_nothing_was_put_in(artifact: Artifact) -> None:
    stated_names = {MANIFEST, *artifact.manifest.files}
    readable = (p for p in sorted(artifact.path.rglob("*")) if p.suffix in READ_BY_NAME)
    there = (str(path.relative_to(artifact.path)) for path in readable)
    surplus = [name for name in there if name not in stated_names]
    if surplus:  # not damage: to rebuild would cost what may have taken days
        raise WorkspaceError(
            f"{artifact.path / surplus[0]} was put into an artifact that was made without it, and "
            "would be read as a part of it; move it elsewhere"
        )


def directory_digest(path: Path) -> str:
    """One digest of a directory's files: the identity of a model, wherever it is."""
    digests = file_digests(path).items()
    return fingerprint({name: d for name, d in digests if Path(name).name not in NOT_CONTENT})
