"""Direct preference optimisation end to end on a tiny model."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import logsigmoid

from llm_distill.errors import DataError, ModelError
from llm_distill.models.sources import load_model
from llm_distill.stages.train_dpo import TrainDpo
from llm_distill.training.encoder import pair_encoder

FULL = {"peft": None, "learning_rate": 1e-3}
LORA = {"peft": {"r": 8}, "learning_rate": 5e-3}


def stage(**settings):
    given = {"lr_scheduler_type": "constant", "on_collapse": "ignore", **settings}
    return TrainDpo(stage="train_dpo", model="m", rows="r", **given)


@pytest.fixture
def pairs(rows):
    """Right ages are preferred to other people's."""
    answers = [row["completion"] for row in rows]
    return [
        {"id": row["id"], "prompt": row["prompt"], "chosen": right, "rejected": wrong}
        for row, right, wrong in zip(rows, answers, answers[1:] + answers[:1], strict=True)
    ]


@pytest.fixture
def logprobs():
    """Log-probability of an answer, the sum over its tokens, computed without TRL."""

    def compute(source, prompt: str, answer: str) -> float:
        head, tail = pair_encoder(source, 256).encode(prompt, answer)
        with torch.no_grad():
            logits = load_model(source)(torch.tensor([head + tail])).logits[0]
        chosen = logits.log_softmax(-1)[len(head) - 1 : -1][range(len(tail)), tail]
        return float(chosen.sum())

    return compute


def margins(source, reference, pairs, logprobs) -> list[float]:
    """By how much more than the reference each `chosen` is preferred to its `rejected`."""
    gains = []
    for pair in pairs:
        chosen, rejected = (
            logprobs(source, pair["prompt"], pair[side])
            - logprobs(reference, pair["prompt"], pair[side])
            for side in ("chosen", "rejected")
        )
        gains.append(chosen - rejected)
    return gains


@pytest.mark.parametrize("settings", [FULL, LORA], ids=["full", "lora"])
def test_the_loss_is_that_of_the_paper(
    settings, run_stage, pairs, text_model, trained, logprobs, tmp_path
):
    """First ln 2; after a step, what brute force gives for the model after that step."""
    beta = 0.5
    common = {**settings, "beta": beta, "logging_steps": 1}
    one = run_stage(stage(max_steps=1, **common), {"r": pairs}, models={"m": text_model})
    two = run_stage(
        stage(max_steps=2, **common),
        {"r": pairs},
        models={"m": text_model},
        work_dir=tmp_path / "2",
    )
    losses = [point["loss"] for point in two.metrics["history"]]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    after = margins(trained(one.model, text_model), text_model, pairs, logprobs)
    expected = -logsigmoid(beta * torch.tensor(after)).mean().item()
    assert expected < math.log(2) - 0.01
    assert losses[1] == pytest.approx(expected, rel=1e-3)
    reported = two.metrics["history"][1]["rewards/margins"]
    assert reported == pytest.approx(beta * sum(after) / len(after), rel=1e-2)


@pytest.mark.parametrize("kind", ["text_model", "chat_model"])
def test_what_was_chosen_becomes_likelier(kind, request, run_stage, pairs, trained, logprobs):
    source = request.getfixturevalue(kind)
    run = run_stage(stage(max_steps=40, **LORA), {"r": pairs}, models={"m": source})
    gains = margins(trained(run.model, source), source, pairs, logprobs)
    assert all(gain > 0 for gain in gains)
    assert run.metrics["history"][-1]["rewards/margins"] > 0
    assert run.model.base == source
    assert (run.model.directory / "adapter_model.safetensors").is_file()
    assert not (run.model.directory / "model.safetensors").exists()


def test_a_source_with_an_adapter_is_its_own_reference(
    run_stage, pairs, text_model, trained, tmp_path
):
    """The first loss is ln 2 only if the reference has the adapter as well."""
    first = run_stage(stage(max_steps=5, **LORA), {"r": pairs}, models={"m": text_model})
    source = trained(first.model, text_model)
    for name, settings in (("full", FULL), ("lora", LORA)):
        run = run_stage(
            stage(max_steps=1, **settings),
            {"r": pairs},
            models={"m": source},
            work_dir=tmp_path / name,
        )
        assert run.metrics["history"][0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
        assert run.model.base == (None if settings["peft"] is None else source)


def test_pairs_that_are_left_out_are_counted(run_stage, pairs, text_model):
    pairs[0]["rejected"] = pairs[0]["chosen"] + " "
    pairs[1]["rejected"] = "z" * 200
    pairs[2]["chosen"] = ""
    run = run_stage(stage(max_steps=1, max_length=99), {"r": pairs}, models={"m": text_model})
    assert run.dropped == {
        "chosen and rejected are the same": 1,
        "longer than max_length": 1,
        "empty completion": 1,
    }
    assert run.metrics["n_rows"] == 5


def test_only_equal_pairs_is_an_error_with_the_count(run_stage, pairs, text_model):
    same = [{**pair, "rejected": pair["chosen"]} for pair in pairs]
    with pytest.raises(DataError, match="8 chosen and rejected are the same"):
        run_stage(stage(), {"r": same}, models={"m": text_model})


def test_dropout_of_an_adapter_is_used(run_stage, pairs, text_model, weights, tmp_path):
    """TRL turns it off unless it is told not to."""
    found = []
    for dropout in (0.0, 0.5):
        settings = stage(max_steps=2, peft={"r": 8, "lora_dropout": dropout}, learning_rate=1e-2)
        work = tmp_path / str(dropout)
        run = run_stage(settings, {"r": pairs}, models={"m": text_model}, work_dir=work)
        found.append(weights(run.model.directory))
    assert any(not torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_pattern_that_matches_the_output_layer_is_named(run_stage, pairs, text_model):
    with pytest.raises(ModelError, match="an adapter on lm_head, the output layer"):
        run_stage(stage(peft={"target_modules": ".*head"}), {"r": pairs}, models={"m": text_model})


def test_pairs_of_conversations_are_pairs_of_text(run_stage, pairs, chat_model, tmp_path):
    """One question and one answer as turns are trained as the same text."""

    def turns(pair):
        sides = {s: [{"role": "assistant", "content": pair[s]}] for s in ("chosen", "rejected")}
        return {**pair, "prompt": [{"role": "user", "content": pair["prompt"]}], **sides}

    losses = []
    for name, given in (("text", pairs), ("turns", [turns(pair) for pair in pairs])):
        run = run_stage(
            stage(max_steps=3, logging_steps=1, **LORA),
            {"r": given},
            models={"m": chat_model},
            work_dir=tmp_path / name,
        )
        losses.append([point["loss"] for point in run.metrics["history"]])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("loss", ["ipo", "hinge", "apo_zero", "sppo_hard", ["sigmoid", "sft"]])
def test_other_losses_are_trls(loss, run_stage, pairs, text_model):
    run = run_stage(
        stage(max_steps=2, loss_type=loss, **LORA), {"r": pairs}, models={"m": text_model}
    )
    first = run.metrics["history"][0]["loss"]
    known = {"ipo": 25.0, "hinge": 1.0}  # (0 - 1 / (2 beta))^2, and max(0, 1 - 0)
    if isinstance(loss, str) and loss in known:
        assert first == pytest.approx(known[loss], rel=1e-3)
    assert math.isfinite(first)


def test_a_weight_for_each_loss():
    with pytest.raises(ValueError, match="loss_weights: 2 wanted"):
        stage(loss_type=["sigmoid", "sft"], loss_weights=[1.0])
