"""The loss on held-out rows while a model is trained, and the best model as the result."""

from __future__ import annotations

import math

import pytest
import torch
from datasets import Dataset
from pydantic import ValidationError

from llm_distill.evaluation.results import Results
from llm_distill.models.sources import load_model
from llm_distill.stages.train_distill import TrainDistill
from llm_distill.stages.train_dpo import TrainDpo
from llm_distill.stages.train_kto import TrainKto
from llm_distill.stages.train_sft import TrainSft
from llm_distill.training.encoder import pair_encoder
from tests.distillation import tiny
from tests.training.test_ranks import some_rows, train

SETTINGS = {
    "model": "m",
    "rows": "r",
    "eval_rows": "e",
    "eval_steps": 2,
    "num_train_epochs": 4,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "on_collapse": "ignore",
}


def held_out(run) -> dict[int, float]:
    history = run.metrics["history"]
    return {point["step"]: point["eval_loss"] for point in history if "eval_loss" in point}


def moved(run):
    """The table of held-out rows before and after."""
    [table] = Results.from_metrics(run.metrics).own
    return table.figures


def split(rows):
    many = some_rows(rows)
    return {"r": many[:6], "e": many[6:]}  # five are held out


def sft(**settings) -> TrainSft:
    return TrainSft(stage="train_sft", **{**SETTINGS, **settings})


def cross_entropy(model, source, rows) -> float:
    """The mean over all tokens of all completions, row by row."""
    encoder = pair_encoder(source, 128)
    total, n = 0.0, 0
    for row in rows:
        head, tail = encoder.encode(row["prompt"], row["completion"])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*head, *tail]])).logits[0]
        logps = logits.log_softmax(-1)[len(head) - 1 : -1]
        total -= logps.gather(1, torch.tensor(tail)[:, None]).sum().item()
        n += len(tail)
    return total / n


@pytest.mark.parametrize("padding_free", [False, True])
def test_the_loss_is_the_mean_over_all_tokens_held_out(
    padding_free, rows, text_model, trained, run_stage
):
    given = split(rows)
    run = run_stage(sft(padding_free=padding_free), given, models={"m": text_model})
    found = held_out(run)
    assert list(found) == [0, 2, 4, 6, 8]
    before = cross_entropy(load_model(text_model), text_model, given["e"])
    assert found[0] == pytest.approx(before, rel=1e-5)
    model = load_model(trained(run.model, text_model))
    assert found[8] == pytest.approx(cross_entropy(model, text_model, given["e"]), rel=1e-5)


def test_measuring_does_not_change_the_training(rows, text_model, run_stage, weights, tmp_path):
    given = split(rows)
    without = {**SETTINGS, "stage": "train_sft", "peft": {"r": 4, "lora_dropout": 0.3}}
    with_it = TrainSft(**without)
    for name in ("eval_rows", "eval_steps"):
        without.pop(name)
    plain = run_stage(
        TrainSft(**without), {"r": given["r"]}, models={"m": text_model}, work_dir=tmp_path / "a"
    )
    looked = run_stage(with_it, given, models={"m": text_model}, work_dir=tmp_path / "b")
    expected, found = weights(plain.model.directory), weights(looked.model.directory)
    assert all(expected[name].equal(found[name]) for name in expected)


def test_the_best_model_is_kept(rows, text_model, trained, run_stage):
    """It learns some people's ages by heart, and gets worse at those of others."""
    given = split(rows)
    given["e"] = given["e"][:2]
    settings = {"learning_rate": 1e-2, "num_train_epochs": 30, "load_best_model_at_end": True}
    run = run_stage(sft(**settings), given, models={"m": text_model})
    found = held_out(run)
    best = min(found, key=lambda step: found[step])
    shown = {tuple(row.labels.values()): row.value for row in moved(run)}
    assert shown["loss", "after"] == pytest.approx(found[best], abs=1e-6)
    assert run.metrics["best_step"] == best < 60
    model = load_model(trained(run.model, text_model))
    loss = cross_entropy(model, text_model, given["e"])
    assert loss == pytest.approx(found[best], rel=1e-5)


