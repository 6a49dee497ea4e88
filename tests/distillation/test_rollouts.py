"""Texts that the student writes in training steps, and what it learns from them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from llm_distill.distillation.alignment.encoding import row_encoder
from llm_distill.distillation.reading import Reading
from llm_distill.distillation.rollouts.figures import check_length
from llm_distill.distillation.rollouts.rows import Written, read_written
from llm_distill.distillation.rollouts.settings import RolloutSettings
from llm_distill.distillation.rollouts.writing import Writer
from llm_distill.distillation.teacher.online import TeacherInMemory
from llm_distill.distillation.teacher.opening import Readers
from llm_distill.errors import DataError, ModelError
from llm_distill.models.sources import ModelSource, load_model
from llm_distill.paths import bundled_root
from llm_distill.stages.train_distill import TrainDistill
from llm_distill.training.greedy import write_greedily
from tests.distillation import plain, tiny
from tests.distillation.cuts import cut_after
from tests.tiny_tokenizer import tiny_tokenizer

ONE_STEP = {"max_steps": 1, "learning_rate": 1e-3, "lr_scheduler_type": "constant"}
SHORT = {"max_tokens": 12}
LORA = {"r": 4, "lora_dropout": 0.3}


def stage(**settings):
    given = {"stage": "train_distill", "model": "s", "teacher": "t", "rows": "r", "online": True}
    given |= {"losses": {"reverse_kl": 1.0}, "rollouts": SHORT, "logging_steps": 1}
    given |= {"on_collapse": "ignore"}
    return TrainDistill(**{**given, **settings})


@pytest.fixture
def twin(tmp_path):
    """A teacher with the student's tokenizer."""
    tiny.save(tmp_path / "twin", tiny_tokenizer(tiny.FEW_PIECES, 268), 5, dropout=0.1)
    return ModelSource("twin", str(tmp_path / "twin"), prompt_format="text")


@pytest.fixture
def train(run_stage, tmp_path, student, twin):
    """Runs a stage in a folder of its own."""

    def run(made, rows, models=None, work_dir=None, **inputs):
        folder = work_dir or tmp_path / f"run {len(list(tmp_path.iterdir()))}"
        given = models or {"s": student, "t": twin}
        return run_stage(made, {"r": rows, **inputs}, models=given, work_dir=folder)

    return run


@pytest.fixture
def weights():
    from safetensors.torch import load_file

    def load(run):
        files = sorted(run.model.directory.glob("*.safetensors"))
        return {name: tensor for file in files for name, tensor in load_file(file).items()}

    return load


@pytest.fixture
def texts(monkeypatch):
    """What the student writes in each step, with its prompts."""
    found = []
    write = Writer.write

    def noted(self, model, prompts, seeds, step):
        written = write(self, model, prompts, seeds, step)
        found.append(list(zip(prompts, written, strict=True)))
        return written

    monkeypatch.setattr(Writer, "write", noted)
    return found


@pytest.fixture(scope="module")
def world():
    """Word problems that the bundled student answers, whose teacher has another tokenizer."""
    root = bundled_root() / "data"
    models = {
        "s": ModelSource("s", str(root / "models/tiny-student"), prompt_format="text"),
        "t": ModelSource("t", str(root / "models/tiny-teacher")),
    }
    lines = (root / "word_problems/train.jsonl").read_text().splitlines()[:12]
    asked = [(row["id"], row["question"]) for row in map(json.loads, lines)]
    rows = [{"id": i, "prompt": f"Question: {text}\nAnswer:"} for i, text in asked]
    return models, rows


