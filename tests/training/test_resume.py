"""A training that was cut off ends in the weights of one that was not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from llm_distill.stages.train_dpo import TrainDpo
from llm_distill.stages.train_sft import TrainSft
from llm_distill.training.loop import WholeHistory

# Eight rows by two, in windows of two: four batches and two steps an epoch, ten steps in all.
SETTINGS = {
    "model": "m",
    "rows": "r",
    "num_train_epochs": 5,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-3,
    "warmup_steps": 0.1,
    "logging_steps": 4,
    "save_steps": 3,
}
LORA = {"r": 4, "lora_dropout": 0.3}  # dropout: the random numbers must be resumed as well


class Cut(BaseException):
    """Stands for Ctrl-C: no handler for ordinary errors may swallow it."""


@pytest.fixture
def cut_at(monkeypatch):
    """Makes training end with `Cut` after a step."""
    original = WholeHistory.on_step_end

    def set_step(step: int | None) -> None:
        def on_step_end(self, args, state, control, **kwargs):
            original(self, args, state, control, **kwargs)
            if state.global_step == step:
                raise Cut

        monkeypatch.setattr(WholeHistory, "on_step_end", on_step_end)

    return set_step


def stages(peft):
    sft = TrainSft(stage="train_sft", peft=peft, **SETTINGS)
    dpo = TrainDpo(stage="train_dpo", peft=peft, **SETTINGS)
    by_weight = {**SETTINGS, "sample_weight_column": "weight"}
    sampled = TrainSft(stage="train_sft", peft=peft, **by_weight)
    return {"sft": sft, "dpo": dpo, "sampled": sampled}


def pairs(rows):
    return [
        {
            **row,
            "chosen": row["completion"],
            "rejected": "I do not know. " + row["prompt"][:9],
            "weight": 1.0 + n % 3,
        }
        for n, row in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("kind", "peft"), [("sft", None), ("sft", LORA), ("dpo", LORA), ("sampled", None)]
)
@pytest.mark.parametrize("step", [5, 8])  # after checkpoint 3 (in an epoch) and 6 (between two)
def test_resumed_is_the_same_as_never_cut(
    kind, peft, step, run_stage, rows, text_model, weights, cut_at, tmp_path
):
    stage, inputs = stages(peft)[kind], {"r": pairs(rows)}
    models = {"m": text_model}
    whole = run_stage(stage, inputs, models=models, work_dir=tmp_path / "whole")
    cut_at(step)
    with pytest.raises(Cut):
        run_stage(stage, inputs, models=models, work_dir=tmp_path / "cut")
    cut_at(None)
    resumed = run_stage(stage, inputs, models=models, work_dir=tmp_path / "cut")
    assert whole.metrics["resumed_from_step"] is None
    assert resumed.metrics["resumed_from_step"] == step - 2
    assert resumed.metrics["steps"] == whole.metrics["steps"] == 10
    expected, found = weights(whole.model.directory), weights(resumed.model.directory)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert [p["step"] for p in whole.metrics["history"]] == [1, 3, 4, 6, 8, 9, 10]
    assert resumed.metrics["history"] == whole.metrics["history"]


def test_what_was_held_out_is_measured_once_before(run_stage, rows, text_model, cut_at, tmp_path):
    stage = TrainSft(stage="train_sft", eval_rows="e", eval_steps=2, **SETTINGS)
    inputs, models = {"r": pairs(rows), "e": pairs(rows)[:3]}, {"m": text_model}
    whole = run_stage(stage, inputs, models=models, work_dir=tmp_path / "whole")
    cut_at(8)
    with pytest.raises(Cut):
        run_stage(stage, inputs, models=models, work_dir=tmp_path / "cut")
    cut_at(None)
    resumed = run_stage(stage, inputs, models=models, work_dir=tmp_path / "cut")
    assert resumed.metrics["resumed_from_step"] == 6
    assert resumed.metrics["history"] == whole.metrics["history"]
    assert resumed.metrics["figures"] == whole.metrics["figures"]


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt", "trainer_state.json"])
def test_a_checkpoint_with_a_flipped_bit_is_passed_over(
    file, run_stage, rows, text_model, weights, cut_at, tmp_path
):
    stage, inputs = stages(None)["sft"], {"r": rows}
    models = {"m": text_model}
    whole = run_stage(stage, inputs, models=models, work_dir=tmp_path / "whole")
    cut_at(7)
    with pytest.raises(Cut):
        run_stage(stage, inputs, models=models, work_dir=tmp_path / "cut")
    newest = tmp_path / "cut" / "checkpoints" / "checkpoint-6"
    damaged = bytearray((newest / file).read_bytes())
    damaged[len(damaged) // 2] ^= 4
    (newest / file).write_bytes(damaged)
    cut_at(None)
    resumed = run_stage(stage, inputs, models=models, work_dir=tmp_path / "cut")
    assert resumed.metrics["resumed_from_step"] == 3
    expected, found = weights(whole.model.directory), weights(resumed.model.directory)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_the_bar_goes_on_where_it_was(run_stage, rows, text_model, cut_at, tmp_path, monkeypatch):
    from contextlib import nullcontext

    from llm_distill.runtime.context import StageContext

    advanced: list[int] = []
    opened: list[tuple[int, int]] = []

    class Bar:
        def advance(
            self, n: int = 1, tokens: int = 0, cost: float = 0.0, requests: int | None = None
        ) -> None:
            advanced.append(n)

    def progress(self, what, total, unit, done):
        opened.append((total, done))
        return nullcontext(Bar())

    monkeypatch.setattr(StageContext, "progress", progress)
    cut_at(5)
    with pytest.raises(Cut):
        run_stage(stages(None)["sft"], {"r": rows}, models={"m": text_model})
    advanced.clear()
    cut_at(None)
    run_stage(stages(None)["sft"], {"r": rows}, models={"m": text_model})
    assert opened == [(10, 0), (10, 3)]
    assert advanced == [1] * 7


KILLED = """
import json, os, signal, sys
from contextlib import nullcontext
from pathlib import Path
import torch
torch.set_num_threads(1)
from llm_distill.models.sources import ModelSource
from llm_distill.runtime.context import ModelInput, StageContext, StageInputs
from llm_distill.stages.train_sft import TrainSft
from llm_distill.tracking import TrackedRun
from llm_distill.training.loop import WholeHistory

