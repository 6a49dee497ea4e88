"""The states that a warm-up leaves, against a training by hand; and after kills."""

from __future__ import annotations

import json

import pytest
import torch

from llm_distill.methods.seeds import derive_seed
from llm_distill.stages.score_gradient_similarity import ScoreGradientSimilarity
from llm_distill.training.checkpoints import why_not_whole
from llm_distill.training.loop import WholeHistory
from llm_distill.training.warm_up import read_state, start_model

RATE = 1e-3


def stage(**more):
    return ScoreGradientSimilarity(
        stage="score_gradient_similarity", rows="r", reference="r", model="m", warm_up="r",
        **{"learning_rate": RATE, "lr_scheduler_type": "linear", "warm_up_share": 1.0, **more},
    )  # fmt: skip


class Cut(BaseException):
    """Stands for Ctrl-C."""


@pytest.fixture
def states(run_stage, rows, text_model, tmp_path, monkeypatch):
    """The files of a warm-up, without the scoring after it."""
    found = []

    def only_warmed_up(self, context):
        encoder = self.encoder(context.model("m"))
        each = self.max_steps < 0
        found[:] = self.states(context, encoder, each_epoch=each, share=self.warm_up_share)
        raise Cut

    monkeypatch.setattr(ScoreGradientSimilarity, "run", only_warmed_up)

    def run(made, name, given=rows):
        with pytest.raises(Cut):
            run_stage(made, {"r": given}, models={"m": text_model}, work_dir=tmp_path / name)
        return list(found)

    return run


def by_hand(made, model, examples, n_steps):
    """Each state after a step over all rows, with gradients clipped as the trainer does it."""
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=RATE, weight_decay=0)
    for step in range(n_steps):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / n_steps)
        losses = []
        for ids, labels in examples:
            logps = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            losses += [-logps[i - 1, t] for i, t in enumerate(labels) if t != -100]
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), made.max_grad_norm)
        optimizer.step()
        moments = [
            (optimizer.state[p]["exp_avg"].clone(), optimizer.state[p]["exp_avg_sq"].clone())
            for p in trained.values()
        ]
        weights = [p.detach().clone() for p in trained.values()]
        yield {n: (w, *m) for n, w, m in zip(trained, weights, moments, strict=True)}


@pytest.mark.parametrize("peft", [None, {"r": 4}], ids=["full", "lora"])
def test_states_are_weights_and_moments_at_the_end_of_each_epoch(states, rows, text_model, peft):
    made = stage(num_train_epochs=3, per_device_train_batch_size=len(rows), peft=peft)
    files = states(made, "work")
    encoder = made.encoder(text_model)
    encoded = [encoder.pairs.encode(row["prompt"], row["completion"]) for row in rows]
    examples = [([*head, *tail], [-100] * len(head) + tail) for head, tail in encoded]
    metrics = json.loads((files[0].parent / "metrics.json").read_text())
    assert (metrics["warm_up_rows"], metrics["steps"]) == (len(rows), 3)
    # A of an adapter is at random, from the stage's own seed.
    model = start_model(made, text_model, derive_seed(0, "warm_up"))
    for step, (file, expected) in enumerate(
        zip(files, by_hand(made, model, examples, 3), strict=True)
    ):
        found = read_state(file)
        assert found.weights.keys() == expected.keys()
        assert found.n_steps == step + 1
        assert found.learning_rate == pytest.approx(RATE * (1 - step / 3))
        for name, (weight, m, v) in expected.items():
            torch.testing.assert_close(found.weights[name], weight, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found.first[name], m, rtol=1e-3, atol=1e-6)
            torch.testing.assert_close(found.second[name], v, rtol=1e-3, atol=1e-9)


def test_rates_are_means_over_an_epoch(states, rows):
    """Of its steps, not that of its last step."""
    made = stage(num_train_epochs=2, per_device_train_batch_size=3, warmup_steps=2)
    files = states(made, "work")
    n = -(-len(rows) // 3)
    rates = [min(t / 2, (2 * n - t) / (2 * n - 2)) * RATE for t in range(2 * n)]
    assert [read_state(f).n_steps for f in files] == [n, 2 * n]
    expected = [sum(rates[:n]) / n, sum(rates[n:]) / n]
    assert [read_state(f).learning_rate for f in files] == pytest.approx(expected)


def test_the_last_state_alone(states):
    (file,) = states(stage(max_steps=5, per_device_train_batch_size=2), "work")
    assert read_state(file).n_steps == 5


@pytest.mark.parametrize("step", [1, 4, 6, 8])
def test_a_warm_up_that_was_cut_leaves_the_same(states, rows, monkeypatch, step, tmp_path):
    """Between checkpoints, at one, at an epoch's end, and at the very last step."""
    made = stage(
        num_train_epochs=2, per_device_train_batch_size=2, save_steps=2,
        peft={"r": 4, "lora_dropout": 0.3},
    )  # fmt: skip
    assert len(rows) == 8
    whole = states(made, "whole")
    original = WholeHistory.on_step_end

    def on_step_end(self, args, state, control, **of):
        original(self, args, state, control, **of)
        if state.global_step == step:
            raise Cut

    with monkeypatch.context() as patched:
        patched.setattr(WholeHistory, "on_step_end", on_step_end)
        states(made, "cut")
    cut = states(made, "cut")
    assert [path.name for path in cut] == [path.name for path in whole]
    for one, other in zip(whole, cut, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert not list((tmp_path / "cut" / "checkpoints").glob("checkpoint-*"))


def test_it_is_not_repeated_but_if_damaged(states, monkeypatch, tmp_path):
    made = stage(num_train_epochs=1, per_device_train_batch_size=4)
    (file,) = states(made, "work")
    before = file.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("llm_distill.training.warm_up.train", None)
        states(made, "work")
    file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert why_not_whole(file.parent) is not None
    assert states(made, "work") == [file]
    assert file.read_bytes() == before


def test_a_random_share_does_not_depend_on_order(states, rows, tmp_path):
    made = stage(num_train_epochs=1, per_device_train_batch_size=8, warm_up_share=0.5)
    drawn = []
    for name, given in (("forward", rows), ("backward", rows[::-1])):
        (file,) = states(made, name, given)
        metrics = json.loads((file.parent / "metrics.json").read_text())
        assert metrics["warm_up_rows"] == 4
        drawn.append(metrics["warm_up_tokens"])
    assert drawn[0] == drawn[1]
