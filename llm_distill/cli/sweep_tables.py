"""A sweep's figures as tables for the terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from llm_distill.cli.display import make_table
from llm_distill.methods.statistics import Estimate
from llm_distill.report.sweep_cells import columns, groups
from llm_distill.sweeps.figures import Mean, Row
from llm_distill.sweeps.outcomes import SweepFile


def tables(rows: Sequence[Row], where: Sequence[str] = ()) -> Iterator[Table]:
    """A table for each stage and kind of figure."""
    for title, own in groups(rows):
        names, right, cells = columns(own)
        suffix = f", where {' and '.join(where)}" if where else ""
        table = make_table(*map(escape, names), right=right, title=escape(title + suffix))
        for row in cells:
            table.add_row(*map(escape, row))
        yield table


def as_json(
    file: SweepFile, rows: Iterable[Row], notes: Sequence[str], path: Path | None
) -> dict[str, Any]:
    """All figures as plain values."""
    return {
        "file": None if path is None else str(path),
        "pipeline": file.pipeline,
        "profile": file.profile,
        "runs": [
            {
                "seed": run.seed,
                "settings": run.settings,
                "state": run.state,
                "run": run.run,
                "why": run.why,
            }
            for run in file.runs
        ],
        "figures": [
            {
                "settings": dict(row.settings),
                "stage": row.stage,
                "labels": dict(row.labels),
                "kind": row.kind,
                **_mean(row.mean),
                "baseline": row.baseline or None,
                "difference": None if row.difference is None else _mean(row.difference),
            }
            for row in rows
        ],
        "notes": list(notes),
    }


def _mean(mean: Mean) -> dict[str, Any]:
    return {
        "value": mean.value,
        "over_seeds": _ends(mean.over_seeds),
        "over_seeds_and_items": _ends(mean.over_both),
        "seeds": list(mean.seeds),
        "n_items": mean.n_items,
    }


def _ends(found: Estimate | None) -> list[float] | None:
    return None if found is None else [found.low, found.high]
