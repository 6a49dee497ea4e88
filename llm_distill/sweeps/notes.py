"""What a reader of a sweep's figures must know: what is missing, and what intervals leave out."""

from __future__ import annotations

from collections.abc import Sequence

from llm_distill.errors import counted
from llm_distill.sweeps.figures import Row
from llm_distill.sweeps.grid import described
from llm_distill.sweeps.merge import of_run
from llm_distill.sweeps.outcomes import SweepFile

MANY = 3
"""From so many figures that are compared on, the best of them is mentioned."""


def notes(file: SweepFile, rows: Sequence[Row]) -> list[str]:
    """Sentences, each on a line of its own."""
    return [*_missing(file), *_intervals(rows), *_chosen(rows)]


def _missing(file: SweepFile) -> list[str]:
    found = []
    for outcome in file.runs:
        if outcome.state == "failed":
            first = outcome.why.splitlines()[0] if outcome.why else "no reason is known"
            found.append(f"failed, and not in any figure: {of_run(outcome)}: {first}")
    done: dict[str, set[int]] = {}
    for outcome in file.runs:
        seeds = done.setdefault(outcome.setting, set())
        if outcome.state == "done":
            seeds.add(outcome.seed)
    every = set().union(*done.values()) if done else set()
    for setting, seeds in done.items():
        if seeds != every:
            values = next(run.settings for run in file.runs if run.setting == setting)
            left = ", ".join(map(str, sorted(every - seeds)))
            where = described(values) or "the only setting"
            found.append(f"{where}: {len(seeds)} of {counted(len(every), 'seed')}; without {left}")
    return found


def _intervals(rows: Sequence[Row]) -> list[str]:
    found: dict[str, None] = {}
    for row in rows:
        if row.kind == "points":
            continue
        if len(row.mean.seeds) == 1:
            found["one seed only: its interval says nothing of runs with other seeds"] = None
        elif row.mean.items == "different":
            found[
                f"{row.stage}: each seed has its own items; the interval over seeds (Student's t) "
                "is over both"
            ] = None
        elif row.mean.items == "unknown" and row.kind == "share" and "model" in row.labels:
            found[
                f"{row.stage}: its items are not known, as its rows are gone or it is no mean over "
                "them; the interval is over seeds only"
            ] = None
    return list(found)


def _chosen(rows: Sequence[Row]) -> list[str]:
    compared: dict[tuple[str, tuple[str, ...]], int] = {}
    for row in rows:
        if row.difference is not None:
            place = row.stage, tuple(v for k, v in sorted(row.labels.items()) if k != "model")
            compared[place] = compared.get(place, 0) + 1
    most = max(compared.values(), default=0)
    if most < MANY:
        return []
    return [
        f"{most} figures are compared with one baseline: the best of them looks better than it is; "
        "choose on other items than those of the reported figure"
    ]
