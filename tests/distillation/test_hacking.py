"""watch_hacking: what it measures against loops over tokens, and that it changes nothing else."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from llm_distill.distillation.hacking.watch import Watching
from llm_distill.errors import ConfigError, ModelError
from llm_distill.evaluation.hacking_figures import GOLDEN, PROXY, points_of
from llm_distill.evaluation.results import Results
from llm_distill.models.sources import ModelSource, load_model
from llm_distill.stages.train_distill import TrainDistill
from llm_distill.training.encoder import pair_encoder
from tests.distillation import tiny
from tests.distillation.losses.test_divergence import BETA, dense
from tests.tiny_tokenizer import tiny_tokenizer

MODELS = {"model": "s", "teacher": "t", "rows": "r"}
TRAINING = {
    "max_steps": 4,
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "on_collapse": "ignore",
    "losses": {"forward_kl": 1.0},
    "online": True,
}


def stage(watch, **settings):
    given = {**MODELS, **TRAINING, **settings}
    watching = {} if watch is None else {"watch_hacking": {"rows": "h", "every": 2, **watch}}
    return TrainDistill(stage="train_distill", **given, **watching)


@pytest.fixture
def twins(tmp_path):
    """Two other models with the student's tokenizer."""
    found = {}
    for seed, name in ((5, "t"), (6, "o")):
        tiny.save(tmp_path / name, tiny_tokenizer(tiny.FEW_PIECES, 268), seed)
        found[name] = ModelSource(name, str(tmp_path / name), prompt_format="text")
    return found


@pytest.fixture
def train(run_stage, tmp_path, student, twins, rows):
    def run(made, given=None, models=None, folder=None):
        own = {"r": rows[:5], "h": rows[5:], "g": rows[3:5], **(given or {})}
        place = folder or tmp_path / f"run {len(list(tmp_path.iterdir()))}"
        return run_stage(
            made, own, models={"s": student, **twins, **(models or {})}, work_dir=place
        )

    return run


def distributions(source, rows, model=None):
    """Of each row's answer, [tokens, V], and the tokens."""
    encoder, model = pair_encoder(source, 256), model or load_model(source)
    for row in rows:
        head, tail = encoder.encode(row["prompt"], row["completion"])
        with torch.no_grad():
            logits = model(torch.tensor([head + tail])).logits[0, len(head) - 1 : -1]
        yield logits.double().softmax(-1), torch.tensor(tail)


def distance(of, student, rows, kind, model=None):
    """The mean over all tokens, by a loop over rows."""
    total, n = 0.0, 0
    pairs = zip(distributions(of, rows), distributions(student, rows, model), strict=True)
    for (p, _), (q, ids) in pairs:
        total, n = total + dense(p, q, kind).item(), n + len(ids)
    return total / n


def trained_model(run, student):
    return load_model(ModelSource("trained", str(run.model.directory), prompt_format="text"))


def test_both_distances_are_those_of_a_loop_over_tokens(train, student, twins, rows):
    run = train(stage({"golden": "o"}, beta=BETA))
    points = points_of(run.metrics["history"])
    assert [point.step for point in points] == [0, 2, 4]
    for point, model in ((points[0], None), (points[-1], trained_model(run, student))):
        args = student, rows[5:], "forward_kl", model
        assert point.proxy == pytest.approx(distance(twins["t"], *args), rel=1e-5)
        assert point.golden == pytest.approx(distance(twins["o"], *args), rel=1e-5)
    last = [point for point in run.metrics["history"] if PROXY in point][-1]
    for kind in ("reverse_kl", "jsd"):
        found = distance(twins["t"], student, rows[5:], kind, trained_model(run, student))
        assert last[f"hacking/{kind}"] == pytest.approx(found, rel=1e-5)


def test_golden_of_texts_is_their_cross_entropy(train, student, rows):
    run = train(stage({"golden_rows": "g", "distance": "jsd"}))
    model, total, n = trained_model(run, student), 0.0, 0
    for q, ids in distributions(student, rows[3:5], model):
        total, n = total - q.log().gather(1, ids[:, None]).sum().item(), n + len(ids)
    last = [point for point in run.metrics["history"] if PROXY in point][-1]
    assert last[GOLDEN] == pytest.approx(total / n, rel=1e-5)
    assert last[PROXY] == last["hacking/jsd"] != last["hacking/forward_kl"]


def test_stored_scores_say_the_same_as_a_teacher_in_memory(train, scored, twins, rows):
    """With all tokens stored; of few, all others are one bucket, which is nearer."""
    memory = points_of(train(stage({})).metrics["history"])
    given = {
        "r": scored(rows[:5], twins["t"], top_k=268),
        "h": scored(rows[5:], twins["t"], top_k=268),
    }
    stored = points_of(train(stage({}, online=False), given).metrics["history"])
    assert [p.proxy for p in stored] == pytest.approx([p.proxy for p in memory], rel=1e-4)
    few = {**given, "h": scored(rows[5:], twins["t"], top_k=3)}
    assert train(stage({}, online=False), few).metrics["history"][0][PROXY] < stored[0].proxy


def test_across_tokenizers_it_is_the_loss_alm(train, teacher, rows):
    """As eval_rows measures it."""
    held = {"eval_rows": "h", "eval_steps": 2}
    made = stage({"distance": "alm", "golden": "o"}, losses={"alm": 1.0}, teacher="b", **held)
    history = train(made, models={"b": teacher}).metrics["history"]
    expected = [point["eval_alm"] for point in history if "eval_alm" in point]
    assert [p.proxy for p in points_of(history)] == pytest.approx(expected, rel=1e-4)
    assert all(point.golden is not None for point in points_of(history))


