"""train_distill end to end on tiny models, against loops over bytes and tokens."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from llm_distill.distillation.losses.known import LOSSES
from llm_distill.distillation.losses.loss import Needs
from llm_distill.distillation.transfer.tokenizer_transfer import transfer_tokenizer
from llm_distill.errors import ConfigError, DataError, ModelError
from llm_distill.models.sources import ModelSource, load_model
from llm_distill.stages.score_likelihood import ScoreLikelihood
from llm_distill.stages.train_distill import TrainDistill
from llm_distill.stages.train_sft import TrainSft
from tests.distillation import plain, tiny
from tests.distillation.cuts import cut_after
from tests.distillation.losses.test_divergence import BETA, dense
from tests.tiny_tokenizer import tiny_tokenizer

ONE_STEP = {"max_steps": 1, "learning_rate": 1e-3, "lr_scheduler_type": "constant"}


def stage(**settings):
    given = {"stage": "train_distill", "model": "s", "teacher": "t", "rows": "r"}
    return TrainDistill(**{**given, "on_collapse": "ignore", **settings})


@pytest.fixture
def train(run_stage, tmp_path, student, teacher):
    """Runs a stage in a folder of its own."""

    def run(made, rows, models=None):
        folder = tmp_path / f"run {len(list(tmp_path.iterdir()))}"
        given = models or {"s": student, "t": teacher}
        return run_stage(made, {"r": rows}, models=given, work_dir=folder)

    return run


@pytest.fixture
def weights():
    from safetensors.torch import load_file

    def load(run):
        files = sorted(run.model.directory.glob("*.safetensors"))
        return {name: tensor for file in files for name, tensor in load_file(file).items()}

    return load


@pytest.fixture
def same_tokenizer(tmp_path):
    """Another model with the student's tokenizer."""
    tiny.save(tmp_path / "twin", tiny_tokenizer(tiny.FEW_PIECES, 268), 5)
    return ModelSource("twin", str(tmp_path / "twin"), prompt_format="text")


def last_layer(model):
    return list(model.model.layers[-1].parameters())


@pytest.mark.parametrize(
    "alm",
    [
        {"temperature": 1.0, "debias": False},
        {"temperature": 100.0, "gamma": 0.2},
        {"temperature": math.inf, "gamma": 0.1},
        {"temperature": 2.0, "divergence": "tvd", "gamma": 0.2},
    ],
    ids=lambda alm: ", ".join(map(str, alm.values())),
)
def test_the_loss_is_that_of_loops_over_bytes(alm, train, scored, rows, teacher, student):
    run = train(stage(alm=alm, losses={"alm": 1.0, "sft": 0.5}, **ONE_STEP), scored(rows, teacher))
    model = load_model(student)
    kind = alm.get("divergence", "kl")
    named = {name: value for name, value in alm.items() if name != "divergence"}
    expected, n_chunks = plain.alm(rows, teacher, student, model, kind=kind, **named)
    expected_sft = plain.sft(rows, student, model)
    point = run.metrics["history"][0]
    assert run.metrics["alignment"]["n_chunks"] == n_chunks
    assert point["alm"] == pytest.approx(expected.item(), rel=1e-4)
    assert point["sft"] == pytest.approx(expected_sft.item(), rel=1e-5)
    assert point["loss"] == pytest.approx(point["alm"] + 0.5 * point["sft"], rel=1e-6)
    (expected + 0.5 * expected_sft).backward()
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()
    assert point["grad_norm"] == pytest.approx(norm, rel=1e-3)
    json.dumps(run.metrics, allow_nan=False)


def test_low_probability_of_an_end_merges_chunks(train, scored, rows, teacher):
    given = scored(rows, teacher)
    runs = [train(stage(alm={"gamma": gamma}, **ONE_STEP), given) for gamma in (0.0, 0.2)]
    all_chunks, merged = (run.metrics["alignment"] for run in runs)
    assert len(rows) < merged["n_chunks"] < all_chunks["n_chunks"]
    assert (
        merged["share_of_bytes"] == all_chunks["share_of_bytes"] == 1
    )  # into the end at the least


