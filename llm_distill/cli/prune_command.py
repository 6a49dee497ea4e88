"""What `llm-distill prune` does: show what would go, and delete it where it is asked to."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from llm_distill.cli.display import console, make_table
from llm_distill.errors import ConfigError, WorkspaceError, counted, sized
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.disk import disk_explained
from llm_distill.runtime.prune import DAY, Chosen, Filters, Item, choose, look, remove

AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([hdw]?)", re.ASCII)
HOUR = 3600.0
SECONDS = {"h": HOUR, "d": DAY, "": DAY, "w": 7 * DAY}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT])(i?)B", re.ASCII | re.IGNORECASE)
POWER = {"k": 1, "m": 2, "g": 3, "t": 4}
MOST_SHOWN = 40


def prune_command(root: Path, filters: Filters, *, delete: bool, as_json: bool = False) -> None:
    """Show what would go, or delete it and say what was left after all.

    Raises:
        WorkspaceError: there is no workspace, or the disk refuses.
    """
    workspace = Workspace(root)
    if not workspace.artifacts.is_dir() and not workspace.runs.is_dir():
        raise WorkspaceError(
            f"there are no artifacts and no runs in workspace {root}; name another with --workspace"
        )
    now = time.time()
    with disk_explained(workspace.root):
        chosen = choose(look(workspace, filters, now), filters, now)
    out = Console(stderr=True, highlight=False) if as_json else console()
    left: list[tuple[Item, str]] = []
    if delete:
        for item, why in remove(chosen.items, workspace, now):
            if why:
                left.append((item, why))
    gone = [item for item in chosen.items if item.name not in {each.name for each, _ in left}]
    if as_json:
        print(json.dumps(_as_json(chosen, gone if delete else [], left, delete), indent=1))
        return
    _show(chosen, filters, now, out)
    if delete:
        out.print(f"deleted: {_with_size(gone)}")
        for item, why in left:
            out.print(f"left: {escape(item.name)}: {why}")
    elif chosen.items:
        out.print("nothing is deleted; add --yes to do so")


def read_age(text: str) -> float:
    """`30d` in seconds.

    Raises:
        ConfigError: it is no age.
    """
    found = AGE.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"--older-than {text}: expected an age, such as 30d, 12h or 2w")
    return float(found[1]) * SECONDS[found[2]]


def read_size(text: str) -> int:
    """`100GB` in bytes: 1 GB has 1000 MB, 1 GiB has 1024 MiB.

    Raises:
        ConfigError: it is no size.
    """
    if text.strip() == "0":
        return 0
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"--keep-size {text}: expected a size, such as 100GB, 500MB or 20GiB")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** POWER[found[2].lower()])


def _show(chosen: Chosen, filters: Filters, now: float, out: Console) -> None:
    if chosen.items:
        right = ("size", "last used", "seconds", "tokens", "cost")
        table = make_table("what", "", right=right)
        for item in chosen.items[:MOST_SHOWN]:
            table.add_row(escape(item.name), item.kind, *_cells(item, now))
        rest = chosen.items[MOST_SHOWN:]
        if rest:
            table.add_row(f"and {len(rest)} more", "", sized(sum(i.size for i in rest)))
        table.add_section()
        items = chosen.items
        cost = sum(item.cost for item in items)
        table.add_row(
            "in all",
            "",
            sized(chosen.size),
            "",
            f"{sum(item.seconds for item in items):,.0f}",
            f"{sum(item.tokens for item in items):,}",
            f"{cost:,.2f}" if cost else "",
        )
        out.print(table)
        out.print(
            "seconds, tokens and cost: what it took to make; completions are kept, so that what "
            "servers wrote is not paid for again"
        )
    else:
        out.print("nothing is to go")
    after = chosen.total - chosen.size
    out.print(f"{sized(chosen.total)} before, {sized(after)} after")
    if filters.keep_size is not None and after > filters.keep_size:
        out.print(f"that is more than --keep-size {sized(filters.keep_size)}")
    live = [item for item in chosen.needed if item.in_use]
    if live:
        out.print(f"kept: {_with_size(live)}, as a run is at work that may use it")
    others = [item for item in chosen.needed if not item.in_use]
    if others:
        first = f"{others[0].name} is {others[0].kept}"
        out.print(
            f"kept: {_with_size(others)}, as runs that are kept need it, such as {escape(first)}; "
            "--even-needed chooses it too"
        )


def _with_size(items: Sequence[Item]) -> str:
    return f"{_counted(items)}, {sized(sum(item.size for item in items))}"


def _cells(item: Item, now: float) -> tuple[str, ...]:
    return (
        sized(item.size),
        _ago(max(0.0, now - item.used)),
        f"{item.seconds:,.0f}" if item.kind == "artifact" else "",
        f"{item.tokens:,}" if item.tokens else "",
        f"{item.cost:,.2f}" if item.cost else "",
    )


def _counted(items: Sequence[Item]) -> str:
    """`3 artifacts and 1 run`."""
    nouns = {"artifact": "artifact", "run": "run", "set aside": "folder"}
    found = []
    for kind, noun in nouns.items():
        n = sum(item.kind == kind for item in items)
        if n:
            found.append(counted(n, noun) + (" set aside" if kind == "set aside" else ""))
    return " and ".join(found) or "nothing"


def _as_json(
    chosen: Chosen, gone: Sequence[Item], left: Sequence[tuple[Item, str]], delete: bool
) -> dict[str, Any]:
    def plain(item: Item) -> dict[str, Any]:
        return {
            "kind": item.kind,
            "name": item.name,
            "bytes": item.size,
            "last_used": item.used,
            "seconds": item.seconds,
            "tokens": item.tokens,
            "cost": item.cost,
        }

    return {
        "total_bytes": chosen.total,
        "chosen": [plain(item) for item in chosen.items],
        "deleted": [item.name for item in gone],
        "left": [{"name": item.name, "why": why} for item, why in left],
        "needed": [{**plain(item), "why": item.kept or "in use"} for item in chosen.needed],
        "dry_run": not delete,
    }


def _ago(seconds: float) -> str:
    """`3 h ago`, `12 days ago`."""
    if seconds < HOUR:
        return f"{seconds / 60:.0f} min ago"
    return f"{seconds / HOUR:.0f} h ago" if seconds < 2 * DAY else f"{seconds / DAY:.0f} days ago"
