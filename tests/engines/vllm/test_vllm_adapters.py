"""Adapters loaded into a real `vllm serve` on the CPU, beside transformers and PEFT.

Run with `make test-vllm`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from llm_distill.engines.base import Request, SamplingSettings, ScoreRequest
from llm_distill.engines.budget import Budget
from llm_distill.engines.openai.settings import OpenAISettings
from llm_distill.engines.transformers.engine import TransformersEngine
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.errors import ModelError
from tests.engines.vllm.shared import NEEDS_VLLM, SMOLLM2, need_smollm2, questions, serving_adapters

pytestmark = NEEDS_VLLM

SERVED = "smollm2"
LONG = "Once more, and with care. " * 40  # some blocks of a prompt, which a cache would keep


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two random ones, which change what is written."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    need_smollm2()
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        base = AutoModelForCausalLM.from_pretrained(SMOLLM2.path, dtype=torch.float32)
        config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(base, config)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.02)
        folder = tmp_path_factory.mktemp("trained") / f"round-{seed}"
        model.save_pretrained(folder)
        found.append(str(folder))
    return found


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving_adapters(tmp_path_factory.mktemp("serve") / "log") as address:
        yield address


def requests() -> list[Request]:
    sampling = SamplingSettings(temperature=0, max_tokens=8)
    prompts = [LONG + question for question in questions(2)]
    return [Request(str(n), prompt, sampling) for n, prompt in enumerate(prompts)]


def scores() -> list[ScoreRequest]:
    return [ScoreRequest(str(n), LONG, f" {question}") for n, question in enumerate(questions(2))]


def said(engine: Any) -> tuple[dict[str, str], dict[str, tuple[float, ...]]]:
    """What it writes, and how likely it holds what is given."""
    try:
        texts = {answer.id: answer.text for answer in engine.generate(requests())}
        return texts, {score.id: score.logprobs for score in engine.score(scores())}
    finally:
        engine.close()


def test_each_adapter_is_asked_by_its_own_name(
    url: str, adapters: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base, one, the other, the first again, and both on each other: none gets another's."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    settings = OpenAISettings(
        kind="openai",
        base_url=url,
        model=SERVED,
        adapters="hot_load",
        adapters_folder=str(tmp_path / "adapters"),
        max_attempts=1,
    )
    one, other = adapters
    asked = [(), (one,), (other,), (one,), (one, other)]
    found, expected = [], []
    for each in asked:
        source = replace(SMOLLM2, adapters=each)
        found.append(said(settings.open(source, Budget(None))))
        here = TransformersSettings(batch_size=2, device="cpu")
        expected.append(said(TransformersEngine(source, here)))
    for (texts, logprobs), (own_texts, own_logprobs) in zip(found, expected, strict=True):
        assert texts == own_texts
        for key, values in own_logprobs.items():
            assert logprobs[key] == pytest.approx(values, abs=1e-3)
    assert found[1][0] == found[3][0]
    firsts = [values["0"] for _, values in (found[n] for n in (0, 1, 2, 4))]
    for n, a in enumerate(firsts):
        for b in firsts[n + 1 :]:
            assert max(abs(x - y) for x, y in zip(a, b, strict=True)) > 0.1
    assert len({str(found[n][0]) for n in (0, 1, 2, 4)}) > 2

    too_large = replace(SMOLLM2, adapters=(one, other, one))  # a rank of 24
    with pytest.raises(ModelError, match="start it with a larger --max-lora-rank"):
        settings.open(too_large, Budget(None))
