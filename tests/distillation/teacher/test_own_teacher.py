"""The student without its adapter, after the teacher's embedding, is the teacher."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from llm_distill.distillation.alignment.encoding import in_loss, row_encoder, turns_of
from llm_distill.distillation.settings import DistillSettings
from llm_distill.distillation.teacher.online import OnlineTeacher, TeacherInMemory
from llm_distill.distillation.teacher.own_teacher import OwnTeacher, adapters_off
from llm_distill.distillation.transfer.tokenizer_transfer import transfer_tokenizer
from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource, load_model
from llm_distill.training.weights import save_adapter
from tests.distillation import tiny
from tests.distillation.trainers import trainer, weights


@pytest.fixture(scope="module", params=["tied", "untied"])
def pair(request, tmp_path_factory) -> tuple[ModelSource, ModelSource]:
    """A teacher, and it with bytes for tokens."""
    folder = tmp_path_factory.mktemp(request.param)
    source = tiny.make_teacher(folder / "teacher")
    if request.param == "tied":
        model: Any = load_model(source)
        model.config.tie_word_embeddings = True
        model.tie_weights()
        model.save_pretrained(source.path)
    transfer_tokenizer(source, None, folder / "bytes", pytest.fail)
    return source, ModelSource("bytes", str(folder / "bytes"))


def online_teacher(source: ModelSource, encoder: Any, device: torch.device) -> OnlineTeacher:
    return TeacherInMemory(source, encoder, DistillSettings()).open(None, device).teacher


def own_teacher(
    student: Any, source: ModelSource, encoder: Any, device: torch.device
) -> OnlineTeacher:
    return OwnTeacher(source, encoder, DistillSettings()).open(student, device).teacher


def adapted(model: Any) -> Any:
    torch.manual_seed(1)
    settings = {"target_modules": "all-linear", "lora_dropout": 0.5, "init_lora_weights": False}
    return get_peft_model(model, LoraConfig(r=4, task_type="CAUSAL_LM", **settings))


def examples(encoder: Any) -> list[dict[str, Any]]:
    rows = [encoder.encode(turns_of(row, "completion", lambda r: r["prompt"])) for row in tiny.ROWS]
    return [{"teacher_ids": row.ids, "teacher_in_loss": in_loss(row)} for row in rows]


def read(teacher: OnlineTeacher, encoder: Any) -> list[np.ndarray]:
    scores, hidden = teacher.read(examples(encoder))
    return [hidden.numpy(), *(part for one in scores for part in (one.logps, one.boundary_logps))]


@pytest.mark.parametrize("when", ["before", "after"])
def test_it_says_what_the_teacher_says(pair, when: str) -> None:
    source, moved = pair
    encoder = row_encoder(source, None)
    student: Any = load_model(moved).train()
    if when == "before":  # PEFT puts its layers into the same model
        teacher = own_teacher(student, source, encoder, torch.device("cpu"))
        student = adapted(student)
    else:
        student = adapted(student)
        teacher = own_teacher(student, source, encoder, torch.device("cpu"))
    student.train()
    ids = torch.arange(8)[None]
    trained = {name for name, p in student.named_parameters() if p.requires_grad}
    with torch.no_grad():
        torch.manual_seed(2)
        before = student(ids).logits
    wanted = read(online_teacher(source, encoder, torch.device("cpu")), encoder)
    for own, other in zip(read(teacher, encoder), wanted, strict=True):
        np.testing.assert_array_equal(own, other)
    with torch.no_grad():
        torch.manual_seed(2)
        assert torch.equal(student(ids).logits, before)  # adapter and dropout are on again
    assert {name for name, p in student.named_parameters() if p.requires_grad} == trained
    assert trained


def test_with_the_adapter_on_it_would_say_something_else(pair) -> None:
    student = adapted(load_model(pair[1]))
    ids = torch.arange(8)[None]
    with torch.no_grad():
        changed = student(ids).logits
        with adapters_off(student):
            plain = student(ids).logits
        torch.testing.assert_close(plain, load_model(pair[1])(ids).logits)
    assert (changed - plain).abs().max() > 0.01


def test_other_layers_are_refused(pair) -> None:
    source, moved = pair
    student: Any = load_model(moved)
    with torch.no_grad():
        student.model.layers[0].mlp.up_proj.weight[0, 0] += 1
    with pytest.raises(
        ModelError, match=r"of its teacher '\w+' .model.layers.0.mlp.up_proj.weight"
    ):
        own_teacher(student, source, row_encoder(source, None), torch.device("cpu"))


@pytest.mark.parametrize(
    ("entry", "made_of", "dtype"),
    [
        ("float32", "float32", "bfloat16"),
        ("bfloat16", "bfloat16", "float32"),
        ("bfloat16", "float32", "float32"),
    ],
)
def test_a_student_of_another_dtype_than_its_teacher(
    pair, entry: str, made_of: str, dtype: str, tmp_path
) -> None:
    """The layers are the student's, in its dtype; the teacher's rows for tokens are the entry's."""
    source = replace(pair[0], dtype=entry)
    moved = tmp_path / "moved"
    transfer_tokenizer(replace(pair[0], dtype=made_of), None, moved, pytest.fail)
    student = ModelSource("moved", str(moved), dtype=dtype)
    model: Any = load_model(student)
    assert model.dtype == getattr(torch, dtype)
    expected: Any = load_model(source).to(model.dtype)
    for ours, theirs in ((expected.model.layers, model.model.layers),
                         (expected.model.norm, model.model.norm)):  # fmt: skip
        ours.load_state_dict(theirs.state_dict())
    expected.save_pretrained(tmp_path / "expected")
    encoder, device = row_encoder(source, None), torch.device("cpu")
    encoder.tokenizer.save_pretrained(tmp_path / "expected")
    beside = ModelSource("expected", str(tmp_path / "expected"), dtype=dtype)
    found = read_in_float32(own_teacher(model, source, encoder, device), encoder)
    wanted = read_in_float32(online_teacher(beside, encoder, device), encoder)
    for own, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(own, other)
    adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    made = trainer(
        *(student, source, DistillSettings(), tmp_path / "run"),
        model=model,
        peft_config=adapter,
        signal=OwnTeacher,
        learning_rate=0.1,
    )
    before = weights(made)
    made.train()
    (point,) = [entry for entry in made.state.log_history if "loss" in entry]
    assert np.isfinite(point["alm"])
    assert any(not torch.equal(before[name], after) for name, after in weights(made).items())


