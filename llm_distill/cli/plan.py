"""What `plan` shows: what would run and why, what it takes, and what would stop it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llm_distill.cli.display import console, make_table, quiet_libraries, say, showing
from llm_distill.cli.run import show_before
from llm_distill.doing import doing
from llm_distill.errors import sized
from llm_distill.hints import Given
from llm_distill.manifest import Manifest
from llm_distill.pipeline.load import load_pipeline
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.estimate import Estimate
from llm_distill.runtime.needs import Memory
from llm_distill.runtime.plan import Decision, Selection
from llm_distill.runtime.planned import Planned, planned

NO_TOKENIZER = "*"
"""Marks prompts whose tokens were not counted."""


def plan_command(
    file: str,
    profile: str | None,
    assignments: Sequence[str],
    *,
    selection: Selection,
    root: Path,
    as_json: bool = False,
    deep: bool = False,
) -> None:
    """Show what `run` would do now.

    deep: ask servers for their models too, with their keys.

    Raises:
        LLMDistillError: with all that would stop it, after the rest is shown.
    """
    quiet_libraries()
    Given(file, profile, assignments, str(root)).remember()
    pipeline = load_pipeline(file, profile=profile, assignments=assignments)
    out = Console(stderr=True, highlight=False, soft_wrap=True) if as_json else console()
    if deep:
        show_before(out, pipeline)
    with showing(out), doing("look at what is there"):
        found = planned(pipeline, Workspace(root), selection, asks_servers=deep)
    if as_json:
        print(json.dumps(found.as_json(), indent=1))
    else:
        out.print(_what_runs(found.decisions))
        n_to_run = len(found.sizes)
        for ended in found.ended:
            out.print(ended.told, markup=False)
        out.print(f"{n_to_run} to run, {len(found.decisions) - n_to_run} to reuse")
        if found.sizes:
            out.print(_what_it_takes(found))
            for line in _notes(found):
                out.print(line, markup=False)
        if not deep and show_before(out, pipeline):
            out.print("servers are not asked for their models here: run, and plan --deep, do so")
        for warning in found.preflight.warnings:
            say(warning, out)
    refused = found.preflight.error(pipeline)
    if refused is not None:
        raise refused


def _what_runs(decisions: Sequence[Decision]) -> Table:
    table = make_table("stage", "action", "why")
    for decision in decisions:
        style = "dim" if decision.action == "reuse" else "bold"
        action = f"[{style}]{decision.action}[/{style}]"
        table.add_row(decision.name, action, escape(decision.why))
    return table


def _what_it_takes(found: Planned) -> Table:
    """A line for each stage that asks or holds a model, or that has run before; and the total.

    Without the columns that nothing is in.
    """
    right = ("requests", "prompt tokens", "written", "cost", "memory", "disk", "time", "last time")
    rows: list[tuple[str, ...]] = []
    for name, size in found.sizes.items():
        needs = found.needs(name)
        cells = (
            "?" if size.requests is None else f"{size.requests:,}" if size.requests else "",
            _prompts(size),
            f"{size.tokens:,}" if size.tokens else "",
            f"{size.cost:.4g}" if size.cost else "",
            _memory(needs.largest),
            _bytes(needs.disk),
            _time(size.seconds),
            _took(size.last),
        )
        if any(cells):
            rows.append((name, *cells))
    total = found.total()
    in_all = (
        "in all",
        f"{total['most_requests']:,}"
        + " + ?" * any(s.requests is None for s in found.sizes.values()),
        f"{total['prompt_tokens']:,}" if total["prompt_tokens"] else "",
        f"{total['most_written_tokens']:,}" if total["most_written_tokens"] else "",
        f"{total['most_cost']:.4g}" if total["most_cost"] else "",
        _bytes(total["memory_bytes_per_device"]),
        _bytes(total["disk_bytes"]),
        _time(total["most_seconds"]),
        "",
    )
    filled = [n for n in range(1, len(right) + 1) if any(row[n] for row in rows)]
    table = make_table("at most", right=[right[n - 1] for n in filled])
    for row in rows:
        table.add_row(row[0], *(row[n] for n in filled))
    table.add_section()
    table.add_row(in_all[0], *(in_all[n] for n in filled))
    return table


def _notes(found: Planned) -> list[str]:
    """What the figures leave out."""
    sizes = found.sizes
    notes = []
    unknown = [name for name, size in sizes.items() if size.requests is None]
    if unknown:
        notes.append(f"how much is not known before other stages have run: {', '.join(unknown)}")
    unread = [n for n, size in sizes.items() if size.requests and size.prompt_tokens is None]
    if unread:
        notes.append(f"prompts are not in it, as their rows are not there yet: {', '.join(unread)}")
    if any(size.prompts_by == "characters" for size in sizes.values()):
        notes.append(f"{NO_TOKENIZER} no tokenizer here: a token is taken as 4 characters")
    largest = [(n, m) for n in sizes if (m := found.needs(n).largest) is not None and m.parts]
    if largest:
        name, memory = max(largest, key=lambda found: found[1].on_each)
        parts = " + ".join(f"{_bytes(size)} {part}" for part, size in memory.parts.items())
        notes.append(f"memory: at least, on each device, without activations; {name}: {parts}")
    if any(size.seconds for size in sizes.values()):
        notes.append("time: at the speed of the last time, where there was one")
    return notes


def _prompts(size: Estimate) -> str:
    if size.prompt_tokens is None:
        return ""
    return f"{size.prompt_tokens:,}{NO_TOKENIZER if size.prompts_by == 'characters' else ''}"


def _memory(memory: Memory | None) -> str:
    """`8 GPUs × 16.1 GB`."""
    if memory is None:
        return ""
    what: str = memory.kind or "device"
    if memory.devices > 1:
        what = f"{memory.devices} {'GPUs' if memory.kind == 'GPU' else 'processes'}"
    return f"{what} × {_bytes(memory.on_each)}" if memory.on_each else f"{what} × ?"


def _bytes(n: int | None) -> str:
    return sized(n) if n else ""


def _time(seconds: float | None) -> str:
    if not seconds:
        return ""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _took(last: Manifest | None) -> str:
    if last is None:
        return ""
    tokens = f", {last.tokens_out:,} tokens" if last.tokens_out else ""
    cost = f", {last.cost:.4g}" if last.cost else ""
    return f"{last.seconds:.0f} s{tokens}{cost}"
