"""Counts that fit few rows, and gates that let them pass."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from llm_distill.stage import Stage
from llm_distill.stages.agreement import Agreement
from llm_distill.stages.gate import Gate
from llm_distill.stages.generate import Generate
from llm_distill.stages.judge import Judge
from llm_distill.stages.mix import Mix
from llm_distill.stages.split import Split

CANDIDATES = 4
"""Of a row, at most; enough for votes and pairs. Candidates of candidates: one."""
CUT: Mapping[str, Callable[[int], int]] = {
    "n": lambda rows: rows,
    "draws": lambda rows: rows,
    "n_questions": lambda rows: max(rows, CANDIDATES),
    "max_questions": lambda rows: rows,
    "samples": lambda rows: CANDIDATES,
}
"""Settings that are counts of rows or requests: no more than this."""
GATES: Mapping[str, Any] = {
    "strict": False,
    "min_share": 0.0,
    "max_error_rate": 1.0,
    "minimum": {},
    "min_count": 1,
}
"""Settings that stop a run where there is too little."""
OF_A_MIXTURE: Mapping[str, Any] = dict.fromkeys(("weights", "weights_from", "counts"))
"""The same of `mix`: some parts are not there."""
OF_A_JUDGE: Mapping[str, Any] = {"min_agreement": None}
"""The same of `judge`; elsewhere such a setting is a count."""
OF_CATEGORIES: Mapping[str, Any] = {"on_failure": "mark"}
"""The same of `agreement`."""
OF_TWO_MODELS: Mapping[str, Any] = {"require": "not_worse", "tolerance": 0.999}
"""The same of `gate`."""


def cut(stage: Stage, n: int, asks_again: bool, said: list[str]) -> Stage:
    """The stage with smaller counts for `n` rows, and without gates.

    asks_again: its rows are candidates already. said: gets what is other than in the file.
    """
    changes: dict[str, Any] = {}
    for setting, most in CUT.items():
        now, limit = getattr(stage, setting, None), most(n)
        if isinstance(stage, Generate) and setting == "n":
            limit = 1 if asks_again else CANDIDATES
        if isinstance(now, int) and now > limit:
            changes[setting] = limit
            said.append(f"{setting}: {limit} in place of {now:,}")
    gates = {**GATES, **_gates_of(stage)}
    for setting, value in gates.items():
        now = getattr(stage, setting, value)
        if now != value:
            changes[setting] = value
            if setting != "max_error_rate":  # which says itself that rows have failed
                shown = json.dumps(value), json.dumps(now, default=str)
                said.append(f"{setting}: {shown[0]} in place of {shown[1]}: the sample is small")
    return stage.model_copy(update=changes) if changes else stage


def _gates_of(stage: Stage) -> Mapping[str, Any]:
    if isinstance(stage, Mix):
        return OF_A_MIXTURE
    if isinstance(stage, Judge):
        return OF_A_JUDGE
    if isinstance(stage, Gate):
        return OF_TWO_MODELS
    return OF_CATEGORIES if isinstance(stage, Agreement) else {}


def divided(stage: Split) -> Split:
    """By shares where parts are counts, which are those of all rows."""
    return stage.model_copy(update={"parts": _as_shares(stage.parts)})


def _as_shares(sizes: Mapping[str, float | None]) -> dict[str, float | None]:
    """Parts of a sample; of counts, their shares of all that is counted."""
    counts = {name: size for name, size in sizes.items() if size is not None and size >= 1}
    left = 1 - sum(size for size in sizes.values() if size is not None and size < 1)
    room = left / 2 if None in sizes.values() else left
    total = sum(counts.values())
    return {
        name: room * size / total if size is not None and name in counts else size
        for name, size in sizes.items()
    }