class Bar:
    def advance(self, n=1, tokens=0, cost=0.0, requests=None): ...

told = json.loads(sys.argv[1])
original = WholeHistory.on_step_end
def on_step_end(self, args, state, control, **kwargs):
    original(self, args, state, control, **kwargs)
    if state.global_step == told["step"]:
        os.kill(os.getpid(), signal.SIGKILL)
WholeHistory.on_step_end = on_step_end
work = Path(told["work_dir"])
work.mkdir()
bar = lambda *_: nullcontext(Bar())
rows, models = {"r": Path(told["rows"])}, {"m": ModelInput(ModelSource(**told["model"]), None)}
inputs = StageInputs(0, work, work, TrackedRun("p", "p/t/s", work), rows, models)
TrainSft(**told["stage"]).run(StageContext(inputs, None, bar))
"""


@pytest.mark.slow
def test_a_process_that_was_killed_is_resumed(run_stage, rows, text_model, weights, tmp_path):
    stage, inputs, models = stages(None)["sft"], {"r": rows}, {"m": text_model}
    whole = run_stage(stage, inputs, models=models, work_dir=tmp_path / "whole")
    told = {
        "step": 8,
        "work_dir": str(tmp_path / "cut"),
        "rows": str(tmp_path / "inputs" / "r"),
        "model": asdict(text_model),
        "stage": stage.model_dump(mode="json"),
    }
    killed = subprocess.run([sys.executable, "-c", KILLED, json.dumps(told)], cwd=Path.cwd())
    assert killed.returncode == -signal.SIGKILL
    resumed = run_stage(stage, inputs, models=models, work_dir=tmp_path / "cut")
    assert resumed.metrics["resumed_from_step"] == 6
    expected, found = weights(whole.model.directory), weights(resumed.model.directory)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