def test_with_one_tokenizer_a_chunk_is_a_token(train, scored, rows, student, same_tokenizer):
    """And the loss is the divergence of hit and miss at each token."""
    # In a chat: plain text begins with a space, which goes with the first word.
    student, other = (replace(one, prompt_format="chat") for one in (student, same_tokenizer))
    alm = {"temperature": 1.0, "debias": False}
    models = {"s": student, "t": other}
    run = train(stage(alm=alm, losses={"alm": 1.0}, **ONE_STEP), scored(rows, other), models)
    model, total, count = load_model(student), 0.0, 0
    for row in rows:
        ours, theirs = (
            plain.side(other, row).logps.exp(),
            plain.side(student, row, model).logps.exp(),
        )
        hit = ours * (ours / theirs).log()
        miss = (1 - ours) * ((1 - ours) / (1 - theirs)).log()
        total += (hit + miss).sum().item()
        count += len(ours)
    figures = run.metrics["alignment"]
    assert figures["n_chunks"] == count
    assert figures["teacher_tokens_per_chunk"] == figures["student_tokens_per_chunk"] == 1
    assert figures["share_of_bytes"] == 1
    assert run.metrics["history"][0]["alm"] == pytest.approx(total / count, rel=1e-4)


@pytest.mark.parametrize("alm", [{"temperature": 100.0}, {"temperature": 1.0, "debias": False}])
def test_a_model_that_is_its_own_teacher_does_not_move(alm, train, scored, rows, student):
    models = {"s": student, "t": student}
    run = train(stage(alm=alm, losses={"alm": 1.0}, **ONE_STEP), scored(rows, student), models)
    point = run.metrics["history"][0]
    assert point["loss"] < 1e-6
    assert point["grad_norm"] < 1e-4


@pytest.mark.parametrize(
    ("combine", "more"),
    [
        ("fixed", {}),
        ("grad_mag", {"gradient_checkpointing": True}),
        ("grad_mag", {"gradient_checkpointing": True, "peft": {"r": 4}}),
    ],
)
def test_accumulation_does_not_change_the_result(
    combine, more, train, scored, rows, teacher, weights
):
    """One batch of 8 against 8 of 1, so of other paddings, on rows of very different lengths."""
    rows[0]["completion"] *= 3
    given, found = scored(rows, teacher), []
    for size, times in ((8, 1), (1, 8)):
        batches = {"per_device_train_batch_size": size, "gradient_accumulation_steps": times}
        settings = {"num_train_epochs": 3, "learning_rate": 1e-3, "logging_steps": 1, **batches}
        run = train(stage(combine=combine, **settings, **more), given)
        found.append((run.metrics["history"], weights(run)))
    (points, one), (accumulated, other) = found
    assert len(points) == 3
    for name in ("loss", "alm", "sft", "grad_norm"):
        ours, theirs = [p[name] for p in points], [p[name] for p in accumulated]
        assert ours == pytest.approx(theirs, rel=1e-3)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=3e-4)


def test_what_is_logged_is_the_mean_over_the_steps(train, scored, rows, teacher):
    given = scored(rows, teacher)
    settings = {"num_train_epochs": 4, "learning_rate": 1e-3, "per_device_train_batch_size": 4}
    each = train(stage(logging_steps=1, **settings), given).metrics["history"]
    every = train(stage(logging_steps=4, **settings), given).metrics["history"]
    assert [point["step"] for point in every] == [1, 4, 8]
    for name in ("loss", "alm", "sft"):
        mean = sum(point[name] for point in each[1:4]) / 3
        assert every[1][name] == pytest.approx(mean, rel=1e-4)


def test_sft_alone_is_train_sft(train, rows, student, weights):
    one = train(stage(losses={"sft": 1.0}, teacher=None, **ONE_STEP), rows)
    other = train(TrainSft(stage="train_sft", model="s", rows="r", **ONE_STEP), rows)
    for name in ("loss", "grad_norm"):
        ours, theirs = (run.metrics["history"][0][name] for run in (one, other))
        assert ours == pytest.approx(theirs, rel=1e-5)
    expected, found = weights(other), weights(one)
    assert expected.keys() == found.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_grad_mag_by_hand(weight, train, scored, rows, teacher, student):
    losses = {"alm": weight, "sft": 1.0}
    made = stage(losses=losses, combine="grad_mag", **ONE_STEP)
    point = train(made, scored(rows, teacher)).metrics["history"][0]
    model = load_model(student)
    parts = {
        "alm": plain.alm(rows, teacher, student, model)[0],
        "sft": plain.sft(rows, student, model),
    }
    norms = {}
    for name, part in parts.items():
        gradients = torch.autograd.grad(part, last_layer(model), retain_graph=True)
        norms[name] = torch.cat([g.flatten() for g in gradients]).norm().item()
    total = sum(1 / norm for norm in norms.values())
    expected = sum(losses[n] / norms[n] / total * parts[n].item() for n in parts)
    assert point["loss"] == pytest.approx(expected, rel=1e-3)


