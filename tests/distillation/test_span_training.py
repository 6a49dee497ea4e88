"""train_distill with losses over spans, end to end, against loops over tokens and vocabularies."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from llm_distill.distillation.alignment.encoding import row_encoder
from llm_distill.distillation.alignment.shared import Kind, shared_tokens
from llm_distill.distillation.losses.known import ACROSS_VOCABULARIES
from llm_distill.distillation.transfer.tokenizer_transfer import transfer_tokenizer
from llm_distill.models.sources import ModelSource, load_model
from llm_distill.stages.train_distill import TrainDistill
from tests.distillation import plain
from tests.distillation.losses import spans_by_hand

NAMES = [loss.name for loss in ACROSS_VOCABULARIES]
ONE_STEP = {"max_steps": 1, "learning_rate": 1e-3, "lr_scheduler_type": "constant"}
BETA = 0.3


def stage(**settings):
    given = {"stage": "train_distill", "model": "s", "teacher": "t", "rows": "r", "online": True}
    given |= {"losses": dict.fromkeys(NAMES, 1.0), "on_collapse": "ignore"}
    return TrainDistill(**{**given, **settings})


@pytest.fixture
def train(run_stage, tmp_path, student, teacher):
    def run(made, rows, models=None):
        folder = tmp_path / f"run {len(list(tmp_path.iterdir()))}"
        given = models or {"s": student, "t": teacher}
        return run_stage(made, {"r": rows}, models=given, work_dir=folder)

    return run


def places(source, row):
    """[(logits, token that follows)] at the tokens of the answer."""
    head, tail = row_encoder(source, None).pairs.encode(row["prompt"], row["completion"])
    logits = load_model(source)(torch.tensor([head + tail])).logits[0].double()
    return [(logits[len(head) + i - 1], token) for i, token in enumerate(tail)]


def needed(kind, teacher, student):
    """What the loops take of the vocabularies, by the loss's name."""
    encoders = row_encoder(student, None), row_encoder(teacher, None)
    sizes = [len(encoder.table.lengths) for encoder in encoders]
    shared = shared_tokens(*encoders, tuple(sizes), kind, projected=True)
    pairs = dict(zip(shared.same.student.tolist(), shared.same.teacher.tolist(), strict=True))
    near = dict(zip(shared.near.student.tolist(), shared.near.teacher.tolist(), strict=True))
    columns = (shared.edges.student.tolist(), shared.edges.teacher.tolist())
    weights = shared.edges.weights.tolist()
    edges = dict(zip(zip(*columns, strict=True), weights, strict=True))
    return {"gold": (pairs, BETA), "p_kl": (edges,), "h_kl": (near,), "simct": (pairs,)}


def by_hand(rows, teacher, student):
    """Of each loss the sum, and the number of spans."""
    sums, count = Counter(), 0
    # The student's text begins with a space, the teacher's in a chat does not.
    first, others = (needed(kind, teacher, student) for kind in (Kind.STUDENT_SPACE, Kind.EQUAL))
    assert first["gold"][0] != others["gold"][0]
    for row in rows:
        sides = [places(source, row) for source in (teacher, student)]
        texts = [plain.side(source, row) for source in (teacher, student)]
        for i, (ours, theirs, _) in enumerate(plain.chunks(*texts)):
            more = others if i else first
            spans = [sides[0][i] for i in ours], [sides[1][i] for i in theirs]
            for name in NAMES:
                sums[name] += getattr(spans_by_hand, name)(*spans, *more.get(name, ())).item()
            count += 1
    return sums, count


def test_the_losses_are_those_of_loops(train, rows, teacher, student):
    with torch.no_grad():
        expected, n_spans = by_hand(rows[:3], teacher, student)
    run = train(stage(beta=BETA, **ONE_STEP), rows[:3])
    assert run.metrics["alignment"]["n_chunks"] == n_spans
    assert run.metrics["alignment"]["student_tokens_per_chunk"] > 1.5
    point = run.metrics["history"][0]
    for name in NAMES:
        assert point[name] == pytest.approx(expected[name] / n_spans, rel=1e-4), name


def test_accumulation_does_not_change_the_result(train, rows):
    """One batch of 8 against 8 of 1, beside a loss that is a mean over other things."""
    rows[0]["completion"] *= 3
    losses, found = {"alm": 1.0, "sft": 1.0, **dict.fromkeys(NAMES, 0.5)}, []
    for size, times in ((8, 1), (1, 8)):
        batches = {"per_device_train_batch_size": size, "gradient_accumulation_steps": times}
        made = stage(losses=losses, max_steps=2, learning_rate=1e-3, logging_steps=1, **batches)
        found.append(train(made, rows).metrics["history"])
    for whole, accumulated in zip(*found, strict=True):
        for name in (*losses, "loss", "grad_norm"):
            assert accumulated[name] == pytest.approx(whole[name], rel=1e-3), name


def test_a_student_of_bytes_is_its_own_teacher(train, rows, teacher, tmp_path):
    """With its adapter off it says over its old tokens what the teacher says in memory."""
    transfer_tokenizer(teacher, None, tmp_path / "bytes", pytest.fail)
    models = {"s": ModelSource("s", str(tmp_path / "bytes")), "t": teacher}
    settings = {"max_steps": 2, "learning_rate": 1e-2, "logging_steps": 1, "peft": {"r": 4}}
    beside, own = (
        train(stage(online=online, **settings), rows, models).metrics["history"]
        for online in (True, "adapter_off")
    )
    for ours, theirs in zip(own, beside, strict=True):
        assert [ours[name] for name in NAMES] == pytest.approx(
            [theirs[name] for name in NAMES], rel=1e-5
        )
    assert own[0]["uld"] > 0.01


def test_stored_scores_are_refused_before_anything_runs():
    message = "losses: uld, simct compares the teacher's whole distributions, .* set online: true"
    with pytest.raises(ValidationError, match=message):
        stage(online=False, losses={"alm": 1.0, "uld": 1.0, "simct": 1.0})


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_bundled_student_comes_closer_to_the_bundled_teacher(name, train):
    lines = Path("data/word_problems/train.jsonl").read_text(encoding="utf-8").splitlines()[:48]
    rows = [
        {
            "id": row["id"],
            "prompt": row["question"],
            "completion": f"The answer is {row['reference_answer']}.",
        }
        for row in map(json.loads, lines)
    ]
    teacher = ModelSource("teacher", "data/models/tiny-teacher")
    student = ModelSource("student", "data/models/tiny-student", prompt_format="text")
    made = stage(losses={name: 1.0}, learning_rate=1e-3, max_steps=18, logging_steps=6)
    run = train(made, rows, {"s": student, "t": teacher})
    values = [point[name] for point in run.metrics["history"]]
    assert values[-1] < 0.95 * values[0]
