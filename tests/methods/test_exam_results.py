"""The tables of an exam, counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from llm_distill.methods.exam_results import ExamResults
from llm_distill.methods.statistics import wilson_interval


def prediction(item: str, model: str, is_correct: bool, **more: Any) -> dict[str, Any]:
    return {
        "parent_id": item, "model": model, "shots": 0, "is_correct": is_correct, "answer": "4",
        "finish_reason": "stop", "error": None, "skills": ["addition"], **more,
    }  # fmt: skip


def test_accuracy_parse_failures_truncations_and_errors() -> None:
    results = ExamResults()
    results.add(prediction("a", "m", True))
    results.add(prediction("b", "m", False))
    results.add(prediction("c", "m", False, answer=None, finish_reason="length"))
    results.add(prediction("d", "m", False, answer=None, finish_reason="error", error="too long"))
    (row,) = results.tables()["results"]
    interval = wilson_interval(1, 4)
    assert row == {
        "model": "m", "shots": 0, "accuracy": 0.25, "low": interval.low, "high": interval.high,
        "n": 4, "parse_failures": 1, "truncated": 1, "errors": 1,
    }  # fmt: skip
    assert results.tables()["differences"] == []


def test_a_row_counts_for_each_of_its_skills() -> None:
    results = ExamResults(["skills", "task"])
    results.add(prediction("a", "m", True, skills=["addition", "days"], task="x"))
    results.add(prediction("b", "m", False, skills=["days"], task="x"))
    table = {row["skills"]: (row["accuracy"], row["n"]) for row in results.tables()["by_skills"]}
    assert table == {"addition": (1.0, 1), "days": (0.5, 2)}
    assert [(row["task"], row["n"]) for row in results.tables()["by_task"]] == [("x", 2)]


def test_each_model_is_compared_with_the_first_item_by_item() -> None:
    results = ExamResults()
    for model, right in (("old", {0, 1}), ("between", set(range(8))), ("new", {0, 1, 2, 3, 4})):
        for item in range(8) if model != "new" else range(7, -1, -1):  # another order
            results.add(prediction(str(item), model, item in right))
    between, row = results.tables()["differences"]
    assert (between["model"], between["difference"]) == ("between", 6 / 8)
    assert (row["model"], row["baseline"], row["shots"], row["n"]) == ("new", "old", 0, 8)
    assert row["difference"] == pytest.approx(3 / 8)
    assert row["low"] >= 0  # the new one is never worse: unpaired, this would be below 0
    assert row["low"] < 3 / 8 < row["high"]