def test_tokens_say_how_a_text_ended(student):
    tokenizer = row_encoder(student, None).tokenizer
    ids = tokenizer("It is 4. It is 5.", add_special_tokens=False)["input_ids"]
    end, logps = 1, [-float(n) for n in range(len(ids))]

    def read(ids, stops=(), ends=frozenset({end})):
        return read_written(ids, tokenizer, ends, stops, logps[: len(ids)])

    cut = read(ids)
    assert (cut.ids, cut.finish, cut.logps) == (tuple(ids), "length", tuple(logps))
    ended = read([*ids[:3], end, *ids[3:5]])  # whoever wrote it went on after the end
    assert (ended.ids, ended.finish, len(ended.logps)) == ((*ids[:3], end), "end", 4)
    stopped = read(ids, stops=("5", " It"))
    assert (stopped.ids, stopped.finish) == (tuple(ids), "stop")
    assert stopped.text == "It is 4."
    assert read(ids, stops=("7",)).finish == "length"
    assert read_written(ids, tokenizer, {end}, ()).logps is None


@pytest.mark.parametrize("losses", ["reverse_kl", "forward_kl", "jsd", "alm"])
def test_a_teacher_equal_to_the_student_moves_nothing(losses, train, rows, student):
    models = {"s": student, "t": student}
    made = stage(losses={losses: 1.0}, alm={"debias": False}, **ONE_STEP)
    point = train(made, rows, models).metrics["history"][0]
    assert point["rollouts/tokens"] > 5
    assert point["rollouts/left_out"] == 0
    assert point["loss"] < 1e-6
    assert point["grad_norm"] < 1e-4


def test_the_loss_is_the_divergence_at_the_tokens_that_were_drawn(
    train, rows, student, twin, texts
):
    """By plain forward passes of either model, one row at a time."""
    point = train(stage(**ONE_STEP), rows).metrics["history"][0]
    ours, theirs = load_model(student), load_model(twin)
    total, count = 0.0, 0
    assert len(texts[0]) == len(rows)
    for prompt, written in texts[0]:
        ids = torch.tensor([[*prompt, *written.ids]])
        q, p = (m(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1) for m in (ours, theirs))
        total += (q.exp() * (q - p)).sum().item()
        count += len(written.ids)
    assert point["loss"] == pytest.approx(total / count, rel=1e-4)
    assert point["rollouts/tokens"] == pytest.approx(
        sum(len(w.ids) - (w.finish == "end") for _, w in texts[0]) / len(rows)
    )


def test_what_is_written_depends_on_the_seed_and_not_on_the_batch(twin, rows):
    """Nor on dropout, which is on in the model."""
    model, encoder = load_model(twin).train(), row_encoder(twin, None)
    prompts = [encoder.pairs.encode(row["prompt"], "x")[0] for row in rows]
    seeds = list(range(len(rows)))

    def write(n, seeds, **settings):
        return Writer(encoder, RolloutSettings(**SHORT, batch_size=n, **settings)).write(
            model, prompts, seeds
        )

    together = write(8, seeds)
    assert together == write(1, seeds) == write(3, seeds)
    assert model.training
    assert len({text.ids for text in together}) == len(rows)
    assert together != write(8, [seed + 1 for seed in seeds])
    greedy = [text.ids for text in write(8, seeds, temperature=0)]
    pad = encoder.tokenizer.pad_token_id
    for ids, expected in zip(
        greedy, write_greedily(model, prompts, encoder.pairs.ends, pad, 12).ids, strict=True
    ):
        assert list(ids) == expected[: len(ids)]


def test_draws_have_the_model_s_own_probabilities(student, rows):
    """The first token of many texts."""
    model, encoder = load_model(student).train(), row_encoder(student, None)
    prompt = encoder.pairs.encode(rows[0]["prompt"], "x")[0]
    n = 4000
    settings = RolloutSettings(max_tokens=1, batch_size=n)
    found = Writer(encoder, settings).write(model, [prompt] * n, list(range(n)))
    counts = torch.bincount(torch.tensor([t.ids[0] for t in found]), minlength=268)
    expected = model.eval()(torch.tensor([prompt])).logits[0, -1].softmax(-1)[:268]
    error = (counts / n - expected).abs()
    assert (error < 4.5 * (expected * (1 - expected) / n).sqrt() + 1e-3).all()


