"""An evaluation in the report."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llm_distill.distillation.rollouts.figures import NAMES
from llm_distill.evaluation.results import Results
from llm_distill.report.charts import Curve
from llm_distill.report.figures import trainings
from tests.report.runs import Made


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


def test_an_on_policy_training_shows_its_texts_and_how_far_the_student_has_moved(
    make_run: Callable[..., Made],
) -> None:
    made = make_run("stages: {taught: {n: 3}}\n", "run")
    keys = ("loss", "opd_apart", "opd_effective", "opd_clipped", *NAMES)
    history = [{"step": step, **dict.fromkeys(keys, step / 10)} for step in (1, 2)]
    made.stage("taught", "train_distill", None, (), {"history": history})
    made.stage("other", "train_sft", None, (), {"history": [{"step": 1, "loss": 2.0}]})
    found = {drawing.title: drawing.chart for drawing in trainings(made.view)}
    assert found.keys() == {
        "taught: loss",
        "taught: distance of the student from what wrote the rows, nats a token",
        "taught: share of the sampled tokens",
        "taught: tokens of the student's texts",
        "taught: share of the student's texts",
        "other: loss",
    }
    of_taught = [chart for title, chart in found.items() if title.startswith("taught")]
    assert sum(len(chart.series) for chart in of_taught) == len(keys)
    shares = found["taught: share of the sampled tokens"]
    assert isinstance(shares, Curve)
    assert shares.points == {
        "effective, by their weights": ((1, 0.1), (2, 0.2)),
        "whose weight is clipped": ((1, 0.1), (2, 0.2)),
    }
