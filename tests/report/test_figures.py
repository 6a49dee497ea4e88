"""An evaluation in the report."""

from __future__ import annotations

import pytest

from llm_distill.evaluation.results import Results


def test_agreement_is_a_result_like_others() -> None:
    found = {"figure": "kappa", "annotators": ["a", "b"], "value": 0.5, "low": 0.4, "high": 0.6}
    (row,) = Results.from_metrics({"agreement": [found, {"of": "another form"}]}).rows
    figure = row.as_figure
    assert figure.names == ["a, b", "kappa"]
    assert (figure.value, figure.low, figure.high) == (0.5, 0.4, 0.6)
    accuracy = {"model": "m", "shots": 0, "accuracy": 0.1}
    both = Results.from_metrics({"results": [accuracy], "agreement": [found]})
    assert both.rows == both.exam
    assert both.exam[0].accuracy == pytest.approx(0.1)
    assert Results.from_metrics({"agreement": "none"}).rows == ()
