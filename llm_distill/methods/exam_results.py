"""From judged answers to tables: accuracy with its interval, by model and number of examples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from llm_distill.methods.in_context_score import Tally
from llm_distill.methods.statistics import paired_bootstrap, wilson_interval

Sitting = tuple[str, int]
"""Model and number of worked examples."""


class ExamResults:
    """Counts the answers of models on the same items, as they come.

    An answer that the engine failed to give (`error`) counts as wrong here, and apart: leaving it
    out would compare models on different items.
    """

    def __init__(self, by: Sequence[str] = ()) -> None:
        self._tallies: dict[Sitting, Tally] = defaultdict(Tally)
        self._errors: dict[Sitting, int] = defaultdict(int)
        self._correct: dict[Sitting, dict[str, bool]] = defaultdict(dict)
        self._groups: dict[str, dict[tuple[str, int, str], Tally]] = {
            column: defaultdict(Tally) for column in by
        }

    def add(self, row: dict[str, Any]) -> None:
        """Count a prediction: parent_id, model, shots, answer, is_correct, finish_reason, error.

        A column to break down by may hold a value or a list; a row counts in each of a list's.
        """
        sitting = row["model"], row["shots"]
        judged = {
            "answer": row["answer"] if row["error"] is None else "",
            "is_correct": row["is_correct"],
            "truncated": row["finish_reason"] == "length",
        }
        self._tallies[sitting].add(**judged)
        self._errors[sitting] += row["error"] is not None
        self._correct[sitting][row["parent_id"]] = row["is_correct"]
        for column, groups in self._groups.items():
            value = row[column]
            for name in value if isinstance(value, list) else [value]:
                groups[(*sitting, str(name))].add(**judged)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """`results`, `differences` (of each model from the first), and `by_<column>` each."""
        results = [
            {
                "model": model,
                "shots": shots,
                **_accuracy(tally),
                "errors": self._errors[model, shots],
            }
            for (model, shots), tally in self._tallies.items()
        ]
        by = {
            f"by_{column}": [
                {"model": model, "shots": shots, column: name, **_accuracy(tally)}
                for (model, shots, name), tally in groups.items()
            ]
            for column, groups in self._groups.items()
        }
        return {"results": results, "differences": self._differences(), **by}

    def _differences(self) -> list[dict[str, Any]]:
        first, *others = dict.fromkeys(model for model, _ in self._correct)
        shots = dict.fromkeys(shots for _, shots in self._correct)
        return [self._difference(first, model, n) for model in others for n in shots]

    def _difference(self, baseline: str, model: str, shots: int) -> dict[str, Any]:
        before, after = self._correct[baseline, shots], self._correct[model, shots]
        found = paired_bootstrap(
            [float(before[item]) for item in before], [float(after[item]) for item in before]
        )
        return {
            "model": model,
            "baseline": baseline,
            "shots": shots,
            "difference": found.value,
            "low": found.low,
            "high": found.high,
            "n": len(before),
        }


def _accuracy(tally: Tally) -> dict[str, Any]:
    estimate = wilson_interval(tally.n_correct, tally.n_items)
    return {
        "accuracy": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": tally.n_items,
        "parse_failures": tally.parse_failures,
        "truncated": tally.truncated,
    }
