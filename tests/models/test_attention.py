"""A cap on attention logits is computed, by whatever way the model is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, Gemma2Config, Gemma2ForCausalLM

from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource, load_model
from llm_distill.paths import bundled_root

TEACHER = bundled_root() / "data" / "models" / "tiny-teacher"


@pytest.fixture(scope="module")
def capped(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    """A Gemma 2 of two layers whose attention logits are mostly beyond their cap."""
    path = tmp_path_factory.mktemp("models") / "gemma"
    sizes = {"hidden_size": 32, "intermediate_size": 32, "head_dim": 16, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "query_pre_attn_scalar": 16}
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=512, attn_logit_softcapping=0.5, initializer_range=1.0, **sizes, **heads
    )
    Gemma2ForCausalLM(config).save_pretrained(path)
    AutoTokenizer.from_pretrained(TEACHER).save_pretrained(path)
    return ModelSource("gemma", str(path))


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.arange(20)[None]).logits
    return found


def test_a_cap_is_kept_without_being_asked_for(capped: ModelSource) -> None:
    def by(way: str) -> torch.Tensor:
        return logits(Gemma2ForCausalLM.from_pretrained(capped.path, attn_implementation=way))

    assert (by("eager") - by("sdpa")).abs().max() > 1  # what transformers would take
    assert torch.equal(logits(load_model(capped)), by("eager"))


@pytest.mark.exhaustive  # torch compiles it for minutes
def test_flex_attention_keeps_a_cap(capped: ModelSource) -> None:
    eager = Gemma2ForCausalLM.from_pretrained(capped.path, attn_implementation="eager")
    flexible = load_model(replace(capped, attn_implementation="flex_attention"))
    assert torch.allclose(logits(flexible), logits(eager), atol=1e-4)


def test_what_would_ignore_the_cap_is_refused(capped: ModelSource) -> None:
    with pytest.raises(ModelError, match=r"caps its attention logits at 0\.5, .*sdpa ignores"):
        load_model(replace(capped, attn_implementation="sdpa"))


def test_without_a_cap_it_is_what_is_asked_for() -> None:
    source = ModelSource("teacher", str(TEACHER))
    assert load_model(source).config._attn_implementation == "sdpa"
    eager = load_model(replace(source, attn_implementation="eager"))
    assert eager.config._attn_implementation == "eager"


def test_a_way_that_is_not_installed_is_told(capped: ModelSource) -> None:
    with pytest.raises(ModelError, match="model 'gemma' at .*flash_attn|FlashAttention"):
        load_model(replace(capped, attn_implementation="flash_attention_2"))


def test_the_file_says_it(tmp_path: Path) -> None:
    from llm_distill.pipeline.schema import ModelConfig
    from llm_distill.runtime.fingerprint import result_settings

    config = ModelConfig(model_name_or_path=str(TEACHER), attn_implementation="eager")
    assert "attn_implementation" not in result_settings(config)  # it changes speed and memory
