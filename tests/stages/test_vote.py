"""vote: which answer is elected, and the accuracy of each way with its interval."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.methods.statistics import bootstrap, wilson_interval
from llm_distill.stages.vote import ElectByVote

Run = Callable[..., Any]


def samples(question: str, reference: str, *given: tuple[str | None, float | None]) -> list[Any]:
    return [
        {"id": f"{question}-{i}", "parent_id": question, "answer": answer, "score": score,
         "reference_answer": reference}
        for i, (answer, score) in enumerate(given)
    ]  # fmt: skip


ROWS = [
    # majority 7, MAX 8, SUM 9
    *samples("a", "8", ("7", 0.1), ("7.", 0.1), ("7", 0.0), ("8", 0.9), ("9", 0.6), ("9", 0.5)),
    *samples("b", "1", ("1", None), ("1", None), ("2", 0.2), ("3", 0.5), (None, 0.9)),
    *samples("c", "5", (None, 0.3), (" ", 0.3)),
]


def stage(**settings: Any) -> ElectByVote:
    return ElectByVote(stage="vote", rows="rows", **settings)


@pytest.mark.parametrize(
    ("vote", "ids"),
    [("majority", ["a-0", "b-0"]), ("best_score", ["a-3", "b-3"]), ("score_sum", ["a-4", "b-3"])],
)
def test_each_way_elects_its_own(run_stage: Run, vote: str, ids: list[str]) -> None:
    run = run_stage(stage(vote=vote), {"rows": ROWS})
    assert [row["id"] for row in run.rows] == ids
    assert [row["agreement"] for row in run.rows] == {
        "majority": [3, 2], "best_score": [1, 1], "score_sum": [2, 1]
    }[vote]  # fmt: skip
    assert run.dropped == {"no answer that can be elected": 1}


def test_sums_of_scores_below_zero_are_refused(run_stage: Run) -> None:
    rows = samples("d", "1", ("1", -0.2), ("1", -0.2), ("2", -0.3))  # the sum would elect 2
    (best,) = run_stage(stage(vote="best_score"), {"rows": rows}).rows
    assert best["id"] == "d-0"
    with pytest.raises(DataError, match=r"row d-0 of 'rows' has the score -0\.2; sums of scores"):
        run_stage(stage(vote="score_sum"), {"rows": rows})


def test_ways_are_compared_on_the_same_questions(run_stage: Run) -> None:
    ways = ["majority", "best_score", "score_sum", "random", "single"]
    greedy = [{"id": f"g{q}", "parent_id": q, "answer": a} for q, a in zip("abc", "815")]  # noqa: B905
    run = run_stage(stage(compare=ways, single="greedy"), {"rows": ROWS, "greedy": greedy})
    accuracy, differences = run.metrics["figures"]
    values = {row["labels"]["chosen by"]: row["value"] for row in accuracy["rows"]}
    shares = [1 / 6, 2 / 5, 0.0]
    assert values == pytest.approx(
        {"majority": 1 / 3, "best_score": 1 / 3, "score_sum": 0, "random": sum(shares) / 3,
         "single": 1}
    )  # fmt: skip
    by_way = {row["labels"]["chosen by"]: row for row in accuracy["rows"]}
    assert by_way["majority"]["high"] == pytest.approx(wilson_interval(1, 3).high)
    assert by_way["random"]["low"] == pytest.approx(bootstrap(shares).low)
    assert {row["n"] for row in accuracy["rows"]} == {3}
    assert differences["title"] == "difference from majority"
    points = {row["labels"]["chosen by"]: row["value"] for row in differences["rows"]}
    assert points["single"] == pytest.approx(2 / 3)
    assert points["score_sum"] == pytest.approx(-1 / 3)


def test_what_is_missing_is_said(run_stage: Run) -> None:
    greedy = [{"id": "g", "parent_id": "a", "answer": "8"}]
    with pytest.raises(DataError, match="'greedy' has no answer to question 'b' of 'rows'"):
        run_stage(stage(compare=["single"], single="greedy"), {"rows": ROWS, "greedy": greedy})
    orphan = [{"id": "x", "parent_id": None, "answer": "1"}]
    with pytest.raises(DataError, match="row x of 'rows' has no parent_id"):
        run_stage(stage(), {"rows": orphan})
    blank = samples("a", " ", ("1", 0.1))
    with pytest.raises(DataError, match="item a-0 of 'rows' has no reference_answer"):
        run_stage(stage(compare=["majority"]), {"rows": blank})


def test_columns() -> None:
    assert stage().required_columns() == {"rows": {"id", "parent_id", "answer"}}
    scored = stage(compare=["best_score"], by="margin").required_columns()
    assert scored == {"rows": {"id", "parent_id", "answer", "margin", "reference_answer"}}
    for wrong in ({"compare": ["single"]}, {"single": "greedy"}, {"compare": ["random"] * 2}):
        with pytest.raises(ValidationError):
            stage(**wrong)
