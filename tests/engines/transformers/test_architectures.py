"""Models whose state is not a key-value cache, against plain transformers; encoders are refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from llm_distill.engines.base import Request, SamplingSettings, ScoreRequest
from llm_distill.engines.transformers import decoding
from llm_distill.engines.transformers.engine import TransformersEngine
from llm_distill.engines.transformers.scoring import fitting_score, score_plainly, score_sharing
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource, load_model, load_tokenizer
from tests.engines.conftest import save_tokenizer

Build = Callable[..., ModelSource]
PROMPTS = ["The", "Question: a farmer has twelve", "The model", "over the lazy dog; 0 1 2 3"]
JAMBA = {
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 32,
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "num_experts": 1,
    "num_experts_per_tok": 1,
    "mamba_d_state": 4,
    "mamba_dt_rank": 4,
}


@pytest.fixture(scope="module")
def of_type(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A random model of a type, wide enough that its tokens depend on what is before."""

    def run(kind: str, **settings: Any) -> ModelSource:
        from transformers import AutoConfig, AutoModelForCausalLM

        path = tmp_path_factory.mktemp(kind)
        tokenizer = save_tokenizer(path)
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.2}
        ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **sizes, **ids, **settings)
        AutoModelForCausalLM.from_config(config).save_pretrained(path)
        return ModelSource(kind, str(path), prompt_format="text")

    return run


@pytest.fixture(scope="module")
def mamba(of_type: Build) -> ModelSource:
    return of_type("mamba", state_size=4)


def engine_for(source: ModelSource, batch_size: int = 8) -> TransformersEngine:
    return TransformersEngine(source, TransformersSettings(batch_size=batch_size, device="cpu"))


def reference(source: ModelSource, prompt: str) -> str:
    tokenizer: Any = load_tokenizer(source)
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    model: Any = load_model(source)
    given = {"attention_mask": torch.ones_like(ids), "do_sample": False, "max_new_tokens": 12}
    out = model.generate(ids, **given)
    text: str = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    return text


@pytest.mark.parametrize(
    ("kind", "settings", "way"),
    [
        ("mamba", {"state_size": 4}, decoding.decode_by_generate),
        ("jamba", JAMBA, decoding.decode_in_steps),
        ("rwkv", {"context_length": 64}, decoding.decode_alone),
    ],
)
def test_greedy_texts_are_those_of_generate(
    of_type: Build, kind: str, settings: Any, way: Any, caplog: pytest.LogCaptureFixture
) -> None:
    source = of_type(kind, **settings)
    engine = engine_for(source)
    greedy = SamplingSettings(temperature=0, max_tokens=12)
    requests = [Request(str(i), prompt, greedy) for i, prompt in enumerate(PROMPTS)]
    with caplog.at_level(logging.WARNING, "llm_distill"):
        found = {c.id: c.text for c in engine.generate(requests)}
    assert engine._fitting_decode is way
    assert ("which is slower" in caplog.text) == (way is not decoding.decode_in_steps)
    assert found == {str(i): reference(source, prompt) for i, prompt in enumerate(PROMPTS)}


def test_a_row_has_its_own_seed_stops_and_logprobs_by_generate_as_well(mamba: ModelSource) -> None:
    def requests() -> list[Request]:
        drawn = SamplingSettings(temperature=1.5, max_tokens=10, stop=("e",))
        short = SamplingSettings(temperature=1.5, max_tokens=3)
        settings = [drawn, short, drawn, drawn]
        return [
            Request(str(i), prompt, sampling, seed=i, logprobs=True)
            for i, (prompt, sampling) in enumerate(zip(PROMPTS, settings, strict=True))
        ]

    together = {c.id: c for c in engine_for(mamba).generate(requests())}
    alone = {c.id: c for c in engine_for(mamba, 1).generate(requests())}
    scored = engine_for(mamba)
    tokenizer: Any = load_tokenizer(mamba)
    for name, completion in together.items():
        assert completion.text == alone[name].text
        assert completion.logprobs == pytest.approx(alone[name].logprobs, abs=1e-4)
        assert "e" not in completion.text or name == "1"
        assert completion.n_completion_tokens == len(completion.logprobs or ())
        ids = tokenizer(completion.text, add_special_tokens=False)["input_ids"]
        if name == "1" and completion.n_completion_tokens == len(ids):
            asked = ScoreRequest("s", PROMPTS[1], ids)
            (score,) = scored.score([asked])
            assert score.logprobs == pytest.approx(completion.logprobs, abs=1e-3)
    assert together["1"].n_completion_tokens <= 3


def test_likelihoods_are_those_of_a_plain_pass(mamba: ModelSource, tiny: ModelSource) -> None:
    assert fitting_score(load_model(mamba)) is score_plainly
    assert fitting_score(load_model(tiny)) is score_sharing
    tokenizer: Any = load_tokenizer(mamba)
    (score,) = engine_for(mamba).score([ScoreRequest("a", PROMPTS[1], " apples and dogs")])
    ids = tokenizer(PROMPTS[1])["input_ids"]
    with torch.no_grad():
        logits = load_model(mamba)(torch.tensor([[*ids, *score.token_ids]])).logits[0]
    logprobs = logits.log_softmax(-1)[len(ids) - 1 : -1]
    expected = [logprobs[place, token].item() for place, token in enumerate(score.token_ids)]
    assert score.logprobs == pytest.approx(expected, abs=1e-5)


def test_a_model_that_no_way_decodes_is_refused(
    tiny: ModelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "difference", lambda one, other: 1.0)
    request = Request("a", "The", SamplingSettings(temperature=0, max_tokens=2))
    with pytest.raises(ModelError, match="type llama, which cannot be decoded here"):
        list(engine_for(tiny).generate([request]))


def test_an_encoder_is_refused_wherever_a_model_is_loaded(of_type: Build) -> None:
    encoder = of_type("bert", num_attention_heads=2, intermediate_size=32)
    with pytest.raises(ModelError, match="of type bert and reads the tokens after a token"):
        load_model(encoder)
    decoder = of_type("bert", num_attention_heads=2, intermediate_size=32, is_decoder=True)
    load_model(decoder)


def test_wrong_settings_of_generation_are_not_the_engines(
    of_type: Build, mamba: ModelSource, tmp_path: Path
) -> None:
    """A repetition penalty of the model's own generation config does not count."""
    import json
    import shutil

    path = tmp_path / "penalised"
    shutil.copytree(mamba.path, path)
    config = json.loads((path / "generation_config.json").read_text())
    (path / "generation_config.json").write_text(json.dumps(config | {"repetition_penalty": 9.0}))
    greedy = SamplingSettings(temperature=0, max_tokens=12)
    asked = [Request("a", PROMPTS[1], greedy)]
    texts = [
        next(engine_for(source).generate(asked)).text
        for source in (mamba, ModelSource("p", str(path), prompt_format="text"))
    ]
    assert texts[0] == texts[1]


def test_in_half_precision_the_nearest_way_is_taken(
    mamba: ModelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = load_model(mamba)
    differences = iter([0.9, 0.2, 0.2, 0.1, 0.1])  # of the three ways, and again where it is less
    monkeypatch.setattr(decoding, "is_close", lambda one, other, dtype: False)
    monkeypatch.setattr(decoding, "difference", lambda one, other: next(differences))
    with torch.inference_mode():
        assert decoding.fitting_decode(model.to(torch.bfloat16), 0) is decoding.decode_alone
