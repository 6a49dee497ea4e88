"""What the stages measured, as the page's tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_distill.evaluation.results import Results
from llm_distill.report.figures import result_rows, sitting


def _rows(metrics: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return result_rows(Results.from_metrics(metrics))


def test_agreement_is_a_result_like_others() -> None:
    found = {"figure": "kappa", "annotators": ["a", "b"], "value": 0.5, "low": 0.4, "high": 0.6}
    (row,) = _rows({"agreement": [found, {"of": "another form"}]})
    assert sitting(row) == "a, b, kappa"
    assert (row["value"], row["low"], row["high"]) == (0.5, 0.4, 0.6)
    accuracy = {"model": "m", "shots": 0, "accuracy": 0.1}
    assert _rows({"results": [accuracy], "agreement": [found]}) == [accuracy]
    assert _rows({"agreement": "none"}) == []
