"""What `cache stats`, `cache prune` and `cache verify` do, above all with the completion store."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from rich.markup import escape

from llm_distill.cli.display import console, make_table, showing
from llm_distill.cli.folding import FoldingTable
from llm_distill.doing import doing
from llm_distill.engines.store.file import connect, is_damage, store_error
from llm_distill.engines.store.repair import mend, problems
from llm_distill.errors import ConfigError, WorkspaceError, counted, nearest, sized
from llm_distill.hints import Given
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.disk import disk_explained

SECONDS_A_DAY = 86_400
HOW = "; add --yes to do so"
PER_MODEL = """
SELECT models.name, count(*), sum(truncated_at > 0), sum(n_prompt_tokens),
       sum(n_completion_tokens), sum(cost), max(created)
FROM completions LEFT JOIN models ON models.id = completions.model
GROUP BY completions.model ORDER BY count(*) DESC
"""


def stats_command(root: Path) -> None:
    """Show a line per model, and the size of the file."""
    path = _existing(root)
    out = console()
    with _opened(path, root) as db, showing(out), doing("count what is kept"):
        rows = db.execute(PER_MODEL).fetchall()
    out.print(_stats(rows))
    out.print(f"{escape(str(path))}: {sized(_size(path))}")


def _stats(rows: Sequence[Sequence[Any]]) -> FoldingTable:
    """rows: of PER_MODEL."""
    right = ("completions", "cut", "tokens read", "tokens written", "cost", "newest")
    table = make_table("model", right=right)
    for name, count, cut, read, written, cost, newest in rows:
        day = time.strftime("%Y-%m-%d", time.localtime(newest))
        paid = f"{cost:,.2f}" if cost else ""
        figures = (f"{count:,}", f"{cut:,}", f"{read:,}", f"{written:,}", paid, day)
        table.add_row(escape(name or "unknown"), *figures)
    return table


def prune_command(root: Path, model: str | None, older_than: float | None, *, delete: bool) -> None:
    """Delete what was chosen; without `delete`, say how much that would be.

    By age alone, what stopped stages left is chosen too.

    Raises:
        ConfigError: nothing was chosen, or no model has this name.
    """
    if model is None and older_than is None:
        raise ConfigError("cache prune: say what to delete with --model NAME, --older-than DAYS")
    before = time.time() + 1 if older_than is None else time.time() - older_than * SECONDS_A_DAY
    workspace = Workspace(root)
    there_was_some = model is None and _prune_unfinished(workspace, before, delete=delete)
    if there_was_some and not workspace.completions.is_file():
        return
    path = _existing(root)
    chosen = "WHERE created < ?"
    values: list[float | str] = [before]
    out = console()
    with _opened(path, root) as db:
        if model is not None:
            names = {name for (name,) in db.execute("SELECT name FROM models")}
            if model not in names:
                raise ConfigError(
                    f"--model {model}: nothing of it is kept; {nearest(model, names)}"
                )
            chosen += " AND model IN (SELECT id FROM models WHERE name = ?)"
            values.append(model)
        (count,) = db.execute(f"SELECT count(*) FROM completions {chosen}", values).fetchone()
        if not delete:
            out.print(f"{counted(count, 'completion')} would be deleted{HOW}")
            return
        size = _size(path)
        with showing(out), doing("delete, and make the file smaller"):
            db.execute(f"DELETE FROM completions {chosen}", values)
            db.execute("DELETE FROM models WHERE id NOT IN (SELECT model FROM completions)")
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    out.print(
        f"{counted(count, 'completion')} deleted; the file had {sized(size)}, and has "
        f"{sized(_size(path))} now"
    )


def _prune_unfinished(workspace: Workspace, before: float, *, delete: bool) -> bool:
    """Delete or count what stopped stages left: half-written rows, checkpoints of a training.

    A run with the same settings resumes from it; after a change of settings none ever will. What a
    run is working on is skipped: it holds the artifact's lock.

    Args:
        before: seconds since 1970; only what has not changed since then.

    Returns:
        Whether there was any.
    """
    n_stages = n_bytes = 0
    with disk_explained(workspace.root):
        for folder in sorted(workspace.work.glob("*/")):
            try:
                with workspace.lock(folder.name, _not_waiting):
                    found = [path.lstat() for path in (folder, *folder.rglob("*"))]
                    if max(each.st_mtime for each in found) >= before:
                        continue
                    n_stages += 1
                    n_bytes += sum(each.st_size for each in found)
                    if delete:
                        shutil.rmtree(folder)
            except (
                BusyError,
                FileNotFoundError,
            ):  # a run is working on it, or has just published it
                continue
    if n_stages:
        what = f"what {counted(n_stages, 'stopped stage')} left, {sized(n_bytes)},"
        console().print(f"{what} {'is' if delete else 'would be'} deleted{'' if delete else HOW}")
    return n_stages > 0


class BusyError(Exception):
    """A run is working on the artifact."""


def _not_waiting(holder: str) -> None:
    raise BusyError(holder)


def verify_command(root: Path, *, repair: bool) -> None:
    """Check every page and every completion.

    Raises:
        WorkspaceError: something is wrong and `repair` was not asked for.
    """
    path = _existing(root)
    out = console()
    with showing(out), doing("read every completion"):
        found = problems(path)
    if not found:
        out.print(f"{escape(str(path))}: nothing is wrong with it")
    elif repair:
        with showing(out), doing("save what can be read"):
            mended = mend(path)
        out.print(escape(mended))
    else:
        raise WorkspaceError(
            f"{path} is damaged ({'; '.join(found[:3])}); the next run repairs it, as does: "
            f"{_repair(root)}"
        )


def _existing(root: Path) -> Path:
    path = Workspace(root).completions
    if not path.is_file():
        raise WorkspaceError(
            f"there is no completion store in workspace {root} ({path}); runs that generate make it"
        )
    return path


@contextmanager
def _opened(path: Path, root: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(connect(path)) as db:
            yield db
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise WorkspaceError(
                f"{path} is damaged ({error}); to repair it: {_repair(root)}"
            ) from error
        raise store_error(error, path) from error


def _repair(root: Path) -> str:
    return Given(workspace=str(root)).command("cache", "verify", "--repair")


def _size(path: Path) -> int:
    parts = [path, path.with_name(f"{path.name}-wal")]
    return sum(part.stat().st_size for part in parts if part.exists())
