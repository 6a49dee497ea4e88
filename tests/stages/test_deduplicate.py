"""deduplicate: the first of each stays; what goes is counted by kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llm_distill.stages.deduplicate import Deduplicate

Run = Callable[..., Any]
LONG = "the quick brown fox jumps over the lazy dog and runs through the wood until it is night"
TEXTS = [
    "What is 2 + 2?",
    "what is  2 + 2",
    "What is 2 - 2?",
    LONG,
    f"{LONG} again",
    None,
    "What is 2 + 3?",
    None,
]


def rows() -> list[dict[str, Any]]:
    return [{"id": f"r{i}", "question": text} for i, text in enumerate(TEXTS)]


def stage(**settings: Any) -> Deduplicate:
    return Deduplicate(stage="deduplicate", rows="rows", **settings)


def kept(run: Any) -> list[int]:
    return [int(row["id"][1:]) for row in run.rows]


def test_exact_and_near_duplicates_go(run_stage: Run) -> None:
    run = run_stage(stage(), {"rows": rows()})
    assert kept(run) == [0, 2, 3, 6]
    assert run.dropped == {"no question": 2, "duplicate": 1, "near duplicate": 1}


def test_exact_keeps_near_duplicates(run_stage: Run) -> None:
    run = run_stage(stage(method="exact"), {"rows": rows()})
    assert kept(run) == [0, 2, 3, 4, 6]
    assert run.dropped == {"no question": 2, "duplicate": 1}


def test_threshold_and_ngram_decide(run_stage: Run) -> None:
    # 18 words against 19: 16 of 17 three-word runs are shared, 1 of 2 with eighteen words
    assert 4 in kept(run_stage(stage(threshold=0.95), {"rows": rows()}))
    assert 4 not in kept(run_stage(stage(threshold=0.94), {"rows": rows()}))
    assert 4 in kept(run_stage(stage(ngram=18), {"rows": rows()}))


def test_the_bundled_problems_are_all_different(run_stage: Run) -> None:
    import json

    from llm_distill.paths import find_resource

    path = find_resource("data/word_problems/train.jsonl")
    assert path is not None
    given = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    run = run_stage(stage(), {"rows": given})
    dropped = {row["id"] for row in given} - {row["id"] for row in run.rows}
    assert len(dropped) < 0.02 * len(given), sorted(dropped)
    assert len(run_stage(stage(method="exact"), {"rows": given}).rows) == len(given)


def test_columns() -> None:
    assert stage(column="text").required_columns() == {"rows": {"id", "text"}}
    assert stage().output_columns({"rows": frozenset({"id", "x"})}) == {"id", "x"}
