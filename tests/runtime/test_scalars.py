"""Names and numbers out of a manifest."""

from __future__ import annotations

from llm_distill.runtime.scalars import metric_scalars, plain_name, stage_scalars
from tests.manifests import manifest

EVALUATED = {
    "results": [
        {"model": "student", "shots": 0, "accuracy": 0.4, "n": 100, "pass_at": {"1": 0.4}},
        {"model": "student", "shots": 2, "accuracy": 0.5, "n": 100, "seconds": None},
    ],
    "differences": [{"model": "student", "baseline": "base", "shots": 0, "difference": 0.1}],
    "differences_by_level": [
        {"model": "student", "baseline": "base", "shots": 0, "level": 3, "difference": 0.1}
    ],
    "by_level": [
        {"model": "student", "shots": 0, "level": 3, "accuracy": 0.3, "n": 50},
        {"model": "student", "shots": 0, "level": 4, "accuracy": 0.5, "n": 50},
    ],
    "contamination": {"rows": {"written": 7}, "ngram": 8, "checked": True},
}


def test_an_evaluation() -> None:
    assert metric_scalars(EVALUATED) == {
        "results/student/0-shot/accuracy": 0.4,
        "results/student/0-shot/n": 100,
        "results/student/0-shot/pass_at/1": 0.4,
        "results/student/2-shot/accuracy": 0.5,
        "results/student/2-shot/n": 100,
        "differences/student-minus-base/0-shot/difference": 0.1,
        "by_level/student/0-shot/3/accuracy": 0.3,
        "by_level/student/0-shot/4/accuracy": 0.5,
        "contamination/rows/written": 7,
        "contamination/ngram": 8,
    }


def test_a_trainings_history_and_what_is_no_number_are_left_out() -> None:
    metrics = {
        "train_loss": 1.5,
        "resumed_from_step": None,
        "best": float("nan"),
        "device": "cpu",
        "history": [{"step": 1, "loss": 2.0}],
    }
    assert metric_scalars(metrics) == {"train_loss": 1.5}


def test_names_have_only_signs_that_every_tracker_takes() -> None:
    metrics = {"results": [{"model": "a:b (c)", "shots": 0, "accuracy": 1.0}]}
    assert metric_scalars(metrics) == {"results/a_b _c_/0-shot/accuracy": 1.0}
    assert plain_name("trained@2") == "trained-2"  # no stage of the file can be called so


def test_what_a_stage_took_counts_only_where_it_ran() -> None:
    said = manifest(
        rows_out=40, dropped={"empty": 3, "too long": 1}, seconds=4.0, tokens_out=600, cost=0.5
    )
    gave = {"rows": 40, "dropped": 4}
    took = {"seconds": 4.0, "tokens": 600, "tokens_per_second": 150.0, "cost": 0.5}
    assert stage_scalars(said, made=True) == {**gave, **took}
    assert stage_scalars(said, made=False) == gave
    assert stage_scalars(manifest(rows_out=None, seconds=2.0), made=True) == {"seconds": 2.0}


def test_figures_of_tasks_and_annotators_keep_apart() -> None:
    row = {"model": "s", "shots": 0, "metric": "acc", "filter": "none"}
    metrics = {
        "results": [
            {**row, "task": "a", "value": 0.1},
            {**row, "task": "b", "value": 0.2},
            {**row, "task": "b", "filter": "strict", "value": 0.3},
        ],
        "agreement": [{"figure": "kappa", "annotators": ["x", "y"], "value": 0.4, "low": None}],
        "by_level": [
            {"model": "s", "shots": 0, "level": level, "accuracy": value}
            for level, value in (("加", 0.5), ("減", 0.6))
        ],
    }
    assert metric_scalars(metrics) == {
        "results/s/a/acc/0-shot/value": 0.1,
        "results/s/b/acc/0-shot/value": 0.2,
        "results/s/b/acc/strict/0-shot/value": 0.3,
        "agreement/kappa/x-y/value": 0.4,
        "by_level/s/0-shot/_/accuracy": 0.5,
        "by_level/s/0-shot/_/accuracy 2": 0.6,
    }
