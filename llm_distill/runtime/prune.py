"""Which artifacts and runs of a workspace can go, and their removal.

An artifact is needed by the runs that are kept: those that live, the newest of each pipeline (and
its newest that was finished), and those that the filters keep. What a run that lives may use stays
in any case.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from llm_distill.integrity import DamagedError, checked_manifest
from llm_distill.runtime.artifact import Artifact, Workspace
from llm_distill.runtime.disk import disk_explained
from llm_distill.runtime.pruned import keep_manifest
from llm_distill.runtime.record import RunRecord, runs_of, runs_written_since

SET_ASIDE = (".damaged", ".replaced", ".going")
"""Folders of what was moved out of the way; the last has what a prune that was killed left."""
DAY = 86_400.0
CLOCKS_DIFFER = 300.0
"""Seconds by which the clocks of a disk and of this machine may differ."""

Kind = Literal["artifact", "run", "set aside"]


@dataclass(frozen=True)
class Item:
    """Something that takes room.

    Attributes:
        used: When it was made or last used by a run; seconds since 1970.
        seconds, tokens, cost: What it took to make; the cost in the currency of servers' prices.
        last_of: In how many runs of each pipeline, counted from the newest, it first appears; None
            if no run has it.
        kept: Why it is kept whatever the filters say; empty if it is not.
        in_use: Whether a run that lives may use it.
    """

    kind: Kind
    name: str
    path: Path
    size: int
    used: float
    seconds: float = 0.0
    tokens: int = 0
    cost: float = 0.0
    last_of: int | None = None
    kept: str = ""
    in_use: bool = False


@dataclass(frozen=True)
class Filters:
    """What is to go: what all of those that are set say.

    Attributes:
        older_than: Seconds since it was last used.
        unused_by: Not used by so many of the newest runs of each pipeline.
        keep_size: Bytes; only as much goes as is above it.
        runs: The folders of runs too: record, logs, report.
        even_needed: What kept runs need too.
    """

    older_than: float | None = None
    unused_by: int | None = None
    keep_size: int | None = None
    runs: bool = False
    even_needed: bool = False


@dataclass(frozen=True)
class Chosen:
    """What goes. total: of all that was looked at. needed: what would go, but is needed."""

    items: Sequence[Item]
    total: int
    needed: Sequence[Item]

    @property
    def size(self) -> int:
        return sum(item.size for item in self.items)


def choose(items: Sequence[Item], filters: Filters, now: float) -> Chosen:
    """What goes by the filters. Pure.

    Args:
        items: All there is.
        filters: At least one of older_than, unused_by and keep_size is set.
        now: Seconds since 1970.

    Returns:
        The least recently used first; of one day, the largest first.
    """
    total = sum(item.size for item in items)
    order = sorted(items, key=lambda item: (item.used // DAY, -item.size, item.name))
    matching = [item for item in order if _matches(item, filters, now)]
    needed = [item for item in matching if item.in_use or (item.kept and not filters.even_needed)]
    free = [item for item in matching if item not in needed]
    if filters.keep_size is None:
        return Chosen(free, total, needed)
    left = total
    going: list[Item] = []
    for item in free:
        if left <= filters.keep_size:
            return Chosen(going, total, [])
        going.append(item)
        left -= item.size
    return Chosen(going, total, needed if left > filters.keep_size else [])


def look(workspace: Workspace, filters: Filters, now: float) -> list[Item]:
    """All artifacts, runs and what was set aside, and which of it is needed."""
    runs = list(_runs(workspace))
    kept = _kept(runs, filters, now)
    in_use = names_in_use(record for _, record in runs)
    needed: dict[str, str] = {}
    used: dict[str, float] = {}
    last_of: dict[str, int] = {}
    for position, record in runs:
        for stage in record.stages.values():
            if stage.artifact is None:
                continue
            used[stage.artifact] = max(used.get(stage.artifact, 0.0), record.started)
            last_of[stage.artifact] = min(last_of.get(stage.artifact, position), position)
            if record.name in kept:
                needed.setdefault(stage.artifact, record.name)
    found = []
    for item in _artifacts(workspace):
        found.append(
            replace(
                item,
                used=max(item.used, used.get(item.name, 0.0)),
                last_of=last_of.get(item.name),
                kept=f"needed by {needed[item.name]}" if item.name in needed else "",
                in_use=_stage_of(item.name) in in_use,
            )
        )
    found += _set_aside(workspace)
    if filters.runs:
        for position, record in runs:
            why = "one of the newest of its pipeline" if record.name in kept else ""
            is_live = record.state == "running"
            size, _ = _size(record.directory)
            found.append(
                Item(
                    kind="run",
                    name=record.name,
                    path=record.directory,
                    size=size,
                    used=record.started,
                    last_of=position,
                    kept=why,
                    in_use=is_live,
                )
            )
    return found


def remove(
    items: Iterable[Item], workspace: Workspace, looked: float
) -> Iterator[tuple[Item, str]]:
    """Remove them, one by one; with each, why it was left after all, or nothing.

    looked: when `look` began; seconds since 1970.

    An artifact is moved away before it is deleted, so that no run finds half of it; if a run has
    begun meanwhile that may use it, it is moved back.

    Raises:
        WorkspaceError: the disk refuses.
    """
    with disk_explained(workspace.root):
        for item in items:
            if item.kind != "artifact":
                shutil.rmtree(item.path, ignore_errors=True)
                yield item, ""
                continue
            try:
                with workspace.lock(item.name, _not_waiting):
                    yield item, _remove_artifact(item, workspace, looked)
            except BusyError:
                yield item, "a run is working on it"


class BusyError(Exception):
    """A run holds the artifact's lock."""