def test_grad_mag_of_one_loss_is_that_loss(train, scored, rows, teacher):
    given = scored(rows, teacher)
    points = [
        train(stage(losses={"alm": 2.0}, combine=combine, **ONE_STEP), given).metrics["history"][0]
        for combine in ("fixed", "grad_mag")
    ]
    assert points[0] == points[1]
    assert points[0]["loss"] == pytest.approx(2 * points[0]["alm"])


def test_grad_mag_with_nothing_to_measure(train, scored, rows, teacher):
    peft = {"r": 2, "target_modules": r"model\.layers\.0\..*q_proj"}
    with pytest.raises(ModelError, match="nothing in it is trained; let peft.target_modules"):
        train(stage(combine="grad_mag", peft=peft, **ONE_STEP), scored(rows, teacher))


def test_a_pattern_that_matches_the_output_layer_is_named(train, scored, rows, teacher):
    made = stage(peft={"target_modules": ".*head"}, **ONE_STEP)
    with pytest.raises(ModelError, match="an adapter on lm_head, the output layer"):
        train(made, scored(rows, teacher))


@pytest.mark.parametrize("alm", [{"gamma": 0.05}, {"debias": False}])
def test_a_teacher_in_memory_gives_the_same(alm, train, scored, rows, teacher, weights):
    settings = {"num_train_epochs": 2, "per_device_train_batch_size": 3, "logging_steps": 1}
    stored = train(stage(alm=alm, learning_rate=1e-3, **settings), scored(rows, teacher))
    online = train(stage(alm=alm, learning_rate=1e-3, online=True, **settings), rows)
    assert [p["loss"] for p in stored.metrics["history"]] == pytest.approx(
        [p["loss"] for p in online.metrics["history"]], rel=1e-4
    )
    assert online.warnings == []
    expected, found = weights(stored), weights(online)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-4)


def test_stored_scores_that_are_not_used_are_said(train, scored, rows, teacher):
    given = scored(rows, teacher)
    said = "'r' has stored scores (teacher_logps), which online: true does not use"
    (warning,) = train(stage(online=True, **ONE_STEP), given).warnings
    assert warning.startswith(said)
    assert train(stage(**ONE_STEP), given).warnings == []
    alone = stage(losses={"sft": 1.0}, online=True, **ONE_STEP)
    assert train(alone, given).warnings == []


def test_an_adapter_with_embeddings_learns_another_tokenizer_from_what_it_was(
    train, rows, teacher, tmp_path, weights
):
    """The rows of new tokens are means at first; its own teacher still has the old ones."""
    transfer_tokenizer(teacher, None, tmp_path / "bytes", pytest.fail)
    models = {"s": ModelSource("s", str(tmp_path / "bytes")), "t": teacher}
    settings = {"max_steps": 4, "learning_rate": 1e-2, "logging_steps": 1, "online": "adapter_off"}
    runs = [
        train(stage(peft={"r": 4, "train_embeddings": both}, **settings), rows, models)
        for both in (False, True)
    ]
    lora, whole = ([point["loss"] for point in run.metrics["history"]] for run in runs)
    assert whole[0] == pytest.approx(lora[0], rel=1e-5)
    assert whole[-1] < lora[-1]
    added = weights(runs[1]).keys() - weights(runs[0]).keys()
    assert sorted(name.rpartition("model.")[2] for name in added) == [
        "embed_tokens.weight",
        "lm_head.weight",
    ]


def test_a_student_that_is_its_own_teacher(train, rows, student, teacher, weights):
    """With the adapter off it scores as a teacher beside it does, in training as well."""
    settings = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 3,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "peft": {"r": 4, "lora_dropout": 0.3},
    }
    models = {"s": student, "t": student}
    runs = [
        train(stage(online=online, **settings), rows, models) for online in (True, "adapter_off")
    ]
    beside, own = ([p["loss"] for p in run.metrics["history"]] for run in runs)
    assert own == pytest.approx(beside, rel=1e-5)
    expected, found = map(weights, runs)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-5)
    message = "does not have the layers of its teacher .* beside it: set online: true"
    with pytest.raises(ModelError, match=message):
        train(stage(online="adapter_off", **settings), rows, {"s": student, "t": teacher})
    with pytest.raises(ValidationError, match="adapter_off needs peft"):
        stage(online="adapter_off")


