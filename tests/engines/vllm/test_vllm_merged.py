"""A merged adapter in vLLM. Run with `make test-vllm`."""

from __future__ import annotations

from dataclasses import replace

from llm_distill.engines.base import Request, SamplingSettings
from llm_distill.engines.budget import Budget
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.engines.vllm.settings import VLLMSettings
from llm_distill.models.sources import load_model
from tests.engines.vllm.shared import NEEDS_VLLM, STUDENT

pytestmark = NEEDS_VLLM

PROMPTS = [f"Question: What is {i} + {i + 3}?\nAnswer:" for i in range(2, 10)]


def test_a_merged_model_answers_in_vllm_as_its_adapter_in_transformers(tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model

    from llm_distill.training.weights import merge_adapters, save_adapter

    source = replace(STUDENT, dtype="float32")
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=4, target_modules="all-linear", init_lora_weights=False)
    save_adapter(get_peft_model(load_model(source), config), source, tmp_path / "adapter")
    adapted = replace(source, adapters=(str(tmp_path / "adapter"),))
    merge_adapters(adapted, tmp_path / "merged")
    merged = replace(source, path=str(tmp_path / "merged"))
    vllm = VLLMSettings(
        kind="vllm",
        max_model_len=256,
        max_num_batched_tokens=256,
        kv_cache_memory_bytes=2**27,
        enforce_eager=True,
    )
    greedy = SamplingSettings(temperature=0, max_tokens=24)
    requests = [Request(str(i), prompt, greedy) for i, prompt in enumerate(PROMPTS)]
    texts = []
    for settings, model in ((TransformersSettings(device="cpu"), adapted), (vllm, merged)):
        engine = settings.open(model, Budget(None))
        texts.append({c.id: (c.text, c.finish_reason) for c in engine.generate(requests)})
        engine.close()
    assert texts[0] == texts[1]
