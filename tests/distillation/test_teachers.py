"""Rows of several teachers: whose they are, and a training on them against loops over bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from llm_distill.distillation.teachers import shares
from llm_distill.errors import ConfigError, DataError
from llm_distill.models.sources import ModelSource, load_model
from llm_distill.stages.score_likelihood import ScoreLikelihood
from llm_distill.stages.train_distill import TrainDistill
from tests.distillation import plain, tiny
from tests.tiny_tokenizer import tiny_tokenizer

ONE_STEP = {"max_steps": 1, "learning_rate": 1e-3, "lr_scheduler_type": "constant"}
TEACHERS = {"many": "t", "few": "u"}


def stage(**settings):
    given = {"stage": "train_distill", "model": "s", "teachers": TEACHERS, "rows": "r"}
    return TrainDistill(**{**given, "on_collapse": "ignore", **settings})


@pytest.fixture(scope="session")
def other(tmp_path_factory):
    """A teacher of another vocabulary than either."""
    folder = tmp_path_factory.mktemp("other") / "other"
    tiny.save(folder, tiny_tokenizer(tiny.texts()[:3], 300), seed=7)
    return ModelSource("other", str(folder), prompt_format="text")


@pytest.fixture
def shared(scored, rows, teacher, other):
    """Rows 0 to 4 scored by one, the others by the other, mixed."""
    both = [*scored(rows[:5], teacher), *scored(rows[5:], other)]
    return [both[i] for i in (5, 0, 1, 6, 2, 7, 3, 4)]


@pytest.fixture
def train(run_stage, tmp_path, student, teacher, other):
    def run(made, rows, **models):
        folder = tmp_path / f"run {len(list(tmp_path.iterdir()))}"
        given = {"s": student, "t": teacher, "u": other, **models}
        return run_stage(made, {"r": rows}, models=given, work_dir=folder)

    return run


def test_shares_are_of_the_rows_that_name_them():
    rows = [{"id": str(n), "of": "abbac"[n % 5]} for n in range(17)]
    found, unnamed = shares(rows, {"b": "x", "a": "y", "d": "z", "c": "x"}, "of", "rows")
    assert [(each.model, each.names) for each in found] == [("x", ("b", "c")), ("y", ("a",))]
    assert unnamed == ["d"]
    for each in found:
        assert each.n_rows == sum(row["of"] in each.names for row in rows)


@pytest.mark.parametrize("size", [8, 3])
@pytest.mark.parametrize("alm", [{"debias": False}, {"temperature": 100.0, "gamma": 0.2}], ids=str)
def test_the_loss_is_the_mean_over_all_teachers_chunks(
    alm, size, train, shared, rows, teacher, other, student
):
    """Of the whole step, however it is cut: not a mean of each teacher's means."""
    batches = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size + 1}
    if size == 8:
        batches["gradient_accumulation_steps"] = 1
    run = train(stage(alm=alm, losses={"alm": 1.0, "sft": 0.5}, **batches, **ONE_STEP), shared)
    model, total, count = load_model(student), 0.0, 0
    for of, by in ((rows[:5], teacher), (rows[5:], other)):
        mean, n = plain.alm(of, by, student, model, **{"temperature": 1.0, **alm})
        total, count = total + mean * n, count + n
    expected_sft = plain.sft(rows, student, model)
    point = run.metrics["history"][0]
    assert run.metrics["alignment"]["n_chunks"] == count
    assert point["alm"] == pytest.approx((total / count).item(), rel=1e-4)
    assert point["sft"] == pytest.approx(expected_sft.item(), rel=1e-5)
    (total / count + 0.5 * expected_sft).backward()
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()
    assert point["grad_norm"] == pytest.approx(norm, rel=1e-3)
    (table,) = run.metrics["figures"]
    assert {row["labels"]["teacher"]: row["value"] for row in table["rows"]} == {
        "many": 5,
        "few": 3,
    }


def test_one_teacher_under_two_names_is_the_same_training(train, scored, rows, teacher):
    given = scored(rows, teacher)
    alone = train(stage(teachers=None, teacher="t", **ONE_STEP), given)
    twice = train(stage(teachers={"a": "t", "b": "t"}, **ONE_STEP), given)
    assert twice.metrics["history"][0]["loss"] == alone.metrics["history"][0]["loss"]
    assert twice.warnings == []


