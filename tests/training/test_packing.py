"""Rows in one sequence are trained as if each were alone."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from pydantic import ValidationError

from llm_distill.errors import ModelError
from llm_distill.stages.train_sft import TrainSft
from llm_distill.training.packing import check_rows_stay_apart, packed

SETTINGS = {
    "stage": "train_sft",
    "model": "m",
    "rows": "r",
    "num_train_epochs": 3,
    "per_device_train_batch_size": 3,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "on_collapse": "ignore",
}


@pytest.fixture
def uneven(rows):
    """Rows of other lengths and weights; eight of them, six to a step."""
    return [
        {**row, "completion": row["completion"] + " And so on." * n, "weight": 1.0 + n % 3}
        for n, row in enumerate(rows)
    ]


@pytest.mark.parametrize("weights_of_rows", [{}, {"weight_column": "weight"}])
@pytest.mark.parametrize("peft", [None, {"r": 4}])
def test_without_padding_the_same_is_trained(
    weights_of_rows, peft, uneven, run_stage, text_model, weights, tmp_path
):
    settings = {**SETTINGS, **weights_of_rows, "peft": peft}
    models = {"m": text_model}
    padded = run_stage(
        TrainSft(**settings), {"r": uneven}, models=models, work_dir=tmp_path / "padded"
    )
    stage = TrainSft(**settings, padding_free=True)
    dense = run_stage(stage, {"r": uneven}, models=models, work_dir=tmp_path / "dense")
    of_padded, of_dense = ([p["loss"] for p in r.metrics["history"]] for r in (padded, dense))
    assert len(of_padded) == 6
    assert of_dense == pytest.approx(of_padded, abs=1e-5)
    expected, found = weights(padded.model.directory), weights(dense.model.directory)
    assert max((expected[name] - found[name]).abs().max() for name in expected) < 1e-4
    assert padded.metrics["n_tokens"] == dense.metrics["n_tokens"]


def test_packs_hold_every_row_whole():
    lengths = [5, 2, 4, 8, 1, 3]
    rows = Dataset.from_list(
        [
            {"input_ids": [10 * n + i for i in range(k)], "labels": [-100] + [n] * (k - 1)}
            for n, k in enumerate(lengths)
        ]
    )
    packs = packed(rows, 8)
    assert all(len(ids) <= 8 for ids in packs["input_ids"])
    assert sum(map(sum, packs["seq_lengths"])) == sum(lengths)
    assert len(packs) == 3
    found = []
    for pack in packs:
        start = 0
        for length in pack["seq_lengths"]:
            part = slice(start, start + length)
            found.append((pack["input_ids"][part], pack["labels"][part]))
            start += length
    assert sorted(found) == sorted((row["input_ids"], row["labels"]) for row in rows)


def test_packed_rows_are_learned_by_heart(rows, run_stage, text_model, ask, trained):
    stage = TrainSft(
        **{**SETTINGS, "learning_rate": 1e-2, "num_train_epochs": 80, "warmup_steps": 0.1},
        max_length=48,
        packing=True,
    )
    run = run_stage(stage, {"r": rows}, models={"m": text_model})
    assert run.metrics["n_rows"] < len(rows)  # packs
    answers = ask(trained(run.model, text_model), [row["prompt"] for row in rows])
    assert answers == [(row["completion"], "stop") for row in rows]


def test_a_model_that_mixes_rows_is_refused():
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    config = MambaConfig(vocab_size=80, hidden_size=16, num_hidden_layers=2, state_size=4)
    with pytest.raises(ModelError, match=r"MambaForCausalLM .* leave packing and padding_free out"):
        check_rows_stay_apart(MambaForCausalLM(config), 0)


def test_a_pack_has_no_weight():
    with pytest.raises(ValidationError, match="padding_free does"):
        TrainSft(**SETTINGS, packing=True, weight_column="weight")