def test_a_training_on_texts_alone_can_be_watched(train, student, twins, rows):
    """losses: sft needs no teacher; the watch does."""
    run = train(stage({}, losses={"sft": 1.0}))
    found = distance(twins["t"], student, rows[5:], "forward_kl")
    assert points_of(run.metrics["history"])[0].proxy == pytest.approx(found, rel=1e-5)


@pytest.mark.parametrize("online", [True, False])
def test_watching_does_not_change_the_training(online, train, scored, twins, rows):
    from safetensors.torch import load_file

    given = {"r": scored(rows[:5], twins["t"], top_k=4), "h": scored(rows[5:], twins["t"], top_k=4)}
    settings = {"online": online, "peft": {"r": 4, "lora_dropout": 0.3}, "logging_steps": 1}
    plain = train(stage(None, **settings), given)
    watched = train(stage({"golden": "o"}, **settings), given)
    weights = [
        load_file(run.model.directory / "adapter_model.safetensors") for run in (plain, watched)
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    losses = [p for p in watched.metrics["history"] if "loss" in p]
    assert losses == plain.metrics["history"]


def test_tables_and_a_warning_are_in_the_manifest(train, monkeypatch):
    """Golden is planted: it falls and rises again, and the distance goes on falling."""
    plant(monkeypatch, [3.0, 2.0, 1.0, 1.5, 1.6, 1.7, 1.8])
    run = train(stage({"golden": "o", "every": 1}, max_steps=6, eval_rows="h"))
    titles = [table.title for table in Results.from_metrics(run.metrics).own]
    assert titles == [
        "Held-out rows before and after",
        "teacher hacking",
        "teacher hacking by step",
    ]
    [said] = [each for each in run.warnings if "hacking" in each]
    assert "teacher hacking by step 5" in said
    assert "golden has risen from 1 to 1.7" in said
    assert "Stop near step 2" in said


def test_it_stops_where_it_is_told_to(train, monkeypatch):
    plant(monkeypatch, [3.0, 2.0, 1.0, 1.5, 1.6, 1.7, 1.8])
    made = stage({"golden": "o", "every": 1, "on_hacking": "stop"}, max_steps=6)
    with pytest.raises(ModelError, match="teacher hacking by step 5: .*on_hacking: warn"):
        train(made)


def plant(monkeypatch, golden):
    """Measurements in place of those of the models."""
    told = iter(range(100))

    def means(self, measure, signal):
        place = next(told)
        if place % 2:
            return {"forward_kl": golden[place // 2]}
        return {"forward_kl": 1 / (1 + place), "reverse_kl": 1.0, "jsd": 1.0}

    monkeypatch.setattr(Watching, "_means", means)


def test_after_a_kill_the_history_is_that_of_a_whole_training(train, tmp_path, monkeypatch):
    class CutError(Exception):
        pass

    made = stage({"golden_rows": "g"}, max_steps=6, save_steps=3)
    whole = train(made)
    step = Watching.on_step_end

    def cut(self, args, state, control, **of):
        if state.global_step == 5:
            raise CutError
        step(self, args, state, control, **of)

    monkeypatch.setattr(Watching, "on_step_end", cut)
    with pytest.raises(CutError):
        train(made, folder=tmp_path / "cut")
    monkeypatch.setattr(Watching, "on_step_end", step)
    resumed = train(made, folder=tmp_path / "cut")
    assert resumed.metrics["resumed_from_step"] == 3
    assert [point.step for point in points_of(resumed.metrics["history"])] == [0, 2, 4, 6]
    assert points_of(resumed.metrics["history"]) == points_of(whole.metrics["history"])


def test_every_batch_is_measured_whatever_its_size(train):
    sizes = [
        points_of(train(stage({}, per_device_train_batch_size=size)).metrics["history"])[0].proxy
        for size in (1, 2, 4)
    ]
    assert sizes == pytest.approx([sizes[0]] * 3, rel=1e-5)


@pytest.mark.parametrize(
    ("watch", "settings", "said"),
    [
        ({}, {"teacher": None, "online": False, "losses": {"sft": 1.0}}, "needs a teacher"),
        ({"rows": "r"}, {}, "rows are the rows that are trained on"),
        ({"golden_rows": "r"}, {}, "golden_rows are the rows that are trained on"),
        ({"golden": "o", "golden_rows": "g"}, {}, "exclude each other"),
        ({"distance": "alm"}, {}, "is the loss alm of other rows"),
    ],
)
def test_what_cannot_be_watched(watch, settings, said):
    with pytest.raises(ValidationError, match=said):
        stage(watch, **settings)


def test_other_tokenizers_are_told_apart_before_the_training(train, teacher):
    made = stage({"golden": "b"})
    with pytest.raises(ConfigError, match="watch_hacking.distance: forward_kl .* 'b' and 's'"):
        train(made, models={"b": teacher})


def test_rows_need_scores_where_no_teacher_is_in_memory():
    stored = stage({"golden_rows": "g"}, online=False).required_columns()
    assert {"teacher_logps", "teacher_top_ids"} <= stored["h"]
    assert stored["g"] == {"id", "prompt", "completion"}
    assert stage({}).required_columns()["h"] == {"id", "prompt", "completion"}
    alm = stage({"distance": "alm"}, online=False, losses={"alm": 1.0}).required_columns()
    assert "teacher_log_pbs" in alm["h"]
    assert "teacher_top_ids" not in alm["h"]
