"""Which layers an adapter may be put on, by what they are and not by what they are called."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource, load_model
from llm_distill.stages.train_sft import TrainSft
from llm_distill.training.weights import merge_adapters

IDS = torch.tensor([[5, 9, 200, 17, 8, 5, 30]])


def stage(**peft: Any) -> TrainSft:
    given: dict[str, Any] = {
        "stage": "train_sft",
        "model": "m",
        "rows": "r",
        "max_steps": 3,
        "learning_rate": 1e-2,
        "on_collapse": "ignore",
        "peft": {"r": 4, "lora_alpha": 8, **peft},
    }
    return TrainSft.model_validate(given)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(IDS).logits
    return found


def saved(path: Path, like: Path, config: Any) -> ModelSource:
    """A random model of a config, with the tokenizer of another."""
    from transformers import AutoModelForCausalLM

    shutil.copytree(like, path)
    for file in (path / "model.safetensors", path / "generation_config.json"):
        file.unlink()
    torch.manual_seed(2)
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    return ModelSource("m", str(path), prompt_format="text")


@pytest.fixture
def tied(model_dir: Path, tmp_path: Path) -> ModelSource:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model_dir, tie_word_embeddings=True)
    return saved(tmp_path / "tied", model_dir, config)


def test_an_adapter_of_a_tied_embedding_is_merged_into_the_embedding_alone(
    run_stage, rows, tied, trained, tmp_path
) -> None:
    run = run_stage(stage(target_modules=["embed_tokens"]), {"r": rows}, models={"m": tied})
    base = load_model(tied)
    as_trained = logits(PeftModel.from_pretrained(base, run.model.directory))
    assert not torch.allclose(as_trained, logits(load_model(tied)), atol=1e-2)
    source = trained(run.model, tied)
    torch.testing.assert_close(logits(load_model(source)), as_trained, rtol=0, atol=1e-5)
    merge_adapters(source, tmp_path / "merged")
    merged = ModelSource("merged", str(tmp_path / "merged"))
    torch.testing.assert_close(logits(load_model(merged)), as_trained, rtol=0, atol=1e-5)
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["tie_word_embeddings"] is False
    again = run_stage(stage(), {"r": rows}, models={"m": source}, work_dir=tmp_path / "again")
    stacked = trained(again.model, source)
    merge_adapters(stacked, tmp_path / "both")
    both = ModelSource("both", str(tmp_path / "both"))
    torch.testing.assert_close(
        logits(load_model(both)), logits(load_model(stacked)), rtol=0, atol=1e-5
    )


def test_other_adapters_leave_tied_embeddings_tied(run_stage, rows, tied, trained, tmp_path):
    run = run_stage(stage(target_modules=["q_proj"]), {"r": rows}, models={"m": tied})
    merge_adapters(trained(run.model, tied), tmp_path / "merged")
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["tie_word_embeddings"]


@pytest.mark.parametrize("modules", [["head"], ".*(key|head)"])
def test_the_output_layer_is_refused_by_any_name(run_stage, rows, model_dir, tmp_path, modules):
    from transformers import AutoConfig, RwkvConfig

    size = AutoConfig.from_pretrained(model_dir).vocab_size
    ids = {"bos_token_id": None, "eos_token_id": 1}
    config = RwkvConfig(vocab_size=size, hidden_size=32, num_hidden_layers=2, **ids)
    source = saved(tmp_path / "rwkv", model_dir, config)
    with pytest.raises(ModelError, match=r"an adapter on head, the output layer"):
        run_stage(stage(target_modules=modules), {"r": rows}, models={"m": source})


@pytest.mark.parametrize("modules", [["self_attn"], ["norm"], ".*layers.*", ["q_porj"]])
def test_layers_that_peft_cannot_adapt_are_a_setting_that_is_wrong(
    run_stage, rows, text_model, modules
) -> None:
    with pytest.raises(ModelError, match=r"'tiny' with peft.target_modules ") as refused:
        run_stage(stage(target_modules=modules), {"r": rows}, models={"m": text_model})
    assert len(str(refused.value)) < 600
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "setting",
    [
        {"num_beams": 1, "early_stopping": True},
        {"length_penalty": 2.0},
        {"output_scores": True},
        {"pad_token_id": -1},
        {"temperature": 0.7, "output_scores": True, "length_penalty": 2.0},
    ],
)
def test_a_generation_config_that_cannot_be_saved_is_mended_before_training(
    run_stage, rows, text_model, tmp_path, setting
) -> None:
    shutil.copytree(text_model.path, tmp_path / "odd")
    path = tmp_path / "odd" / "generation_config.json"
    before = json.loads(path.read_text()) | setting
    path.write_text(json.dumps(before))
    source = replace(text_model, path=str(tmp_path / "odd"))
    full = TrainSft(stage="train_sft", model="m", rows="r", max_steps=1)
    run = run_stage(full, {"r": rows}, models={"m": source})
    after = json.loads((run.model.directory / "generation_config.json").read_text())
    assert after["eos_token_id"] == before["eos_token_id"]
    load_model(ModelSource("trained", str(run.model.directory))).generation_config.validate(
        strict=True
    )


def test_a_generation_config_that_transformers_does_not_load_is_named(
    run_stage, rows, text_model, tmp_path
) -> None:
    shutil.copytree(text_model.path, tmp_path / "odd")
    (tmp_path / "odd" / "generation_config.json").write_text('{"num_return_sequences": 3}')
    source = replace(text_model, path=str(tmp_path / "odd"))
    full = TrainSft(stage="train_sft", model="m", rows="r", max_steps=1)
    with pytest.raises(ModelError, match=r"'tiny' .*generation_config.json: Greedy methods"):
        run_stage(full, {"r": rows}, models={"m": source})


def test_a_config_that_cannot_be_saved_is_refused_before_training(
    run_stage, rows, text_model, monkeypatch
) -> None:
    from transformers import LlamaConfig

    def refuse(self: Any, *_: Any, **__: Any) -> None:
        raise ValueError("the config is odd\nand more")

    monkeypatch.setattr(LlamaConfig, "save_pretrained", refuse)
    full = TrainSft(stage="train_sft", model="m", rows="r", max_steps=1)
    with pytest.raises(ModelError, match="could not be saved again.*: the config is odd$"):
        run_stage(full, {"r": rows}, models={"m": text_model})


@pytest.mark.parametrize(
    "peft",
    [
        {"use_dora": True},
        {"use_rslora": True},
        {"modules_to_save": ["norm"]},
        {"modules_to_save": ["norm"], "train_embeddings": True},
        {"use_dora": True, "target_modules": ["q_proj", "embed_tokens"]},
    ],
)
def test_more_kinds_of_adapters_are_merged_to_what_was_trained(
    run_stage, rows, text_model, trained, tmp_path, peft
) -> None:
    run = run_stage(stage(**peft), {"r": rows}, models={"m": text_model})
    config = json.loads((run.model.directory / "adapter_config.json").read_text())
    for name in {"use_dora", "use_rslora"} & peft.keys():
        assert config[name]
    as_trained = logits(PeftModel.from_pretrained(load_model(text_model), run.model.directory))
    assert not torch.allclose(as_trained, logits(load_model(text_model)), atol=1e-3)
    merge_adapters(trained(run.model, text_model), tmp_path / "merged")
    merged = load_model(ModelSource("merged", str(tmp_path / "merged")))
    torch.testing.assert_close(logits(merged), as_trained, rtol=0, atol=1e-4)
    if "modules_to_save" in peft:
        norm = load_model(text_model).state_dict()["model.norm.weight"]
        assert not torch.equal(merged.state_dict()["model.norm.weight"], norm)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["lm_head"], "'lm_head' is the embedding or the output layer.*train_embeddings: true"),
        (["embed_tokens"], "train_embeddings: true"),
        (["nrom"], "the model has no module 'nrom'"),
    ],
)
def test_layers_that_cannot_be_trained_whole_are_named(
    run_stage, rows, text_model, names, message
) -> None:
    with pytest.raises(ModelError, match=f"peft.modules_to_save: .*{message}"):
        run_stage(stage(modules_to_save=names), {"r": rows}, models={"m": text_model})


@pytest.fixture
def mixture(model_dir: Path, tmp_path: Path) -> ModelSource:
    """Qwen2-MoE, whose experts are stacked, and which PEFT does not know by name."""
    from transformers import AutoConfig, Qwen2MoeConfig

    size = AutoConfig.from_pretrained(model_dir).vocab_size
    config = Qwen2MoeConfig(
        vocab_size=size, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, num_experts=4, num_experts_per_tok=2,
        moe_intermediate_size=32, shared_expert_intermediate_size=32, router_aux_loss_coef=0.5,
        bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    return saved(tmp_path / "mixture", model_dir, config)


def test_experts_without_an_adapter_are_said_and_can_have_one(
    run_stage, rows, mixture, trained, tmp_path
) -> None:
    run = run_stage(stage(), {"r": rows}, models={"m": mixture})
    (warning,) = run.warnings
    n_parameters = 2 * 4 * 3 * 32 * 32
    assert warning.startswith(f"{n_parameters:,} parameters of stacked linear layers (experts) get")
    named = warning.partition("[")[2].partition("]")[0].split(", ")
    assert named == ["mlp.experts.down_proj", "mlp.experts.gate_up_proj"]
    adapted = run_stage(
        stage(target_parameters=named), {"r": rows}, models={"m": mixture}, work_dir=tmp_path / "w"
    )
    assert adapted.warnings == []
    more = adapted.metrics["trainable_parameters"] - run.metrics["trainable_parameters"]
    assert more > 0
    as_trained = logits(PeftModel.from_pretrained(load_model(mixture), adapted.model.directory))
    merge_adapters(trained(adapted.model, mixture), tmp_path / "merged")
    merged = logits(load_model(ModelSource("merged", str(tmp_path / "merged"))))
    torch.testing.assert_close(merged, as_trained, rtol=0, atol=1e-4)


def test_tokens_are_spread_over_experts_alike_in_every_training(
    run_stage, rows, mixture, text_model, tmp_path
) -> None:
    """The cross entropy alone with a coefficient of 0; the config's own coefficient by default."""
    from llm_distill.stages.train_distill import TrainDistill

    def loss(kind: str, coefficient: float | None, size: int = 8) -> float:
        given: dict[str, Any] = {
            "stage": kind, "model": "m", "rows": "r", "max_steps": 1, "logging_steps": 1,
            "per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size,
        }  # fmt: skip
        if coefficient is not None:
            given["router_aux_loss_coef"] = coefficient
        kinds: Any = {"train_sft": TrainSft, "train_distill": TrainDistill}
        more = {"losses": {"sft": 1}} if kind == "train_distill" else {}
        made = kinds[kind].model_validate(given | more)
        folder = tmp_path / f"{kind}-{coefficient}-{size}"
        run = run_stage(made, {"r": rows}, models={"m": mixture}, work_dir=folder)
        found: float = run.metrics["train_loss"]
        return found

    alone = loss("train_sft", 0.0)
    by_default = loss("train_sft", None)
    assert by_default - alone > 0.5  # the loss of even spreading is about the experts a token has
    assert loss("train_distill", 0.0) == pytest.approx(alone, rel=1e-4)
    assert loss("train_distill", None) == pytest.approx(by_default, rel=1e-4)
    in_parts = loss("train_distill", None, size=2)
    assert in_parts == pytest.approx(loss("train_sft", None, size=2), rel=1e-4)
    odd = TrainSft(stage="train_sft", model="m", rows="r", router_aux_loss_coef=0.1)
    with pytest.raises(ModelError, match="'tiny' .*is not a mixture of experts"):
        run_stage(odd, {"r": rows}, models={"m": text_model})


def test_a_loss_that_is_not_of_the_models_own_logits_is_refused(
    run_stage, rows, model_dir, tmp_path, monkeypatch
) -> None:
    """RecurrentGemma caps its logits, under a name of its own."""
    from transformers import AutoConfig, RecurrentGemmaConfig

    from llm_distill.training import weights

    size = AutoConfig.from_pretrained(model_dir).vocab_size
    config = RecurrentGemmaConfig(
        vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=3,
        num_attention_heads=2, num_key_value_heads=1, lru_width=32, attention_window_size=16,
        logits_soft_cap=0.1, bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    source = saved(tmp_path / "capped", model_dir, config)
    full = TrainSft(stage="train_sft", model="m", rows="r", max_steps=1)
    run = run_stage(full, {"r": rows}, models={"m": source})
    kept = json.loads((run.model.directory / "config.json").read_text())
    assert "final_logit_softcapping" not in kept
    monkeypatch.setattr(weights, "name_soft_cap", lambda model: None)
    with pytest.raises(ModelError, match="what RecurrentGemmaForCausalLM does to its logits"):
        run_stage(full, {"r": rows}, models={"m": source}, work_dir=tmp_path / "again")
