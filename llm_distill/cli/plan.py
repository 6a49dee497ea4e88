"""What `plan` shows: what would run and why, what it takes, and what would stop it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llm_distill.cli.display import console, make_table, quiet_libraries, say, showing
from llm_distill.cli.run import show_before
from llm_distill.doing import doing
from llm_distill.hints import Given
from llm_distill.manifest import Manifest
from llm_distill.models.size import sized
from llm_distill.pipeline.load import load_pipeline
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.disk import disk_explained
from llm_distill.runtime.estimate import Estimate, estimates, sampled_prompts
from llm_distill.runtime.hardware import this_machine
from llm_distill.runtime.needs import Memory, Needs, NeedsOf
from llm_distill.runtime.plan import Decision, Selection, plan, planning
from llm_distill.runtime.preflight import Preflight, preflight

NO_TOKENIZER = "*"
"""Marks prompts whose tokens were not counted."""


@dataclass(frozen=True)
class Planned:
    """All that is known before a run. sizes, and the needs of `found`: of what is to run."""

    decisions: Sequence[Decision]
    sizes: Mapping[str, Estimate]
    found: Preflight

    def needs(self, name: str) -> Needs:
        return self.found.needs.get(name, Needs())


def plan_command(
    file: str,
    profile: str | None,
    assignments: Sequence[str],
    *,
    selection: Selection,
    root: Path,
    as_json: bool = False,
) -> None:
    """Show what `run` would do now.

    Raises:
        LLMDistillError: with all that would stop it, after the rest is shown.
    """
    quiet_libraries()
    Given(file, profile, assignments, str(root)).remember()
    pipeline = load_pipeline(file, profile=profile, assignments=assignments)
    workspace = Workspace(root)
    resolver = planning(pipeline, workspace)
    out = Console(stderr=True, highlight=False, soft_wrap=True) if as_json else console()
    with disk_explained(workspace.root), showing(out), doing("look at what is there"):
        decisions = list(plan(pipeline, workspace, selection, resolver=resolver))
        folder_of = NeedsOf(pipeline, resolver.ready, this_machine()).folder
        prompts = sampled_prompts(decisions, resolver, folder_of)
        sizes = estimates(decisions, pipeline, workspace, prompts)
        found = preflight(decisions, resolver, workspace, selection.must_be_ready(pipeline))
    planned = Planned(decisions, sizes, found)
    refused = found.error(pipeline)
    if as_json:
        print(json.dumps(_as_json(planned, found.listed(pipeline).found), indent=1))
    else:
        out.print(_what_runs(decisions))
        out.print(f"{len(sizes)} to run, {len(decisions) - len(sizes)} to reuse")
        if sizes:
            out.print(_what_it_takes(planned))
            for line in _notes(planned):
                out.print(line, markup=False)
        show_before(out, pipeline)
        for warning in found.warnings:
            say(warning, out)
    if refused is not None:
        raise refused


def _what_runs(decisions: Sequence[Decision]) -> Table:
    table = make_table("stage", "action", "why")
    for decision in decisions:
        style = "dim" if decision.action == "reuse" else "bold"
        action = f"[{style}]{decision.action}[/{style}]"
        table.add_row(decision.name, action, escape(decision.why))
    return table


def _what_it_takes(planned: Planned) -> Table:
    """A line for each stage that asks or holds a model, or that has run before; and the total.

    Without the columns that nothing is in.
    """
    right = ("requests", "prompt tokens", "written", "cost", "memory", "disk", "time", "last time")
    rows: list[tuple[str, ...]] = []
    for name, size in planned.sizes.items():
        needs = planned.needs(name)
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
    total = _total(planned)
    in_all = (
        "in all",
        f"{total['most_requests']:,}"
        + " + ?" * any(s.requests is None for s in planned.sizes.values()),
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


def _notes(planned: Planned) -> list[str]:
    """What the figures leave out."""
    sizes = planned.sizes
    notes = []
    unknown = [name for name, size in sizes.items() if size.requests is None]
    if unknown:
        notes.append(f"how much is not known before other stages have run: {', '.join(unknown)}")
    unread = [n for n, size in sizes.items() if size.requests and size.prompt_tokens is None]
    if unread:
        notes.append(f"prompts are not in it, as their rows are not there yet: {', '.join(unread)}")
    if any(size.prompts_by == "characters" for size in sizes.values()):
        notes.append(f"{NO_TOKENIZER} no tokenizer here: a token is taken as 4 characters")
    largest = [(n, m) for n in sizes if (m := planned.needs(n).largest) is not None and m.parts]
    if largest:
        name, memory = max(largest, key=lambda found: found[1].on_each)
        parts = " + ".join(f"{_bytes(size)} {part}" for part, size in memory.parts.items())
        notes.append(f"memory: at least, on each device, without activations; {name}: {parts}")
    if any(size.seconds for size in sizes.values()):
        notes.append("time: at the speed of the last time, where there was one")
    return notes


def _total(planned: Planned) -> dict[str, Any]:
    """Of what is known. GPUs and memory are the most at one time."""
    sizes = list(planned.sizes.values())
    needs = [planned.needs(name) for name in planned.sizes]
    largest = [n.largest.on_each for n in needs if n.largest is not None]
    seconds = [size.seconds for size in sizes if size.seconds is not None]
    disk = sum(n.output or 0 for n in needs) + max((n.checkpoints or 0 for n in needs), default=0)
    return {
        "stages_to_run": len(sizes),
        "stages_of_unknown_requests": sum(size.requests is None for size in sizes),
        "most_requests": sum(size.requests or 0 for size in sizes),
        "most_written_tokens": sum(size.tokens or 0 for size in sizes),
        "prompt_tokens": sum(size.prompt_tokens or 0 for size in sizes),
        "most_cost": sum(size.cost or 0 for size in sizes),
        "gpus": max((n.gpus for n in needs), default=0),
        "memory_bytes_per_device": max(largest, default=None),
        "disk_bytes": disk or None,
        "most_seconds": sum(seconds) if seconds else None,
    }


def _as_json(planned: Planned, problems: Sequence[str]) -> dict[str, Any]:
    """null: not known, or not before other stages have run."""
    return {
        "stages": [_stage_as_json(decision, planned) for decision in planned.decisions],
        "total": _total(planned),
        "problems": list(problems),
        "warnings": list(planned.found.warnings),
    }


def _stage_as_json(decision: Decision, planned: Planned) -> dict[str, Any]:
    found: dict[str, Any] = {
        "stage": decision.name,
        "action": decision.action,
        "why": decision.why,
    }
    size = planned.sizes.get(decision.name)
    if size is None:
        return found
    needs, last = planned.needs(decision.name), size.last
    largest = needs.largest
    return found | {
        "most_requests": size.requests,
        "most_written_tokens": size.tokens,
        "prompt_tokens": size.prompt_tokens,
        "prompt_tokens_counted_by": size.prompts_by,
        "most_cost": size.cost,
        "gpus": needs.gpus,
        "devices": largest and largest.devices,
        "memory_bytes_per_device": largest and largest.on_each,
        "memory_parts_bytes": largest and dict(largest.parts),
        "disk_model_bytes": needs.output,
        "disk_checkpoints_bytes": needs.checkpoints,
        "most_seconds": size.seconds,
        "last_seconds": last and last.seconds,
        "last_written_tokens": last and last.tokens_out,
        "last_prompt_tokens": last and last.tokens_in,
        "last_cost": last and last.cost,
        "last_disk_bytes": last and sum(file.bytes for file in last.files.values()),
    }


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
