"""Token ids without a row, rows beyond the context, and values that are not text: every stage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from llm_distill.engines.base import Request, SamplingSettings, ScoreRequest
from llm_distill.engines.transformers.engine import TransformersEngine
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.errors import DataError, ModelError
from llm_distill.models.sources import ModelSource, load_tokenizer
from llm_distill.stages.score_likelihood import ScoreLikelihood
from llm_distill.stages.train_distill import TrainDistill
from llm_distill.stages.train_dpo import TrainDpo
from llm_distill.stages.train_sft import TrainSft

STAGES: dict[str, Any] = {
    "sft": TrainSft(stage="train_sft", model="m", rows="r", max_steps=1),
    "dpo": TrainDpo(stage="train_dpo", model="m", rows="r", max_steps=1),
    "distill": TrainDistill.model_validate(
        {"stage": "train_distill", "model": "m", "rows": "r", "max_steps": 1, "losses": {"sft": 1}}
    ),
    "score": ScoreLikelihood(stage="score_likelihood", model="m", rows="r"),
}
every_stage = pytest.mark.parametrize("name", STAGES)


@pytest.fixture
def altered(model_dir: Path, tmp_path: Path) -> Callable[..., ModelSource]:
    """The tiny model with a tokenizer that has more tokens, or as a GPT-2 of 24 positions."""

    def run(added: tuple[str, ...] = (), pad: str | None = None, *, short: bool = False) -> Any:
        from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

        path = tmp_path / "altered"
        shutil.copytree(model_dir, path)
        tokenizer = AutoTokenizer.from_pretrained(path)
        if short:
            (path / "model.safetensors").unlink()
            config = GPT2Config(
                vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2, n_positions=24,
                bos_token_id=1, eos_token_id=1,
            )  # fmt: skip
            torch.manual_seed(0)
            GPT2LMHeadModel(config).save_pretrained(path)
        tokenizer.add_tokens(list(added))
        if pad is not None:
            tokenizer.add_special_tokens({"pad_token": pad})
        tokenizer.save_pretrained(path)
        return ModelSource("m", str(path), prompt_format="text")

    return run


def given(**changes: Any) -> list[dict[str, Any]]:
    row = {"id": "a", "prompt": "How old is Ann?", "completion": "21", "chosen": "21"}
    return [{**row, "rejected": "30", **changes}, {**row, "id": "b", "rejected": "30"}]


@every_stage
def test_a_token_without_a_row_stops_every_stage(run_stage, altered, name) -> None:
    source = altered(added=("<tool>",))
    with pytest.raises(ModelError, match=r"'m': token \d+ of .* is not among the model's own \d+"):
        run_stage(STAGES[name], {"r": given(prompt="<tool> How old?")}, models={"m": source})


def test_a_token_without_a_row_stops_an_engine(altered) -> None:
    engine = TransformersEngine(altered(added=("<tool>",)), TransformersSettings(device="cpu"))
    asked = Request("q7", "<tool> How old?", SamplingSettings(max_tokens=2))
    with pytest.raises(ModelError, match=r"token \d+ of request 'q7' is not among"):
        list(engine.generate([asked]))
    with pytest.raises(ModelError, match=r"token \d+ of request 's' is not among"):
        list(engine.score([ScoreRequest("s", "How", "<tool>")]))


@every_stage
def test_a_pad_token_without_a_row_pads_all_the_same(run_stage, altered, name) -> None:
    source = altered(pad="<padding>")
    assert load_tokenizer(source).pad_token_id == 0
    rows = given(prompt="How old is Ann? How old is Bob? How old is Cem?")  # not of one length
    run = run_stage(STAGES[name], {"r": rows}, models={"m": source})
    assert run.dropped == {}
    if run.model is not None:  # the tokenizer is saved as it came
        config = json.loads((run.model.directory / "tokenizer_config.json").read_text())
        assert config["pad_token"] == "<padding>"


@every_stage
def test_rows_beyond_the_context_are_left_out_and_counted(run_stage, altered, name) -> None:
    source = altered(short=True)
    rows = given(prompt="How old is Ann? " * 12)
    run = run_stage(STAGES[name], {"r": rows}, models={"m": source})
    assert run.dropped == {"longer than the model's context": 1}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_steps": 0}, "max_steps.* expected 1 or more, or -1 for as many as num_train_epochs"),
        ({"max_steps": -2}, "max_steps"),
        ({"num_train_epochs": 0}, "num_train_epochs"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"max_length": 0}, "max_length"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps"),
    ],
)
@pytest.mark.parametrize("name", ["sft", "dpo", "distill"])
def test_settings_that_would_train_nothing_are_refused(name, settings, said) -> None:
    given = STAGES[name].model_dump(exclude_unset=True)
    with pytest.raises(ValidationError, match=f"(?s){said}"):
        type(STAGES[name]).model_validate({**given, **settings})


@pytest.mark.parametrize("name", ["sft", "dpo", "distill"])
@pytest.mark.parametrize("value", [7, ["How", "old?"], {"a": 1}, 0])
def test_what_is_not_text_is_said(run_stage, text_model, name, value) -> None:
    rows = [{**row, "prompt": value} for row in given()]
    with pytest.raises(DataError, match=f"2 prompt holds {type(value).__name__}, not text"):
        run_stage(STAGES[name], {"r": rows}, models={"m": text_model})