def test_the_teacher_can_have_a_prompt_of_its_own(
    train, run_stage, rows, student, teacher, tmp_path, monkeypatch
):
    """Scores under one prompt fit the rows; read as if it were the other, they do not."""
    (tmp_path / "long.jinja").write_text("Think well before you answer. {{ question }}")
    (tmp_path / "short.jinja").write_text("{{ question }}")
    monkeypatch.chdir(tmp_path)
    asked = [{**row, "question": row["prompt"]} for row in rows]
    scoring = ScoreLikelihood(
        stage="score_likelihood", rows="r", model="t", prompt_template="long.jinja"
    )
    given = run_stage(scoring, {"r": asked}, models={"t": teacher}, work_dir=tmp_path / "w").rows
    made = {"prompt_template": "short.jinja", "teacher_prompt_template": "long.jinja"}
    own = train(stage(**made, **ONE_STEP), given).metrics["history"][0]
    online = train(stage(**made, online=True, **ONE_STEP), asked).metrics["history"][0]
    assert own["alm"] == pytest.approx(online["alm"], rel=1e-4)
    other = train(stage(prompt_template="short.jinja", online=True, **ONE_STEP), asked).metrics[
        "history"
    ][0]
    assert abs(other["alm"] - online["alm"]) > 1e-3
    assert other["sft"] == pytest.approx(online["sft"], rel=1e-6)
    with pytest.raises(ValidationError, match="needs rows with a prompt and a completion"):
        stage(text_column="text", teacher_prompt_template="long.jinja")


def test_whole_distributions(train, scored, rows, student, same_tokenizer):
    """Against dense logits, in memory; the stored top k of all tokens gives the same."""
    models = {"s": student, "t": same_tokenizer}
    kinds = [name for name, loss in LOSSES.items() if loss.needs & Needs.DISTRIBUTIONS]
    losses = dict.fromkeys(kinds, 1.0)
    made = {"losses": losses, "beta": BETA, **ONE_STEP}
    online = train(stage(online=True, **made), rows, models).metrics["history"][0]
    one, other, sums, count = load_model(same_tokenizer), load_model(student), Counter(), 0
    encoder = plain.pair_encoder(student, 999)
    for row in rows:
        head, tail = encoder.encode(row["prompt"], row["completion"])
        places = slice(len(head) - 1, len(head) + len(tail) - 1)
        p, q = (
            model(torch.tensor([head + tail])).logits[0, places].double().softmax(-1)
            for model in (one, other)
        )
        sums.update({kind: dense(p, q, kind).item() for kind in kinds})
        count += len(tail)
    for name in kinds:
        assert online[name] == pytest.approx(sums[name] / count, rel=1e-4)
    given = scored(rows, same_tokenizer, top_k=268)
    stored = train(stage(**made), given, models).metrics["history"][0]
    for name in (*losses, "grad_norm"):
        assert stored[name] == pytest.approx(online[name], rel=1e-3)
    few = train(stage(**made), scored(rows, same_tokenizer, top_k=8), models).metrics["history"][0]
    for wrong in (-1, 268):
        given[0]["teacher_top_ids"][3] = wrong
        with pytest.raises(DataError, match=rf"teacher_top_ids holds {wrong}, .* tokens 0 to 267"):
            train(stage(**made), given, models)
    for name in losses:
        assert 0 < few[name] < online[name]


def test_whole_distributions_need_one_tokenizer(train, rows):
    with pytest.raises(ConfigError, match=r"'t' and 's' differ: the teacher's has \d+ tokens"):
        train(stage(losses={"forward_kl": 1.0}, online=True, **ONE_STEP), rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"scored_by": "other 123"},
            r"row r0 of 'r' was scored by other 123, and .* 't' is teacher",
        ),
        ({"scored_by": None}, r"row r0 of 'r' was scored by no model"),
        ({"completion": "Ann is 22 years or so."}, "row r0 of 'r' is not what was scored"),
        ("a digit", "row r0 of 'r' is not what was scored"),  # as many tokens as before
        ({"prompt": "How old is Bob?"}, "row r0 of 'r' is not what was scored"),
        ({"teacher_logps": None}, r"row r0 of 'r' has no teacher_logps"),
        ({"teacher_log_pbs": None}, r"has no teacher_log_pbs; .* or set alm.debias: false"),
        ("nan", r"row r0 of 'r': teacher_logps holds nan, which is not a log-probability"),
        ("positive", r"row r0 of 'r': teacher_log_pbs holds 0.01, which is not a log-probability"),
    ],
)
def test_scores_that_do_not_fit_are_refused(change, message, train, scored, rows, teacher):
    given = scored(rows, teacher)
    if change == "nan":
        change = {"teacher_logps": [math.nan, *given[0]["teacher_logps"][1:]]}
    elif change == "positive":
        change = {"teacher_log_pbs": [0.01, *given[0]["teacher_log_pbs"][1:]]}
    elif change == "a digit":
        last = next(c for c in reversed(given[0]["completion"]) if c.isdigit())
        change = {"completion": given[0]["completion"].replace(last, "7" if last != "7" else "8")}
    with pytest.raises(DataError, match=message):
        train(stage(**ONE_STEP), [{**given[0], **change}, *given[1:]])


