"""Figures in manifests are read and written unchanged."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_distill.evaluation.results import Results

EXAM: dict[str, Any] = {
    "contamination": {
        "ngram": 8, "compared": {"sums": "8 words in a row"}, "n_items": 4, "rows": {"seeds": 1},
        "items": {"seeds": ["a"]},
    },
    "results": [
        {
            "model": "student", "shots": 0, "accuracy": 0.4, "low": 0.3, "high": 0.5, "n": 100,
            "parse_failures": 1, "truncated": 2, "errors": 0, "tokens": 700, "mean_by_level": 0.35,
            "samples": 4, "pass_at": {"1": 0.4, "4": 0.6}, "majority": 0.45,
        },
    ],
    "differences": [
        {
            "model": "student", "baseline": "base", "shots": 0, "difference": 0.1, "low": 0.0,
            "high": 0.2, "n": 100, "p_value": None,
        },
    ],
    "by_level": [
        {
            "model": "student", "shots": 0, "level": "3", "accuracy": 0.3, "low": 0.2, "high": 0.4,
            "n": 50,
        },
    ],
    "differences_by_level": [
        {
            "model": "student", "baseline": "base", "shots": 0, "difference": 0.1, "low": 0.0,
            "high": 0.2, "n": 50, "p_value": 0.5, "level": "3",
        },
    ],
}  # fmt: skip
ALONE: dict[str, Any] = {"results": [EXAM["results"][0]], "differences": [], "by_level": []}
HARNESS: dict[str, Any] = {
    "results": [
        {
            "model": "m", "task": "sums", "shots": None, "metric": "f1", "filter": "none",
            "value": 0.6, "stderr": None, "low": None, "high": None, "n": 4,
            "higher_is_better": None,
        },
    ],
}  # fmt: skip
AGREEMENT: dict[str, Any] = {
    "agreement": [
        {"figure": "alpha", "annotators": ["a", "b"], "value": None, "low": None, "high": None,
         "n": 0},
    ],
}  # fmt: skip
SKILLS: dict[str, Any] = {
    "skill_profile": [
        {"id": "t/s", "task": "t", "skill": "s", "count": 3, "weight": 0.5, "weight_low": 0.4,
         "weight_high": 0.6},
    ],
}  # fmt: skip
ALIGNED: dict[str, Any] = {
    "alignment": {
        "n_rows": 4, "dropped": {"too long": 1}, "examples": ["row a: b'x' and b'y'"],
        "n_chunks": 9, "share_of_bytes": 0.9, "teacher_tokens_per_chunk": 1.5,
        "student_tokens_per_chunk": 1.25,
    },
}  # fmt: skip


@pytest.mark.parametrize("metrics", [EXAM, HARNESS, AGREEMENT, SKILLS, ALIGNED])
def test_all_keys_come_back_in_their_order(metrics: dict[str, Any]) -> None:
    written = Results.from_metrics(metrics).to_metrics()
    text = json.dumps(dict(sorted(metrics.items())))
    assert json.dumps(dict(sorted(written.items()))) == text


def test_an_exam_has_differences_even_where_there_are_none() -> None:
    written = Results.from_metrics(ALONE).to_metrics()
    assert written == {**ALONE, "differences_by_level": []}


def test_a_malformed_value_counts_as_missing() -> None:
    odd = {"model": "m", "accuracy": 0.5, "low": "much", "n": [3], "pass_at": 1}
    read = Results.from_metrics({"results": [odd, {**odd, "accuracy": float("nan")}, {"model": 3}]})
    (row,) = read.exam
    assert (row.model, row.low, row.n, row.pass_at) == ("m", None, None, None)
    assert Results.from_metrics({"contamination": {"ngram": 8}, "alignment": 1}) == Results()


def test_models_are_those_of_tables_and_of_own_figures() -> None:
    own = [{"title": "t", "rows": [{"labels": {"model": "judge"}, "value": 1}]}]
    assert Results.from_metrics({**EXAM, "figures": own}).models == {"student", "judge"}
    assert Results.from_metrics(AGREEMENT).models == frozenset()
