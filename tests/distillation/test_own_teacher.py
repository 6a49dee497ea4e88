"""The student without its adapter, behind the teacher's embedding, is the teacher."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from llm_distill.distillation.encoding import row_encoder, turns_of
from llm_distill.distillation.own_teacher import adapters_off, own_teacher
from llm_distill.distillation.scoring import in_loss
from llm_distill.distillation.teacher import OnlineTeacher, online_teacher
from llm_distill.distillation.tokenizer_transfer import transfer_tokenizer
from llm_distill.errors import ModelError
from llm_distill.models import ModelSource, load_model
from tests.distillation import tiny


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


def adapted(model: Any) -> Any:
    torch.manual_seed(1)
    settings = {"target_modules": "all-linear", "lora_dropout": 0.5, "init_lora_weights": False}
    return get_peft_model(model, LoraConfig(r=4, task_type="CAUSAL_LM", **settings))


def examples(encoder: Any) -> list[dict[str, Any]]:
    rows = [encoder.encode(turns_of(row, "completion", lambda r: r["prompt"])) for row in tiny.ROWS]
    return [{"teacher_ids": row.ids, "teacher_in_loss": in_loss(row)} for row in rows]


def read(teacher: OnlineTeacher, encoder: Any) -> list[np.ndarray]:
    scores, hidden = teacher.read(examples(encoder))
    return [hidden.numpy(), *(part for one in scores for part in (one.logps, one.log_pbs))]


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
