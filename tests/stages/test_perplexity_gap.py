"""perplexity_gap: a ratio by domain, its unit, and what cannot be compared."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.stages.perplexity_gap import PerplexityGap

Run = Callable[..., Any]


def scored(each: float, n: int = 4, **more: Any) -> dict[str, Any]:
    """A text of 20 bytes whose n tokens have a log-probability of -each."""
    return {"completion": "é" * 10, "teacher_logps": [-each] * n, **more}


def given(student: float, teacher: float, n: int = 4) -> dict[str, list[dict[str, Any]]]:
    """Two domains; the student lags in `a`, and not in `b`."""
    names = [("a", f"a{i}") for i in range(3)] + [("b", f"b{i}") for i in range(3)]
    lags = {"a": student, "b": teacher}
    return {
        "s": [scored(lags[of], id=name, domain=of) for of, name in names],
        "t": [scored(teacher, n, id=name, domain=of) for of, name in names],
    }


def stage(**settings: Any) -> PerplexityGap:
    return PerplexityGap(stage="perplexity_gap", student_scores="s", teacher_scores="t", **settings)


def test_by_token_where_both_have_as_many(run_stage: Run) -> None:
    rows = run_stage(stage(), given(0.9, 0.2)).rows
    assert [row["domain"] for row in rows] == ["a", "b"]
    first, second = rows
    assert first["student_ppl"] == pytest.approx(math.exp(0.9))
    assert first["teacher_ppl"] == pytest.approx(math.exp(0.2))
    assert first["score"] == pytest.approx(math.exp(0.7))
    assert first["score"] == pytest.approx(first["student_ppl"] / first["teacher_ppl"])
    assert [first["low"], first["high"]] == pytest.approx([math.exp(0.7)] * 2)
    assert second["score"] == pytest.approx(1)
    assert [first["n_items"], first["n_units"], first["unit"]] == [3, 12, "token"]


def test_by_byte_where_tokenizers_differ(run_stage: Run) -> None:
    (first, _) = run_stage(stage(), given(0.9, 0.2, n=8)).rows
    assert first["unit"] == "byte"
    assert first["n_units"] == 60
    assert first["student_ppl"] == pytest.approx(math.exp(0.9 * 4 / 20))
    assert first["score"] == pytest.approx(math.exp((0.9 * 4 - 0.2 * 8) / 20))
    (by_token, _) = run_stage(stage(unit="token"), given(0.9, 0.2, n=8)).rows
    assert by_token["score"] == pytest.approx(math.exp(0.7))
    assert by_token["low"] is None
    (forced, _) = run_stage(stage(unit="byte"), given(0.9, 0.2)).rows
    assert forced["score"] == pytest.approx(math.exp(0.7 * 4 / 20))


def test_the_order_of_rows_does_not_matter(run_stage: Run) -> None:
    """Up to the bootstrap's draws, which are of rows by place."""
    rows = given(0.9, 0.2)
    turned = {name: of[::-1] for name, of in rows.items()}
    assert run_stage(stage(), turned).rows == run_stage(stage(), rows).rows


def test_the_interval_is_over_texts(run_stage: Run) -> None:
    rows = given(0.9, 0.2)
    for number, row in enumerate(rows["s"][:3]):
        row["teacher_logps"] = [-0.9 - 0.3 * (number - 1)] * 4
    first = run_stage(stage(), rows).rows[0]
    assert first["score"] == pytest.approx(math.exp(0.7))
    assert math.exp(0.4) <= first["low"] < first["score"] < first["high"] <= math.exp(1.0) + 1e-9


def test_texts_that_one_has_not_scored(run_stage: Run) -> None:
    rows = given(0.9, 0.2)
    rows["s"] = [*rows["s"][1:], scored(1, id="n", domain=None)]
    rows["t"] = rows["t"][:-1]
    run = run_stage(stage(), rows)
    assert [row["n_items"] for row in run.rows] == [2, 2]
    assert run.dropped == {
        "no domain": 1,
        "not scored by the teacher": 1,
        "not scored by the student": 1,
    }


def test_a_domain_without_texts(run_stage: Run) -> None:
    rows = given(0.9, 0.2)
    train = [{"id": str(i), "domain": of} for i, of in enumerate("abc")]
    assert len(run_stage(stage(rows="r"), {**rows, "r": train[:2]}).rows) == 2
    with pytest.raises(DataError, match=r"text of 1 domain: c \(domains with texts: a, b\); hold"):
        run_stage(stage(rows="r"), {**rows, "r": train})
    with pytest.raises(DataError, match="share no scored text of 1 domain: b"):
        run_stage(stage(), {**rows, "t": rows["t"][:3]})
    unnamed = [{**row, "domain": None} for row in rows["s"]]
    with pytest.raises(DataError, match=r"text of any domain \(domains with texts: none\)"):
        run_stage(stage(), {**rows, "s": unnamed})


def test_scores_that_are_none(run_stage: Run) -> None:
    for bad in ([float("nan")], [float("-inf")], [], None):
        rows = given(0.9, 0.2)
        rows["s"][0]["teacher_logps"] = bad
        with pytest.raises(DataError, match="row a0 of 's' has no finite scores"):
            run_stage(stage(), rows)
    with pytest.raises(DataError, match="domain a: -log p is 1000 a token .* no number"):
        run_stage(stage(), given(1000, 0.2))
    rows = given(0.9, 0.2)
    rows["s"][0]["completion"] = None
    with pytest.raises(DataError, match="row a0 of 's': completion is not text"):
        run_stage(stage(), rows)


def test_settings() -> None:
    with pytest.raises(ValidationError, match="are those of two models"):
        PerplexityGap(stage="perplexity_gap", student_scores="s", teacher_scores="s")
    with pytest.raises(ValidationError, match="is a column of the result"):
        stage(by="score")