def test_rows_that_are_left_out_are_counted(train, scored, rows, teacher):
    rows[1]["completion"] = "very " * 40
    given = scored(rows, teacher)
    given[2] = {**given[2], "completion": ""}
    run = train(stage(max_length=120, **ONE_STEP), given)
    expected = {"longer than max_length": 1, "empty completion": 1}
    assert run.dropped == run.metrics["alignment"]["dropped"] == expected
    assert run.metrics["n_rows"] == 6


def test_a_text_that_was_cut_teaches_no_end(train, scored, rows, teacher, student):
    """Its end token is in no loss; the other rows are as they were."""
    cut = [{**row, "finish_reason": "length" if n < 2 else "stop"} for n, row in enumerate(rows)]
    given = {"losses": {"alm": 1.0, "sft": 1.0}, "alm": {"debias": False}, **ONE_STEP}
    closed = train(stage(**given), scored(cut, teacher))
    opened = train(stage(truncated="open", **given), scored(cut, teacher, truncated="open"))
    assert opened.metrics["n_tokens"] == closed.metrics["n_tokens"] - 2
    chunks = [run.metrics["alignment"]["n_chunks"] for run in (closed, opened)]
    assert chunks[1] == chunks[0] - 2
    dropped = train(stage(truncated="drop", **given), scored(cut, teacher))
    assert dropped.dropped == {"cut by max_tokens": 2}
    with pytest.raises(DataError, match="is not what was scored"):
        train(stage(truncated="open", **given), scored(cut, teacher))


@pytest.fixture
def composing(tmp_path):
    """The student with a tokenizer that composes characters (NFC)."""
    from tokenizers import normalizers

    made = tiny_tokenizer(tiny.FEW_PIECES, 268)
    made.backend_tokenizer.normalizer = normalizers.NFC()
    tiny.save(tmp_path / "composing", made, 2)
    return ModelSource("composing", str(tmp_path / "composing"), prompt_format="text")


def test_texts_that_differ_are_dropped_up_to_a_share(train, scored, rows, teacher, composing):
    for row in rows[:2]:
        row["completion"] = row["completion"].replace("é", "e\u0301")
    given, models = scored(rows, teacher), {"s": composing, "t": teacher}
    run = train(stage(max_dropped=0.25, **ONE_STEP), given, models)
    assert run.dropped == {"texts differ after normalisation": 2}
    message = r"2 of 8 rows of 'r' are not the same text .*: row r0: 'Ann .*' and .*now 0.2"
    with pytest.raises(DataError, match=message):
        train(stage(**ONE_STEP), given, models)
    for row in rows:
        row["completion"] = row["completion"].replace("é", "e\u0301")
    message = (
        r"no row of 'r' can be trained on: 8 texts differ after normalisation; texts that differ: "
        r"row r0: 'Ann .*' and '.*; row r1: .* Normalise the texts before"
    )
    with pytest.raises(DataError, match=message):
        train(stage(max_dropped=1, **ONE_STEP), scored(rows, teacher), models)
    only = train(stage(losses={"sft": 1.0}, teacher=None, **ONE_STEP), given, models)
    assert only.dropped == {}