def test_a_teacher_that_scored_nothing_is_said(train, scored, rows, teacher):
    run = train(stage(**ONE_STEP), scored(rows, teacher))
    assert run.warnings == ["no row of 'r' is trained on that the teacher 'few' scored"]


def test_scores_of_a_model_that_is_none_of_them_are_refused(train, shared):
    shared[2]["scored_by"] = "stranger 123"
    with pytest.raises(
        DataError,
        match=r"row r1 of 'r' was scored by stranger 123, and the teachers are many \(teacher \w+\)"
        r", few \(other \w+\); score it with one of them",
    ):
        train(stage(**ONE_STEP), shared)
    shared[2]["scored_by"] = None
    with pytest.raises(DataError, match="row r1 of 'r' was scored by no model"):
        train(stage(**ONE_STEP), shared)


def test_scores_under_the_wrong_teachers_name_do_not_fit(train, shared):
    """The text that was scored is checked against the tokenizer of the one that is named."""
    shared[2]["scored_by"] = shared[0]["scored_by"]
    with pytest.raises(DataError, match="row r1 of 'r' is not what was scored"):
        train(stage(**ONE_STEP), shared)


def test_whole_distributions_need_one_tokenizer_of_each(
    train, scored, rows, student, teacher, tmp_path
):
    twins = {}
    for name, seed in (("t", 5), ("u", 6)):
        tiny.save(tmp_path / "twins" / name, tiny_tokenizer(tiny.FEW_PIECES, 268), seed)
        twins[name] = ModelSource(name, str(tmp_path / "twins" / name), prompt_format="text")
    made = stage(losses={"forward_kl": 1.0}, **ONE_STEP)
    given = [
        *scored(rows[:4], twins["t"], top_k=268),
        *scored(rows[4:], twins["u"], top_k=268),
    ]
    point = train(made, given, **twins).metrics["history"][0]
    model, total, count = load_model(student), 0.0, 0
    for row, by in [(row, twins["t" if n < 4 else "u"]) for n, row in enumerate(rows)]:
        theirs, ours = (
            logps_of(source, row, one) for source, one in ((by, None), (student, model))
        )
        total += (theirs.exp() * (theirs - ours)).sum().item()
        count += len(theirs)
    assert point["forward_kl"] == pytest.approx(total / count, rel=1e-3)
    with pytest.raises(ConfigError, match="'t' and 's' differ: the teacher's has"):
        train(made, given, **twins | {"t": teacher})


def logps_of(source, row, model):
    """Of the whole vocabulary before each token of the answer."""
    from llm_distill.training.encoder import pair_encoder

    head, tail = pair_encoder(source, 999).encode(row["prompt"], row["completion"])
    logits = (model or load_model(source))(torch.tensor([head + tail])).logits[0].double()
    return logits.log_softmax(-1)[len(head) - 1 : -1]


def test_which_teachers_is_checked_with_the_settings():
    for settings, message in (
        ({"teacher": "t"}, "teachers and teacher exclude each other"),
        ({"online": True}, "teachers and online exclude each other"),
        ({"teachers": None}, "alm needs a teacher"),
        ({"teachers": {"a.b": "t"}}, "'a.b' cannot be a teacher's name"),
    ):
        with pytest.raises(ValidationError, match=message):
            stage(**settings)
    assert not stage().loads("teachers.many")
    assert stage().reads_tokenizer("teachers.many")
    assert stage().loads("model")


@pytest.fixture
def twins(tmp_path):
    """Two teachers of one tokenizer, which is not the student's."""
    found = {}
    for name, seed in (("t", 5), ("u", 6)):
        folder = tmp_path / "twins" / name
        tiny.save(folder, tiny_tokenizer(tiny.texts() * 3, 340), seed)
        found[name] = ModelSource(name, str(folder), prompt_format="text")
    return found


