"""lm-eval's results as rows and figures, for cases that the test with lm-eval does not have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llm_distill.evaluation.lm_eval_results import figures, sample_row


def sample(**changes: Any) -> dict[str, Any]:
    written = {
        "doc_id": 3, "doc": {}, "target": "4", "arguments": [("2 + 2 =", {"until": []})],
        "resps": [["four", "4"]], "filtered_resps": ["4"], "filter": "none",
        "metrics": ["f1", "exact_match"], "f1": (1, 1), "exact_match": np.float64(1.0),
    }  # fmt: skip
    return {**written, **changes}


def choice(**changes: Any) -> dict[str, Any]:
    pairs = [(-1.0, False), (-0.5, True), (-9.0, False), (-0.1, False)]
    chosen = {
        "target": 1, "arguments": [("2 + 2 =", " 5"), ("2 + 2 =", " 4"), ("", " 5"), ("", " 4")],
        "resps": [[pair] for pair in pairs], "filtered_resps": pairs,
        "metrics": ["acc_norm", "acc"], "acc_norm": 0.0, "acc": 1.0,
    }  # fmt: skip
    return sample(**{**chosen, **changes})


def test_a_written_answer() -> None:
    row = sample_row("student", "sums", 2, sample(), None)
    assert row["id"] == "sums-3-student"
    assert (row["completion"], row["answer"], row["reference_answer"]) == ("four", "4", "4")
    assert (row["metric"], row["score"], row["is_correct"]) == ("exact_match", 1.0, True)
    filtered = sample(filter="strict", filtered_resps=["[invalid]"], exact_match=0.0)
    row = sample_row("student", "sums", 2, filtered, None)
    assert (row["id"], row["answer"]) == ("sums-3-student-strict", None)
    assert (row["score"], row["is_correct"]) == (0.0, False)
    assert sample_row("s", "t", 0, sample(filtered_resps=[["5", "4"]]), None)["answer"] == "5"
    assert sample_row("s", "t", 0, sample(target=["4", "four"]), None)["reference_answer"] == (
        "4 | four"
    )


def test_a_choice_and_the_unconditional_likelihoods_after_it() -> None:
    row = sample_row("student", "sums", 0, choice(), ["5", "4"])
    assert (row["answer"], row["reference_answer"], row["completion"]) == ("4", "4", None)
    assert row["probabilities"] == pytest.approx([0.3775, 0.6225], abs=1e-4)
    assert sum(row["probabilities"]) == pytest.approx(1)
    assert (row["metric"], row["score"], row["is_correct"]) == ("acc_norm", 0.0, True)


def test_a_likelihood_is_not_an_answer() -> None:
    measured = sample(
        arguments=[("a text",)], resps=[[-12.5]], filtered_resps=[-12.5], target="",
        metrics=["word_perplexity"], word_perplexity=(-12.5, 2),
    )  # fmt: skip
    row = sample_row("student", "texts", 0, measured, None)
    assert (row["answer"], row["score"], row["is_correct"], row["metric"]) == (None,) * 4
    assert (row["prompt"], row["reference_answer"]) == ("a text", None)


def test_figures_of_tasks_and_groups() -> None:
    samples = [sample(exact_match=value) for value in (1.0, 0.0, 1.0, 1.0)]
    results = {
        "results": {
            "sums": {
                "name": "sums", "alias": "sums", "sample_len": 4, "exact_match,none": 0.75,
                "exact_match_stderr,none": 0.25, "f1,none": 0.6, "f1_stderr,none": "N/A",
            },
            "all": {"alias": "all", "sample_len": 9, "exact_match,none": 0.5,
                    "exact_match_stderr,none": 0.1},
        },
        "samples": {"sums": samples},
        "n-shot": {"sums": 2},
        "higher_is_better": {"sums": {"exact_match": True}},
    }  # fmt: skip
    exact, f1, group = figures("student", results)
    assert (exact.value, exact.stderr, exact.n, exact.shots) == (0.75, 0.25, 4, 2)
    assert (exact.low, exact.high) == pytest.approx((0.3006, 0.9544), abs=1e-4)  # Wilson's
    assert (f1.value, f1.stderr, f1.low, f1.high) == (0.6, None, None, None)
    assert (group.task, group.n, group.shots) == ("all", 9, None)
    assert (group.low, group.high) == pytest.approx((0.304, 0.696), abs=1e-4)
