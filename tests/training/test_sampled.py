"""Rows drawn by weight: what is trained then, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.stages.train_distill import TrainDistill
from llm_distill.stages.train_dpo import TrainDpo
from llm_distill.stages.train_sft import TrainSft
from tests.distillation import tiny

Run = Callable[..., Any]
SETTINGS = {
    "model": "m",
    "rows": "r",
    "num_train_epochs": 2,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "on_collapse": "ignore",
}


def sft(**settings: Any) -> TrainSft:
    return TrainSft(stage="train_sft", **{**SETTINGS, **settings})


def history(run: Any) -> list[dict[str, float]]:
    return run.metrics["history"]


def pairs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**row, "chosen": row["completion"], "rejected": "I do not know. " + row["prompt"][:9]}
        for row in rows
    ]


def only(rows: list[dict[str, Any]], number: int) -> tuple[list[Any], list[Any]]:
    """Rows of which one has nearly all the weight, and as many copies of that row."""
    weights = [{**row, "w": 1.0 if i == number else 1e-300} for i, row in enumerate(rows)]
    return weights, [{**rows[number], "id": f"copy {i}"} for i in range(len(rows))]


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_a_row_with_all_the_weight_is_trained_alone(
    kind: str, run_stage: Run, rows: Any, text_model: Any, weights: Any, tmp_path: Any
) -> None:
    weighted, copies = only(pairs(rows), 2)
    of, name = (TrainSft, "train_sft") if kind == "sft" else (TrainDpo, "train_dpo")
    given = {**SETTINGS, "stage": name, "peft": None}
    models = {"m": text_model}
    drawn = run_stage(
        of(**given, sample_weight_column="w"),
        {"r": weighted},
        models=models,
        work_dir=tmp_path / "drawn",
    )
    plain = run_stage(of(**given), {"r": copies}, models=models, work_dir=tmp_path / "plain")
    assert history(drawn) == history(plain)
    expected, found = weights(plain.model.directory), weights(drawn.model.directory)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_distillation_draws_its_rows_as_well(run_stage: Run, tmp_path: Any) -> None:
    models = {"m": tiny.make_student(tmp_path), "t": tiny.make_teacher(tmp_path)}
    weighted, copies = only([dict(row) for row in tiny.ROWS], 1)
    given = {**SETTINGS, "stage": "train_distill", "teacher": "t", "online": True}
    given["losses"] = {"alm": 1.0, "sft": 0.5}
    found = [
        history(run_stage(TrainDistill(**given, **own), {"r": of}, models=models, work_dir=folder))
        for own, of, folder in (
            ({"sample_weight_column": "w"}, weighted, tmp_path / "drawn"),
            ({}, copies, tmp_path / "plain"),
        )
    ]
    assert found[0] == found[1]


def test_as_many_rows_an_epoch_as_there_are(run_stage: Run, rows: Any, text_model: Any) -> None:
    """Held-out rows have no weights and are all read."""
    own = [{**row, "w": i % 3} for i, row in enumerate(rows)]  # 8 rows, 3 of weight 0
    stage = sft(sample_weight_column="w", eval_rows="e")
    run = run_stage(stage, {"r": own, "e": rows[:3]}, models={"m": text_model})
    assert run.metrics["n_rows"] == 5
    assert run.metrics["steps"] == 4
    assert run.dropped == {"weight is 0": 3}


def test_what_is_no_weight(run_stage: Run, rows: Any, text_model: Any) -> None:
    bad = [None, -1.0, float("nan"), float("inf"), 0.0, 0.0, 0.0, 0.0]
    own = [{**row, "w": w} for row, w in zip(rows, bad, strict=True)]
    with pytest.raises(DataError, match="no row of 'r' can be trained on: .*4 weight is 0"):
        run_stage(sft(sample_weight_column="w"), {"r": own}, models={"m": text_model})


def test_both_weights_go_together(run_stage: Run, rows: Any, text_model: Any) -> None:
    """Rows drawn twice as often, with half the weight in the loss."""
    own = [{**row, "often": 1.0 + i % 2, "w": 1 / (1.0 + i % 2)} for i, row in enumerate(rows)]
    stage = sft(sample_weight_column="often", weight_column="w")
    assert run_stage(stage, {"r": own}, models={"m": text_model}).metrics["steps"] == 4


def test_settings() -> None:
    assert sft().required_columns()["r"] == {"id", "prompt", "completion"}
    stage = sft(sample_weight_column="w", eval_rows="e")
    assert "w" in stage.required_columns()["r"]
    assert "w" not in stage.required_columns()["e"]
    with pytest.raises(ValidationError, match="packing: .* does not go with sample_weight_column"):
        sft(sample_weight_column="w", packing=True)
    order = {"train_sampling_strategy": "group_by_length"}
    with pytest.raises(ValidationError, match="both say in which order rows come"):
        sft(sample_weight_column="w", trainer_arguments=order)