@pytest.mark.parametrize("of", [TrainDpo, TrainKto])
def test_preferences_are_measured_too(of, rows, text_model, run_stage):
    stage = of(stage=f"train_{of.__name__[5:].lower()}", **SETTINGS)
    run = run_stage(stage, split(rows), models={"m": text_model})
    found = held_out(run)
    assert list(found) == [0, 2, 4, 6, 8]
    assert found[8] < found[2] < found[0]
    assert any("eval_rewards/margins" in point for point in run.metrics["history"])


def test_how_far_it_moved_is_shown_and_said_where_it_did_not(rows, text_model, run_stage):
    settings = {**SETTINGS, "stage": "train_dpo", "peft": {"r": 4}}
    run = run_stage(TrainDpo(**settings), split(rows), models={"m": text_model})
    found = {tuple(row.labels.values()): row for row in moved(run)}
    last = [point for point in run.metrics["history"] if "eval_loss" in point][-1]
    assert found["loss", "before"].value == pytest.approx(math.log(2), abs=1e-6)
    margin = found["margin: beta times how much more it gained", "after"]
    assert margin.value == pytest.approx(last["eval_rewards/margins"], abs=1e-6)
    assert margin.n == 5
    assert not run.warnings
    still = TrainDpo(**{**settings, "learning_rate": 1e-7})
    run = run_stage(still, split(rows), models={"m": text_model})
    [said] = run.warnings
    assert said.startswith("the loss on held-out rows is 0.69315 before and 0.6931")


def test_distilling_is_measured_too(run_stage, tmp_path):
    """Each part of the loss is the mean over all held-out rows, in passes of whatever size."""
    teacher, student = tiny.make_teacher(tmp_path), tiny.make_student(tmp_path)
    given = {"r": tiny.ROWS[:5], "e": tiny.ROWS[5:]}
    own = {"teacher": "t", "online": True, "losses": {"alm": 1.0, "sft": 0.5}, "peft": None}
    measured = []
    for size, combine in ((1, "fixed"), (3, "fixed"), (3, "grad_mag")):
        settings = {**SETTINGS, **own, "per_device_train_batch_size": size, "combine": combine}
        stage = TrainDistill(**settings, stage="train_distill", train_batch_size=5)
        models = {"m": student, "t": teacher}
        folder = tmp_path / f"{size}{combine}"
        folder.mkdir()
        run = run_stage(stage, given, models=models, work_dir=folder)
        points = [point for point in run.metrics["history"] if "eval_loss" in point]
        assert [point["step"] for point in points] == [0, 2, 4]
        for point in points:
            parts = point["eval_alm"] + 0.5 * point["eval_sft"]
            assert point["eval_loss"] == pytest.approx(parts, rel=1e-5)
        assert points[-1]["eval_loss"] < points[0]["eval_loss"]
        measured.append(points[0])
    for other in measured[1:]:
        for name in ("eval_loss", "eval_alm", "eval_sft"):
            assert other[name] == pytest.approx(measured[0][name], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("of", [TrainSft, pytest.param(TrainDpo, marks=pytest.mark.exhaustive)])
def test_two_processes_measure_what_one_does(of, rows, text_model, tmp_path):
    kind = f"train_{of.__name__[5:].lower()}"
    settings = {**SETTINGS, "stage": kind, "peft": {"r": 4}, "load_best_model_at_end": True}
    measured = []
    for n in (1, 2):
        stage = of(**settings, launch={"processes": n})
        folder, given = tmp_path / str(n), split(rows)
        folder.mkdir()
        Dataset.from_list(given["e"]).save_to_disk(str(folder / "held"))
        done = train(stage, folder, given["r"], text_model, held=folder / "held")
        history = done.manifest["metrics"]["history"]
        measured.append([p["eval_loss"] for p in history if "eval_loss" in p])
    assert len(measured[0]) == 5
    assert measured[1] == pytest.approx(measured[0], abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eval_rows": None}, "eval_steps needs eval_rows"),
        ({"eval_rows": "r"}, "are the rows that are trained on"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        sft(**settings)