def test_adapters_of_the_teacher_are_in_the_student_too(tmp_path) -> None:
    """Merged in float32, whatever dtype the entry has and the student is trained in."""
    base = tiny.make_teacher(tmp_path / "teacher")
    other = adapted(load_model(base))
    save_adapter(other, base, tmp_path / "adapter")
    source = replace(base, adapters=(str(tmp_path / "adapter"),), dtype="bfloat16")
    transfer_tokenizer(source, None, tmp_path / "bytes", pytest.fail)
    student: Any = load_model(ModelSource("bytes", str(tmp_path / "bytes"), dtype="bfloat16"))
    merged = other.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    encoder, device = row_encoder(base, None), torch.device("cpu")
    encoder.tokenizer.save_pretrained(tmp_path / "merged")
    beside = ModelSource("merged", str(tmp_path / "merged"), dtype="bfloat16")
    found = read_in_float32(own_teacher(student, source, encoder, device), encoder)
    wanted = read_in_float32(online_teacher(beside, encoder, device), encoder)
    for own, expected in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(own, expected)


def test_what_ends_a_turn_is_in_its_b(pair) -> None:
    encoder = row_encoder(pair[0], None)
    end = int(np.flatnonzero(~encoder.table.boundary_tokens())[0])
    ended = replace(encoder, pairs=replace(encoder.pairs, ends=frozenset({end})))
    assert own_teacher(load_model(pair[1]), pair[0], ended, torch.device("cpu")).boundary_tokens[
        end
    ]


def read_in_float32(teacher: OnlineTeacher, encoder: Any) -> list[np.ndarray]:
    scores, hidden = teacher.read(examples(encoder))
    return [hidden.float().numpy(), *(p for one in scores for p in (one.logps, one.boundary_logps))]


@pytest.mark.parametrize("online", ["online", "adapter off"])
def test_a_teacher_that_computes_nan_is_refused(online: str, tmp_path) -> None:
    """One token's row holds NaN; and where no token is a boundary, log p(boundary) is -inf."""
    source = tiny.make_teacher(tmp_path / "teacher")
    transfer_tokenizer(source, None, tmp_path / "bytes", pytest.fail)
    encoder = row_encoder(source, None)
    fine, spoilt = encoder.encode("Ann is 28 years"), encoder.encode("Ann is 21 years")
    (token,) = encoder.tokenizer(" 21")["input_ids"]
    assert token in spoilt.ids
    model: Any = load_model(source)
    model.get_input_embeddings().weight.data[token] = torch.nan
    model.save_pretrained(source.path)
    student: Any = load_model(ModelSource("bytes", str(tmp_path / "bytes")))
    opened = partial(own_teacher, student) if online == "adapter off" else online_teacher
    teacher = opened(source, encoder, torch.device("cpu"))
    given = [{"teacher_ids": row.ids, "teacher_in_loss": in_loss(row)} for row in (fine, spoilt)]
    teacher.read(given[:1])
    with pytest.raises(ModelError, match="a log-probability of nan; try another dtype"):
        teacher.read(given)
    with pytest.raises(ModelError, match="of -inf; it holds a token, .* impossible"):
        replace(teacher, boundary_tokens=torch.zeros_like(teacher.boundary_tokens)).read(given[:1])
