"""A merged model answers as its adapter did, and loads with plain transformers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource, load_model
from llm_distill.stages.merge_adapter import MergeAdapter
from llm_distill.training.weights import save_adapter

PROMPTS = [f"How old is {name}?\nAnswer:" for name in ("Ann", "Bob", "Cem", "Zoe")]


def with_adapter(source: ModelSource, directory: Path, seed: int) -> ModelSource:
    """The model with a LoRA adapter of random weights, large enough to change what it says."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    adapted = get_peft_model(load_model(source), config)
    save_adapter(adapted, source, directory)
    return replace(source, name="adapted", adapters=(*source.adapters, str(directory)))


def greedy_tokens(model, tokenizer) -> list[list[int]]:
    found = []
    for prompt in PROMPTS:
        tokens = tokenizer(prompt, return_tensors="pt")
        written = model.generate(**tokens, do_sample=False, max_new_tokens=24)
        found.append(written[0, tokens["input_ids"].shape[1] :].tolist())
    return found


def plain(directory: Path | str):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return (
        AutoModelForCausalLM.from_pretrained(directory),
        AutoTokenizer.from_pretrained(directory),
    )


@pytest.mark.parametrize("n_adapters", [1, 2])
def test_greedy_tokens_are_those_of_the_base_with_its_adapters(
    run_stage, text_model, tmp_path, n_adapters
):
    from peft import PeftModel

    source = text_model
    for number in range(n_adapters):
        source = with_adapter(source, tmp_path / f"adapter{number}", number)
    out = run_stage(MergeAdapter(stage="merge_adapter", model="m"), models={"m": source}).model
    assert out.base is None
    base, tokenizer = plain(source.path)
    before = greedy_tokens(base, tokenizer)
    for adapter in source.adapters:
        base = PeftModel.from_pretrained(base, adapter).merge_and_unload()
    beside = greedy_tokens(base, tokenizer)
    merged = greedy_tokens(*plain(out.directory))
    assert merged == beside
    assert merged != before  # the adapters do change something


def test_one_adapter_beside_its_base_says_the_same_unmerged(run_stage, text_model, tmp_path):
    from peft import PeftModel

    source = with_adapter(text_model, tmp_path / "adapter", 3)
    out = run_stage(MergeAdapter(stage="merge_adapter", model="m"), models={"m": source}).model
    base, tokenizer = plain(source.path)
    beside = PeftModel.from_pretrained(base, source.adapters[0])
    assert greedy_tokens(beside, tokenizer) == greedy_tokens(*plain(out.directory))


def test_it_is_whole(run_stage, text_model, tmp_path, weights):
    source = with_adapter(text_model, tmp_path / "adapter", 0)
    out = run_stage(MergeAdapter(stage="merge_adapter", model="m"), models={"m": source}).model
    names = {path.name for path in out.directory.iterdir()}
    assert names == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json", "chat_template.jinja",
    }  # fmt: skip
    base = weights(Path(source.path))
    assert {n: t.shape for n, t in weights(out.directory).items()} == {
        n: t.shape for n, t in base.items()
    }
    for name in ("generation_config.json", "chat_template.jinja"):
        assert (out.directory / name).read_text() == (Path(source.path) / name).read_text(), name
    for file in out.directory.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes(), file.name


def test_a_base_that_sets_a_temperature_and_no_sampling_is_saved(run_stage, text_model, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(text_model.path, base)
    config = json.loads((base / "generation_config.json").read_text())
    config = {**config, "temperature": 0.6, "top_p": 0.9}
    (base / "generation_config.json").write_text(json.dumps(config))
    source = with_adapter(replace(text_model, path=str(base)), tmp_path / "adapter", 0)
    out = run_stage(MergeAdapter(stage="merge_adapter", model="m"), models={"m": source}).model
    saved = json.loads((out.directory / "generation_config.json").read_text())
    assert (saved["temperature"], saved["top_p"], saved["do_sample"]) == (0.6, 0.9, True)


def test_half_precision_is_said_in_its_config(run_stage, text_model, tmp_path, weights):
    import torch

    source = with_adapter(text_model, tmp_path / "adapter", 0)
    stage = MergeAdapter(stage="merge_adapter", model="m", dtype="bfloat16")
    out = run_stage(stage, models={"m": source}).model
    assert {tensor.dtype for tensor in weights(out.directory).values()} == {torch.bfloat16}
    assert plain(out.directory)[0].dtype == torch.bfloat16


def test_a_whole_model_has_nothing_to_merge(run_stage, text_model):
    with pytest.raises(ModelError, match="'tiny' has no adapter to merge: it is whole already"):
        run_stage(MergeAdapter(stage="merge_adapter", model="m"), models={"m": text_model})