def test_a_share_of_the_rows_is_written_and_the_others_keep_their_text(train, rows, student, texts):
    """The loss sft is of the others alone; in each epoch other rows are written."""
    losses = {"reverse_kl": 1.0, "sft": 1.0}
    made = stage(
        losses=losses,
        rollouts={"share": 0.5, **SHORT},
        per_device_train_batch_size=4,
        num_train_epochs=2,
        learning_rate=1e-9,
    )
    run = train(made, rows)
    assert [len(written) for written in texts] == [2] * 4
    prompts = [tuple(prompt) for written in texts for prompt, _ in written]
    assert len(set(prompts)) > 4  # not the same half in each epoch
    model, encoder = load_model(student), row_encoder(student, None)
    whole = {tuple(encoder.pairs.encode(r["prompt"], "x")[0]): r for r in rows}
    # A step of all rows, to know which are kept.
    texts.clear()
    made = stage(losses=losses, rollouts={"share": 0.5, **SHORT}, **ONE_STEP)
    point = train(made, rows).metrics["history"][0]
    kept = [row for key, row in whole.items() if key not in {tuple(p) for p, _ in texts[0]}]
    assert len(kept) == 4
    assert point["sft"] == pytest.approx(plain.sft(kept, student, model).item(), rel=1e-4)
    json.dumps(run.metrics, allow_nan=False)


def test_any_stretch_has_its_share():
    for share, n in ((0.3, 10), (0.1, 4), (1.0, 5), (0.99, 100)):
        settings = RolloutSettings(share=share)
        planned = [settings.is_planned(place) for place in range(400)]
        for start in range(0, 400 - n, 7):
            assert abs(sum(planned[start : start + n]) - share * n) < 1


@pytest.mark.parametrize(
    "more", [{}, {"gradient_checkpointing": True}, {"gradient_checkpointing": True, "peft": LORA}]
)
def test_accumulation_does_not_change_the_result(more, train, rows, weights, texts):
    """With dropout in the adapter, which cannot be the same: then what is written is."""
    found = []
    rows[0]["completion"] *= 3
    losses = {"reverse_kl": 1.0, "sft": 0.5}
    for size, times in ((8, 1), (2, 4)):
        batches = {"per_device_train_batch_size": size, "gradient_accumulation_steps": times}
        settings = {"num_train_epochs": 2, "learning_rate": 1e-3, "losses": losses, **batches}
        run = train(stage(rollouts={"share": 0.75, **SHORT}, **settings, **more), rows)
        found.append((run.metrics["history"], weights(run), list(texts)))
        texts.clear()
    (points, one, written), (accumulated, other, again) = found
    assert len(points) == len(accumulated) == 2
    assert written[0] == again[0]
    if "peft" in more:
        return
    assert written == again
    for name in ("loss", "reverse_kl", "sft", "grad_norm", "rollouts/tokens"):
        assert [p[name] for p in points] == pytest.approx([p[name] for p in accumulated], rel=1e-3)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=3e-4)


