"""The output of lm-evaluation-harness as rows and figures. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llm_distill.evaluation.result_rows import HarnessRow, is_number
from llm_distill.methods.statistics import Z_95, wilson_interval

RIGHT_OR_WRONG = ("exact_match", "acc")
"""Metrics that say whether an item was answered correctly."""

NO_ANSWER = "[invalid]"
"""What lm-eval's filters put where they find no answer."""


def sample_row(
    model: str, task: str, shots: int | None, sample: dict[str, Any], choices: Sequence[str] | None
) -> dict[str, Any]:
    """One item as a row of `evaluate_lm_eval`.

    Args:
        model: The model's name.
        task: lm-eval's task.
        shots: Number of worked examples.
        sample: An entry of lm-eval's `samples`.
        choices: The texts of a multiple-choice item; None for other items.
    """
    from scipy.special import softmax

    parent = f"{task}-{sample['doc_id']}"
    name = sample["filter"]
    metric, score = _first_number(sample)
    right = next((sample[m] for m in RIGHT_OR_WRONG if m in sample["metrics"]), None)
    row: dict[str, Any] = {
        "id": f"{parent}-{model}" + ("" if name == "none" else f"-{name}"),
        "parent_id": parent,
        "task": task,
        "model": model,
        "shots": shots,
        "filter": name,
        "prompt": str(sample["arguments"][0][0]),
        "completion": None,
        "answer": None,
        "reference_answer": _reference(sample["target"], choices),
        "choices": None,
        "probabilities": None,
        "score": score,
        "metric": metric,
        "is_correct": None if right is None else bool(right == 1),
    }
    if choices is not None:
        # An unconditional likelihood of each choice may come after the conditional ones.
        likelihoods = [float(pair[0]) for pair in sample["filtered_resps"][: len(choices)]]
        row["answer"] = choices[likelihoods.index(max(likelihoods))]
        row["choices"], row["probabilities"] = list(choices), softmax(likelihoods).tolist()
        return row
    if isinstance(sample["resps"][0][0], str):
        row["completion"] = sample["resps"][0][0]
        answer = sample["filtered_resps"][0]
        answer = answer[0] if isinstance(answer, list) and answer else answer
        row["answer"] = None if answer in (NO_ANSWER, []) else str(answer)
    return row


def figures(model: str, results: dict[str, Any]) -> list[HarnessRow]:
    """A row for each task or group, metric and filter, in lm-eval's order.

    `value` and `stderr` are lm-eval's. The interval is Wilson's where every item scores 0 or 1,
    else the value ± 1.96 standard errors, and unknown without a standard error.
    """
    found = []
    for task, values in results["results"].items():
        for key, value in values.items():
            metric, comma, name = key.partition(",")
            if not comma or metric.endswith("_stderr") or not is_number(value):
                continue
            stderr = values.get(f"{metric}_stderr,{name}")
            samples = [
                sample[metric]
                for sample in results.get("samples", {}).get(task, ())
                if sample["filter"] == name and metric in sample["metrics"]
            ]
            low, high = _interval(value, stderr, samples)
            found.append(
                HarnessRow(
                    model=model,
                    task=task,
                    shots=results["n-shot"].get(task),
                    metric=metric,
                    filter=name,
                    value=float(value),
                    stderr=float(stderr) if is_number(stderr) else None,
                    low=low,
                    high=high,
                    n=len(samples) or values.get("sample_len", 0),
                    higher_is_better=results["higher_is_better"].get(task, {}).get(metric),
                )
            )
    return found


def _interval(value: float, stderr: Any, samples: list[Any]) -> tuple[float | None, float | None]:
    is_share = bool(samples) and all(is_number(x) and x in (0, 1) for x in samples)
    if is_share and math.isclose(sum(samples) / len(samples), value):
        share = wilson_interval(int(sum(samples)), len(samples))
        return share.low, share.high
    if not is_number(stderr):
        return None, None
    return float(value - Z_95 * stderr), float(value + Z_95 * stderr)


def _first_number(sample: dict[str, Any]) -> tuple[str | None, float | None]:
    for metric in sample["metrics"]:
        if is_number(sample[metric]):
            return metric, float(sample[metric])
    return None, None


def _reference(target: Any, choices: Sequence[str] | None) -> str | None:
    """The right answer's text; several are joined by ` | `."""
    targets = target if isinstance(target, list) else [target]
    texts = [
        choices[t] if choices is not None and isinstance(t, int) and 0 <= t < len(choices) else t
        for t in targets
    ]
    return " | ".join(str(text) for text in texts) or None
