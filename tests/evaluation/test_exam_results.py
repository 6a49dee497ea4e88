"""The tables of an exam, counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from llm_distill.evaluation.exam_results import ExamResults
from llm_distill.methods.statistics import wilson_interval


def prediction(item: str, model: str, is_correct: bool, **more: Any) -> dict[str, Any]:
    return {
        "parent_id": item, "model": model, "shots": 0, "is_correct": is_correct, "answer": "4",
        "finish_reason": "stop", "error": None, "skills": ["addition"], "n_completion_tokens": 7,
        **more,
    }  # fmt: skip


def test_accuracy_parse_failures_truncations_and_errors() -> None:
    results = ExamResults()
    results.add(prediction("a", "m", True))
    results.add(prediction("b", "m", False))
    results.add(prediction("c", "m", False, answer=None, finish_reason="length"))
    results.add(prediction("d", "m", False, answer=None, finish_reason="error", error="too long"))
    (row,) = results.measured().to_metrics()["results"]
    interval = wilson_interval(1, 4)
    assert row == {
        "model": "m", "shots": 0, "accuracy": 0.25, "low": interval.low, "high": interval.high,
        "n": 4, "parse_failures": 1, "truncated": 1, "errors": 1, "tokens": 28,
    }  # fmt: skip
    assert results.measured().to_metrics()["differences"] == []


def test_a_row_counts_for_each_of_its_skills() -> None:
    results = ExamResults(["skills", "task"])
    results.add(prediction("a", "m", True, skills=["addition", "days"], task="x"))
    results.add(prediction("b", "m", False, skills=["days"], task="x"))
    table = {
        row["skills"]: (row["accuracy"], row["n"])
        for row in results.measured().to_metrics()["by_skills"]
    }
    assert table == {"addition": (1.0, 1), "days": (0.5, 2)}
    assert [(row["task"], row["n"]) for row in results.measured().to_metrics()["by_task"]] == [
        ("x", 2)
    ]
    (result,) = results.measured().to_metrics()["results"]
    assert (result["mean_by_skills"], result["mean_by_task"]) == (0.75, 0.5)


def test_items_without_a_value_are_a_group() -> None:
    results = ExamResults(["task"])
    results.add(prediction("a", "m", True, task="x"))
    results.add(prediction("b", "m", False, task=None))
    table = results.measured().to_metrics()["by_task"]
    assert [(row["task"], row["accuracy"]) for row in table] == [("x", 1.0), ("(none)", 0.0)]


def test_each_model_is_compared_with_the_first_item_by_item() -> None:
    results = ExamResults()
    for model, right in (("old", {0, 1}), ("between", set(range(8))), ("new", {0, 1, 2, 3, 4})):
        for item in range(8) if model != "new" else range(7, -1, -1):  # another order
            results.add(prediction(str(item), model, item in right))
    between, row = results.measured().to_metrics()["differences"]
    assert (between["model"], between["difference"]) == ("between", 6 / 8)
    assert (row["model"], row["baseline"], row["shots"], row["n"]) == ("new", "old", 0, 8)
    assert row["difference"] == pytest.approx(3 / 8)
    assert row["low"] >= 0  # the new one is never worse: unpaired, this would be below 0
    assert row["low"] < 3 / 8 < row["high"]
    assert row["p_value"] == pytest.approx(2 / 2**3)  # three items, all won: a two-sided sign test


def test_differences_by_group_are_over_its_items() -> None:
    results = ExamResults(["skills"])
    for model, right in (("old", "a"), ("new", "bc")):
        for item, skill in (("a", "x"), ("b", "y"), ("c", "y")):
            results.add(prediction(item, model, item in right, skills=[skill]))
    table = results.measured().to_metrics()["differences_by_skills"]
    assert [(row["skills"], row["difference"], row["n"]) for row in table] == [
        ("x", -1.0, 1),
        ("y", 1.0, 2),
    ]


def test_several_answers_to_an_item() -> None:
    results = ExamResults()
    drawn = {"a": "441", "b": "545", "c": "123"}  # the right answer is 4
    for item, answers in drawn.items():
        for answer in answers:
            results.add(prediction(item, "m", answer == "4", answer=answer))
    (row,) = results.measured().to_metrics()["results"]
    assert row["accuracy"] == pytest.approx((2 / 3 + 1 / 3 + 0) / 3)
    assert (row["samples"], row["n"]) == (3, 3)
    assert row["majority"] == pytest.approx(1 / 3)  # 5 for b, the first for c
    assert row["pass_at"]["1"] == pytest.approx(row["accuracy"])
    assert row["pass_at"]["2"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert row["pass_at"]["3"] == pytest.approx(2 / 3)
    assert 0 <= row["low"] < row["accuracy"] < row["high"] <= 2 / 3 + 1e-9  # over items
    assert "samples" not in _single()


def test_what_does_not_vary_keeps_an_interval() -> None:
    results = ExamResults(["skills"])
    for item in "abcd":
        for _ in range(4):
            results.add(prediction(item, "m", True, skills=[]))
    (row,) = results.measured().to_metrics()["results"]
    interval = wilson_interval(4, 4)
    assert (row["low"], row["high"]) == (interval.low, interval.high)
    assert "mean_by_skills" not in row  # nobody has a skill
    assert results.measured().to_metrics()["by_skills"] == []


def _single() -> dict[str, Any]:
    results = ExamResults()
    results.add(prediction("a", "m", True))
    return results.measured().to_metrics()["results"][0]
