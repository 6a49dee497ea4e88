"""KTO end to end on a tiny model: its loss by brute force, and what it makes likelier."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from llm_distill.models.sources import load_model
from llm_distill.stages.train_kto import TrainKto
from llm_distill.training.encoder import pair_encoder

LORA = {"peft": {"r": 8}, "learning_rate": 5e-3, "lr_scheduler_type": "constant"}


def stage(**settings):
    given = {"on_collapse": "ignore", **settings}
    return TrainKto(stage="train_kto", model="m", rows="r", **given)


@pytest.fixture
def judged(rows):
    """Right ages are wanted, other people's are not."""
    answers = [row["completion"] for row in rows]
    right = [{**row, "is_correct": True} for row in rows]
    wrong = [
        {**row, "id": f"{row['id']}w", "completion": answer, "is_correct": False}
        for row, answer in zip(rows, answers[1:] + answers[:1], strict=True)
    ]
    return [*right, *wrong]


def logprob(source, row):
    head, tail = pair_encoder(source, 256).encode(row["prompt"], row["completion"])
    with torch.no_grad():
        logits = load_model(source)(torch.tensor([head + tail])).logits[0]
    return float(logits.log_softmax(-1)[len(head) - 1 : -1][range(len(tail)), tail].sum())


def test_what_is_wanted_becomes_likelier_than_what_is_not(run_stage, judged, text_model, trained):
    run = run_stage(stage(max_steps=30, **LORA), {"r": judged}, models={"m": text_model})
    # Before the first step nothing is gained or lost: 1 - sigmoid(0).
    assert run.metrics["history"][0]["loss"] == pytest.approx(0.5, abs=1e-4)
    after = trained(run.model, text_model)
    gains = {row["id"]: logprob(after, row) - logprob(text_model, row) for row in judged}
    right = [gains[row["id"]] for row in judged if row["is_correct"]]
    wrong = [gains[row["id"]] for row in judged if not row["is_correct"]]
    assert sum(right) / len(right) > sum(wrong) / len(wrong) + 1
    assert run.model.base == text_model


def test_rows_without_a_label_are_counted(run_stage, judged, text_model):
    judged[0]["is_correct"] = None
    judged[1]["completion"] = ""
    run = run_stage(stage(max_steps=1, **LORA), {"r": judged}, models={"m": text_model})
    assert run.dropped == {"no label": 1, "empty completion": 1}
    assert run.metrics["n_rows"] == len(judged) - 2


def test_the_order_of_training_is_the_seeds(run_stage, judged, text_model, weights, tmp_path):
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run = run_stage(
            stage(max_steps=2, **LORA),
            {"r": judged},
            models={"m": text_model},
            work_dir=tmp_path / name,
            seed=seed,
        )
        found.append(weights(run.model.directory))
    same = [all(torch.equal(found[0][n], other[n]) for n in other) for other in found[1:]]
    assert same == [True, False]


def test_pairs_are_split_into_wanted_and_unwanted(run_stage, judged, text_model, weights, tmp_path):
    n = len(judged) // 2
    pairs = [
        {"id": c["id"], "prompt": c["prompt"], "chosen": c["completion"], "rejected": r}
        for c, r in zip(judged[:n], (row["completion"] for row in judged[n:]), strict=True)
    ]
    split = [row for pair in zip(judged[:n], judged[n:], strict=True) for row in pair]
    asked = {"max_steps": 2, **LORA}
    given = {"models": {"m": text_model}}
    found = run_stage(stage(pairs=True, **asked), {"r": pairs}, work_dir=tmp_path / "a", **given)
    other = run_stage(stage(**asked), {"r": split}, work_dir=tmp_path / "b", **given)
    assert found.metrics["n_rows"] == other.metrics["n_rows"] == 2 * n
    ours, theirs = weights(found.model.directory), weights(other.model.directory)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    pairs[0]["rejected"] = pairs[0]["chosen"]
    again = run_stage(stage(pairs=True, **asked), {"r": pairs}, work_dir=tmp_path / "c", **given)
    assert again.dropped == {"chosen and rejected are the same": 1}


def test_pairs_have_no_label():
    assert stage(pairs=True).required_columns() == {"r": {"id", "prompt", "chosen", "rejected"}}
    with pytest.raises(ValidationError, match="label_column: with pairs no label is read"):
        stage(pairs=True, label_column="good")