@pytest.mark.slow
@pytest.mark.parametrize("peft", [None, LORA])
def test_resumed_is_the_same_as_never_cut(peft, train, rows, weights, tmp_path):
    made = stage(
        rollouts={"share": 0.75, **SHORT},
        losses={"reverse_kl": 1.0, "sft": 1.0},
        num_train_epochs=3,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        learning_rate=1e-3,
        logging_steps=4,
        save_steps=3,
        peft=peft,
    )
    whole = train(made, rows, work_dir=tmp_path / "whole")
    with cut_after(5):
        train(made, rows, work_dir=tmp_path / "cut")
    resumed = train(made, rows, work_dir=tmp_path / "cut")
    assert resumed.metrics["resumed_from_step"] == 3
    assert resumed.metrics["history"] == whole.metrics["history"]
    expected, found = weights(whole), weights(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_rows_that_are_held_out_keep_their_own_text(train, rows, texts):
    held = [{**row, "id": f"e{row['id']}"} for row in rows]
    settings = {"eval_rows": "e", "max_steps": 2, "learning_rate": 1e-9}
    on, off = (
        train(stage(rollouts=rollouts, **settings), rows, e=held) for rollouts in (SHORT, None)
    )
    first, second = ({tuple(prompt): text for prompt, text in of} for of in texts)
    assert first.keys() == second.keys()
    assert all(first[prompt] != second[prompt] for prompt in first)  # each step draws anew
    before = (run.metrics["history"][0]["eval_loss"] for run in (on, off))
    assert next(before) == pytest.approx(next(before), rel=1e-6)


def test_across_tokenizers_the_student_s_own_words_are_compared(train, world, texts):
    """The loss is that of rows that have these words: chunk by chunk, and to the end."""
    models, rows = world
    rollouts = {"max_tokens": 72, "temperature": 0.2}
    settings = {"max_length": 256, "per_device_train_batch_size": len(rows), **ONE_STEP}
    made = stage(losses={"alm": 1.0}, rollouts=rollouts, **settings)
    point = train(made, rows, models).metrics["history"][0]
    assert point["rollouts/left_out"] == point["rollouts/truncated"] == 0
    encoder = row_encoder(models["s"], None)
    by_prompt = {tuple(encoder.pairs.encode(r["prompt"], "x")[0]): r for r in rows}
    written = [
        {**by_prompt[tuple(p)], "completion": encoder.tokenizer.decode(w.ids[:-1]).strip()}
        for p, w in texts[0]
    ]
    expected, _ = plain.alm(written, models["t"], models["s"], load_model(models["s"]))
    assert point["alm"] == pytest.approx(expected.item(), rel=1e-3)  # it is sure of most tokens


@pytest.fixture
def of_text(world):
    """The example that becomes of a text, for a teacher with another tokenizer or with the same."""

    def made(written, teacher=None, **settings):
        models, rows = world
        of = {"s": models["s"], "t": teacher or models["t"]}
        kind = "alm" if teacher is None else "reverse_kl"
        one = stage(losses={kind: 1.0}, rollouts={**SHORT, **settings})
        student, other = row_encoder(of["s"], 256), row_encoder(of["t"], None)
        says = TeacherInMemory(of["t"], other, one, student)
        preparation = Reading(one, None, Readers(student, other, says))._preparation("r")
        example = preparation.encode(rows[0])
        return example, preparation.of_text(rows[0], example, written), student, other

    return made


def ids_of(encoder, text):
    return tuple(encoder.tokenizer(text, add_special_tokens=False)["input_ids"])


def test_a_text_is_the_teacher_s_with_its_end_where_it_has_one(of_text, world):
    encoder = row_encoder(world[0]["s"], None)
    (end,) = encoder.pairs.ends
    said = ids_of(encoder, " It is 4.")
    prompt, ended, _, teacher = of_text(Written((*said, end), "end"))
    assert not (prompt["labels"] >= 0).any()
    assert ended["input_ids"].tolist() == [*prompt["input_ids"], *said, end]
    assert ended["labels"].tolist()[-len(said) - 1 :] == [*said, end]
    theirs = teacher.tokenizer.decode(ended["teacher_ids"][ended["teacher_in_loss"]])
    assert theirs.startswith("It is 4.")
    assert ended["is_end"].tolist()[-1]
    _, cut, *_ = of_text(Written(said, "length"))
    assert cut["input_ids"].tolist() == [*prompt["input_ids"], *said]
    assert not cut["is_end"].any()
    assert len(cut["teacher_in_loss"]) == len(ended["teacher_in_loss"]) - 1
    with pytest.raises(Exception, match="cut by max_tokens"):
        of_text(Written(said, "length"), truncated="drop")


def test_a_stop_string_is_an_end(of_text, world):
    encoder = row_encoder(world[0]["s"], None)
    (end,) = encoder.pairs.ends
    ids = ids_of(encoder, " It is 4.\nQuestion:")
    prompt, found, *_ = of_text(Written(ids, "stop", " It is 4."), stop=("\nQuestion:",))
    assert found["input_ids"].tolist() == [
        *prompt["input_ids"],
        *ids_of(encoder, " It is 4."),
        end,
    ]
    assert found["is_end"].tolist()[-1]


@pytest.mark.parametrize("same", [True, False])
def test_an_empty_text_says_whether_it_should_have_ended(same, of_text, world):
    """Or nobody would tell a student that has gone silent."""
    encoder = row_encoder(world[0]["s"], None)
    (end,) = encoder.pairs.ends
    teacher = world[0]["s"] if same else None
    for ids in ((end,), (*ids_of(encoder, "\n"), end)):
        prompt, found, *_ = of_text(Written(ids, "end"), teacher)
        assert found["input_ids"].tolist() == [*prompt["input_ids"], *ids]
        if same:
            assert len(found["teacher_in_loss"]) == len(ids)
        else:
            assert found["is_end"].tolist() == [True]
            assert len(found["teacher_in_loss"]) == 1


def test_a_text_counts_as_far_as_it_is_text(of_text, world):
    encoder = row_encoder(world[0]["s"], None)
    (end,) = encoder.pairs.ends
    said, more = ids_of(encoder, " It is 4."), ids_of(encoder, " So it is.")
    part = ids_of(encoder, "é")[:1]
    special = encoder.tokenizer.pad_token_id
    for odd in (part, (special,), (9999,)):
        prompt, found, *_ = of_text(Written((*said, *odd, *more, end), "end"))
        assert found["input_ids"].tolist() == [*prompt["input_ids"], *said]
        assert len(found["is_end"])
        assert not found["is_end"].any()
    _, found, *_ = of_text(Written((*said, *part), "length"))
    assert found["input_ids"].tolist() == [*prompt["input_ids"], *said]


def test_what_cannot_be_compared_counts_for_nothing(train, rows, student, teacher, monkeypatch):
    """The step has nothing to learn from, and is made all the same."""
    monkeypatch.setattr(
        Writer, "write", lambda self, model, prompts, seeds, step: [Written((1,) * 3, "length")] * 8
    )
    models = {"s": student, "t": teacher}
    run = train(stage(losses={"alm": 1.0}, **ONE_STEP), rows, models)
    point = run.metrics["history"][0]
    assert point["rollouts/left_out"] == 1
    assert point["loss"] == point["grad_norm"] == 0
    assert "cannot be compared with the teacher" in run.warnings[0]


def test_the_last_turn_of_a_conversation_is_answered(train, rows, student, twin, texts):
    chat = {"s": replace(student, prompt_format="chat"), "t": replace(twin, prompt_format="chat")}
    given = [
        {
            "id": row["id"],
            "messages": [
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Yes?"},
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": row["completion"]},
            ],
        }
        for row in rows
    ]
    made = stage(messages_column="messages", answers="last", **ONE_STEP)
    assert train(made, given, chat).metrics["history"][0]["rollouts/left_out"] == 0
    encoder = row_encoder(chat["s"], None)
    expected = encoder.pairs.conversation(given[0]["messages"])[-1][0]
    assert expected in [prompt for prompt, _ in texts[0]]
    assert len(expected) > 20
    asked = [{**row, "messages": row["messages"][:3]} for row in given]  # nobody has answered yet
    train(made, asked, chat)
    assert expected in [prompt for prompt, _ in texts[-1]]


def test_texts_that_grow_until_they_are_cut_stop_the_training(train, rows, monkeypatch):
    """Where half of them were from the first, and where that is not asked for, they do not."""
    n_steps = []

    def write(self, model, prompts, seeds, step):
        n_steps.append(len(prompts))
        cut = len(n_steps) > 2
        return [Written((70, 71, 72), "length" if cut else "stop", "FGH") for _ in prompts]

    monkeypatch.setattr(Writer, "write", write)
    made = {"max_steps": 5, "learning_rate": 1e-9}
    with pytest.raises(ModelError, match="100% of what the student writes is cut .* 0% was"):
        train(stage(**made), rows)
    assert len(n_steps) == 3
    n_steps.clear()
    train(stage(rollouts={**SHORT, "max_truncated": 1}, **made), rows)
    first = {"rollouts/truncated": 0.5}
    check_length([first], {"rollouts/truncated": 0.9}, 0.6)
    check_length([{"loss": 1.0}, {"rollouts/truncated": 0.1}], {"rollouts/truncated": 0.4}, 0.5)
    with pytest.raises(ModelError):
        check_length([{"rollouts/truncated": 0.1}], {"rollouts/truncated": 0.6}, 0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"online": False}, "scores that rows have stored are not theirs: set online: true"),
        ({"losses": {"sft": 1.0}}, "rollouts needs a loss from the teacher"),
        ({"losses": {"alm": 1.0, "sft": 1.0}}, "no row keeps its own; lower share"),
        ({"rollouts": {"share": 0}}, "expected above 0 .* leave rollouts out"),
        ({"rollouts": {"share": 1.5}}, "less than or equal to 1"),
        ({"rollouts": {"max_tokens": 64}, "max_length": 64}, "leaves no token of max_length: 64"),
        ({"text_column": "text"}, "text_column has none"),
        ({"losses": {"opd": 1.0}, "rollouts": {"share": 0.5}}, "rows keep their own; set share: 1"),
        ({"losses": {"opd": 1.0}, "rollouts": {"temperature": 0}}, "rollouts.temperature: 0 they"),
        ({"losses": {"opd": 1.0}, "rollouts": {"stop": ["x"]}}, "rollouts.stop they are not"),
        (
            {"losses": {"opd": 1.0}, "opd": {"reward_scale": 1.25}},
            "reward_scale compares .* the student itself",
        ),
        ({"teacher": None, "teachers": {"a": "t"}, "online": False}, "name one teacher"),
        ({"messages_column": "messages"}, "set answers: last"),
        ({"rollouts": {"stop": [""]}}, "at least 1 character"),
        ({"launch": {"processes": 2, "strategy": "fsdp2"}}, "use ddp"),
    ],
)
def test_settings_that_do_not_go_together(settings, message):
    with pytest.raises(ValidationError, match=message):
        stage(**settings)


