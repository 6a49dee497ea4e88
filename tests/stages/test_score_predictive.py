"""score_predictive: planted documents, by id, and what cannot be scored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.stages.score_predictive import ScorePredictive

Run = Callable[..., Any]
BENCHMARKS = {"small": 30.0, "middle": 40.0, "large": 60.0}


def stage(**settings: Any) -> ScorePredictive:
    given = {"stage": "score_predictive", "rows": [*BENCHMARKS], "benchmarks": BENCHMARKS}
    return ScorePredictive(**{**given, **settings})


def scores(**losses: float) -> list[dict[str, Any]]:
    """Of each document its loss, on two tokens."""
    return [
        {"id": name, "completion": name, "teacher_logps": [-loss / 2] * 2}
        for name, loss in losses.items()
    ]


def test_documents_in_the_order_of_the_benchmarks(run_stage: Run) -> None:
    run = run_stage(
        stage(),
        {
            "small": scores(textbook=9, list=3, noise=5, mixed=7, only=1),
            "middle": scores(textbook=6, list=5, noise=5, mixed=4),
            "large": scores(mixed=5, noise=5, list=8, textbook=2),
        },
    )
    found = {row["id"]: row["predictive_strength"] for row in run.rows}
    assert found == pytest.approx({"textbook": 1, "list": 0, "noise": 0.5, "mixed": 2 / 3})
    assert run.rows[0]["completion"] == "textbook"
    assert run.dropped == {"not scored in middle": 1}


def test_tokens_of_any_size(run_stage: Run) -> None:
    """One model cuts the document into six, and its loss is the whole document's."""
    rows = {"small": scores(a=9), "middle": scores(a=6), "large": scores(a=2)}
    rows["large"][0]["teacher_logps"] = [-2.0] * 6
    (row,) = run_stage(stage(), rows).rows
    assert row["predictive_strength"] == pytest.approx(1 / 3)


def test_what_cannot_be_scored(run_stage: Run) -> None:
    with pytest.raises(ValidationError, match="no 'lerge' in rows; did you mean 'large'"):
        stage(benchmarks={**BENCHMARKS, "lerge": 1})
    with pytest.raises(ValidationError, match="'large' has none"):
        stage(benchmarks={"small": 1, "middle": 2})
    with pytest.raises(ValidationError, match="no order"):
        stage(benchmarks=dict.fromkeys(BENCHMARKS, 1))
    rows = {"small": scores(a=1), "middle": scores(a=1), "large": scores(b=1)}
    with pytest.raises(DataError, match="no document was scored by all"):
        run_stage(stage(), rows)
    rows["large"][0]["teacher_logps"] = None
    with pytest.raises(DataError, match="row b of 'large' has no finite scores"):
        run_stage(stage(), rows)