def test_conversations_and_documents(train, scored, teacher, student):
    turns = [
        {"role": "user", "content": "How old is Ann?"},
        {"role": "assistant", "content": "Ann is 21 years old."},
        {"role": "user", "content": "And Bob?"},
        {"role": "assistant", "content": "Bob is 28."},
    ]
    talks = [{"id": "a", "messages": turns}]
    models = {"s": replace(student, prompt_format="chat"), "t": teacher}
    given = scored(talks, teacher, messages_column="messages")
    run = train(stage(messages_column="messages", **ONE_STEP), given, models)
    assert run.metrics["alignment"]["share_of_bytes"] == 1
    assert run.metrics["alignment"]["n_chunks"] > 2
    papers = [{"id": "a", "text": "Ann is 21 years old. Bob is 28."}]
    given = scored(papers, teacher, text_column="text")
    run = train(stage(text_column="text", **ONE_STEP), given)
    assert 0.6 < run.metrics["alignment"]["share_of_bytes"] < 1  # nothing predicts the first token


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"text_column": "messages"}, "messages holds a list, not text"),
        ({"messages_column": "text"}, "text holds text, not messages"),
    ],
)
def test_a_setting_decides_what_a_column_holds(settings, reason, train, student):
    """Neither is a conversation learned as a text, nor a text whole where answers should be."""
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ann."}]
    rows = [{"id": "a", "messages": turns, "text": "Ann is 21 years old."}]
    made = stage(losses={"sft": 1.0}, teacher=None, **settings, **ONE_STEP)
    with pytest.raises(DataError, match=f"can be trained on: 1 {reason}"):
        train(made, rows, {"s": replace(student, prompt_format="chat")})


def test_no_rows(train, rows):
    made = stage(losses={"sft": 1.0}, if_no_rows="keep_model", **ONE_STEP)
    assert train(made, []).metrics["steps"] == 0
    assert made.may_be_empty() == {"r"}


def test_settings_are_checked_before_a_run():
    with pytest.raises(ValueError, match="alm, sft|name one loss"):
        stage(losses={})
    with pytest.raises(ValueError, match="alm needs a teacher"):
        stage(teacher=None)
    with pytest.raises(ValueError, match="greater than 0"):
        stage(losses={"alm": 0})
    whose = {"scored_by", "scored_text"}
    assert stage().required_columns() == {
        "r": {"id", "prompt", "completion", "teacher_logps", "teacher_log_pbs", *whose}
    }
    assert stage(online=True).required_columns() == {"r": {"id", "prompt", "completion"}}
    plainly = stage(alm={"debias": False}, losses={"alm": 1, "jsd": 1}, text_column="text")
    top = {"teacher_top_ids", "teacher_top_logps"}
    assert plainly.required_columns() == {"r": {"id", "text", "teacher_logps", *whose, *top}}


def test_an_infinite_temperature_has_a_fingerprint():
    from llm_distill.digests import fingerprint
    from llm_distill.runtime.fingerprint import result_settings

    made = stage(alm={"temperature": math.inf})
    assert fingerprint(result_settings(made)) != fingerprint(result_settings(stage()))
    assert TrainDistill(**made.model_dump(mode="json")) == made


@pytest.mark.parametrize(
    "more",
    [{}, {"peft": {"r": 4, "lora_dropout": 0.3}, "combine": "grad_mag"}, {"online": True}],
    ids=["full", "adapter", "online"],
)
def test_resumed_is_the_same_as_never_cut(
    more, run_stage, scored, rows, teacher, student, weights, tmp_path
):
    made = stage(
        num_train_epochs=3,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        learning_rate=1e-3,
        logging_steps=2,
        save_steps=3,
        **more,
    )
    inputs, models = {"r": scored(rows, teacher)}, {"s": student, "t": teacher}
    whole = run_stage(made, inputs, models=models, work_dir=tmp_path / "whole")
    with cut_after(5):
        run_stage(made, inputs, models=models, work_dir=tmp_path / "cut")
    resumed = run_stage(made, inputs, models=models, work_dir=tmp_path / "cut")
    assert resumed.metrics["resumed_from_step"] == 3
    expected, found = weights(whole), weights(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert resumed.metrics["history"] == whole.metrics["history"]


@pytest.mark.slow
def test_the_bundled_student_comes_closer_to_the_bundled_teacher(train, scored):
    lines = Path("data/word_problems/train.jsonl").read_text(encoding="utf-8").splitlines()[:64]
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
    settings = {"learning_rate": 1e-3, "max_steps": 24, "logging_steps": 8}
    settings["on_collapse"] = "warn"  # of likelihoods, on bare answers that it then repeats
    run = train(
        stage(alm={"temperature": 100}, **settings),
        scored(rows, teacher),
        {"s": student, "t": teacher},
    )
    values = [point["alm"] for point in run.metrics["history"]]
    assert values[-1] < 0.85 * values[0]