@pytest.mark.parametrize("short", ["t", "u"])
def test_a_row_that_one_of_a_mixture_cannot_read_is_dropped_once(run_stage, rows, twins, short):
    """Whichever of them it is: the first, or the last."""
    path = Path(twins[short].path) / "config.json"
    name = '"max_position_embeddings": '
    path.write_text(path.read_text().replace(f"{name}256", f"{name}100"))
    long = [{**row, "id": f"long {row['id']}", "completion": "x" * 150} for row in rows[:3]]
    bad = {"id": "bad", "prompt": "How?", "completion": ""}
    weights = {"many": 1.0, "few": 3.0}
    scoring = ScoreLikelihood(
        stage="score_likelihood", rows="r", teachers=TEACHERS, device="cpu", teacher_weights=weights
    )
    run = run_stage(scoring, {"r": [bad, *long, *rows]}, models=twins)
    assert [row["id"] for row in run.rows] == [row["id"] for row in rows]
    assert run.dropped == {"empty completion": 1, "not scored by every teacher": 3}


def test_a_student_learns_from_a_mixture_of_teachers(run_stage, train, rows, twins, student):
    """Each token's probability is 0.25 of one's and 0.75 of the other's."""
    weights = {"teacher_weights": {"many": 1.0, "few": 3.0}}
    scoring = ScoreLikelihood(
        stage="score_likelihood", rows="r", teachers=TEACHERS, device="cpu", **weights
    )
    bad = {"id": "bad", "prompt": "How?", "completion": ""}
    run = run_stage(scoring, {"r": [bad, *rows]}, models=twins)
    given = [{**row} for row in run.rows]
    assert run.dropped == {"empty completion": 1}
    assert [row["id"] for row in given] == [row["id"] for row in rows]
    sides = [[plain.side(source, row) for row in rows] for source in twins.values()]
    for row, one, other in zip(given, *sides, strict=True):
        for column, of in (("teacher_logps", "logps"), ("teacher_log_pbs", "boundary_logps")):
            mean = 0.25 * getattr(one, of).exp() + 0.75 * getattr(other, of).exp()
            torch.testing.assert_close(
                torch.tensor(row[column]).exp().double(), mean.detach(), atol=1e-5, rtol=1e-4
            )
    alone = [{**row, "scored_by": "?"} for row in given]
    made = stage(losses={"alm": 1.0}, **weights, **ONE_STEP)
    trained = train(made, given, **twins)
    assert trained.metrics["history"][0]["alm"] > 0
    (table,) = trained.metrics["figures"]
    assert table["rows"][0]["labels"] == {"teacher": "many, few"}
    for other_made, message in (
        (
            stage(**ONE_STEP),
            r"was scored by 0.25 × t \w+ \+ 0.75 × u \w+, and the teachers are many",
        ),
        (
            stage(teacher_weights={"many": 1.0, "few": 1.0}, **ONE_STEP),
            r"and the teachers are many, few \(0.5 × t",
        ),
    ):
        with pytest.raises(DataError, match=message):
            train(other_made, given, **twins)
    with pytest.raises(DataError, match="was scored by"):
        train(made, alone, **twins)


def test_a_mixture_needs_one_tokenizer_and_weights_of_its_teachers(run_stage, rows, teacher, other):
    given = {"stage": "score_likelihood", "rows": "r", "teachers": TEACHERS}
    scoring = ScoreLikelihood(**given, teacher_weights={"many": 1.0, "few": 3.0})
    assert scoring.required_columns() == {"r": {"id", "prompt", "completion"}}
    with pytest.raises(ConfigError, match="the tokenizers of 'many' and 'few' differ: .*one token"):
        run_stage(scoring, {"r": rows}, models={"t": teacher, "u": other})
    for weights, message in (
        ({"many": 1.0}, "teacher_weights needs two or more teachers, and a weight for each"),
        ({"many": 1.0, "few": 0.0}, "greater than 0"),
        ({"many": 1.0, "few": float("inf")}, "finite"),
        ({"many": 1.0, "other": 1.0}, "a weight for each of them: many, few"),
    ):
        with pytest.raises(ValidationError, match=message):
            ScoreLikelihood(**given, teacher_weights=weights)
        with pytest.raises(ValidationError, match=message):
            stage(teacher_weights=weights)
    weights = {"many": 1.0, "few": 1.0}
    for more, message in (({"top_k": 3}, "and top_k"), ({"teacher_column": "x"}, "teacher_column")):
        with pytest.raises(ValidationError, match=message):
            ScoreLikelihood(**given, teacher_weights=weights, **more)