def test_a_completion_that_is_not_read_may_be_anything(train, rows):
    """Of other tokens, of none, or too long: the student answers in its place."""
    odd = [
        {"completion": "x " * 400},
        {"completion": ""},
        {"completion_ids": [5, 6], "written_with": "another tokenizer"},
    ]
    given = [{"completion_ids": None, "written_with": None, **row} for row in rows]
    for row, other in zip(given, odd, strict=False):
        row.update(other)
    run = train(stage(losses={"opd": 1.0}, **ONE_STEP), given)
    assert run.dropped == {}
    assert run.warnings == []


def test_rows_without_room_or_without_a_prompt_are_told(train, rows):
    with pytest.raises(DataError, match="8 no room for rollouts.max_tokens after the prompt"):
        train(stage(rollouts={"max_tokens": 200}, max_length=210, **ONE_STEP), rows)
    rows[0]["prompt"] = None
    run = train(stage(**ONE_STEP), rows)
    assert run.dropped == {"empty prompt": 1}
    assert stage().required_columns() == {"r": {"id", "prompt"}}
    kept = stage(rollouts={"share": 0.5})
    assert kept.required_columns() == {"r": {"id", "prompt", "completion"}}


def test_a_student_that_is_its_own_teacher_writes_with_its_adapter(train, rows, student, texts):
    made = stage(
        losses={"alm": 1.0},
        alm={"debias": False},
        online="adapter_off",
        peft={"r": 4},
        max_steps=3,
        learning_rate=1e-2,
    )
    history = train(made, rows, {"s": student, "t": student}).metrics["history"]
    assert history[0]["loss"] < 1e-6  # the adapter adds nothing yet, so nothing moves
    assert len(texts) == 3