def names_in_use(runs: Iterable[RunRecord]) -> set[str]:
    """The stages of runs that live: any artifact of theirs may be used at any moment."""
    return {name for record in runs if record.state == "running" for name in record.stages}


def _remove_artifact(item: Item, workspace: Workspace, looked: float) -> str:
    if not item.path.exists():
        return "it is gone already"
    with suppress(DamagedError):
        keep_manifest(Artifact(item.path, checked_manifest(item.path)), workspace)
    going = workspace.set_aside(item.path, "going")
    since = looked - CLOCKS_DIFFER
    if _stage_of(item.name) in names_in_use(runs_written_since(workspace, since)):
        going.rename(item.path)
        shutil.rmtree(workspace.pruned_place(item.name), ignore_errors=True)
        return "a run that has begun meanwhile may use it"
    shutil.rmtree(going)
    return ""


def _matches(item: Item, filters: Filters, now: float) -> bool:
    if filters.older_than is not None and now - item.used < filters.older_than:
        return False
    return not (
        filters.unused_by is not None
        and item.last_of is not None
        and item.last_of < filters.unused_by
    )


def _kept(runs: Sequence[tuple[int, RunRecord]], filters: Filters, now: float) -> set[str]:
    """The names of runs that are kept."""
    kept: set[str] = set()
    finished: set[str] = set()
    for position, record in runs:  # of each pipeline the newest first
        pipeline = record.name.partition("/")[0]
        newest_finished = record.is_plain_and_finished and pipeline not in finished
        if newest_finished:
            finished.add(pipeline)
        young = filters.older_than is not None and now - record.started < filters.older_than
        last = position < max(1, filters.unused_by or 0)
        if newest_finished or young or last or record.state == "running":
            kept.add(record.name)
    return kept


def _runs(workspace: Workspace) -> Iterator[tuple[int, RunRecord]]:
    """(how many newer ones of its pipeline there are, run); the newest first.

    A sweep's runs are not counted as newer than one outside of sweeps: a sweep of ten runs must not
    make the model that is used the eleventh.
    """
    if not workspace.runs.is_dir():
        return
    for folder in sorted(workspace.runs.iterdir()):
        if folder.is_dir():
            n_plain = 0
            for position, record in enumerate(runs_of(workspace, folder.name)):
                yield (position if record.sweep is not None else n_plain), record
                n_plain += record.sweep is None


def _artifacts(workspace: Workspace) -> Iterator[Item]:
    if not workspace.artifacts.is_dir():
        return
    for path in sorted(workspace.artifacts.iterdir()):
        if path.name.startswith(".") or not path.is_dir():
            continue
        size, changed = _size(path)
        try:
            made = checked_manifest(path)
        except (DamagedError, OSError):
            yield Item("artifact", path.name, path, size, changed)
            continue
        yield Item(
            "artifact",
            path.name,
            path,
            size,
            made.created,
            seconds=made.seconds,
            tokens=made.tokens_out,
            cost=made.cost,
        )


def _set_aside(workspace: Workspace) -> Iterator[Item]:
    for name in SET_ASIDE:
        for path in sorted((workspace.artifacts / name).glob("*")):
            size, changed = _size(path)
            yield Item("set aside", f"{name}/{path.name}", path, size, changed)


def _size(folder: Path) -> tuple[int, float]:
    """Bytes of all files, and when one of them last changed."""
    size, changed = 0, 0.0
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):
            found = path.lstat()
            size += found.st_size if not path.is_dir() else 0
            changed = max(changed, found.st_mtime)
    return size, changed


def _stage_of(address: str) -> str:
    return address.rpartition("-")[0]


def _not_waiting(holder: str) -> None:
    raise BusyError(holder)
