"""What is refused as a model, and adapters on weights of either precision."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llm_distill.errors import ModelError
from llm_distill.models.files import check_model_dir
from llm_distill.models.sources import ModelSource, choose_device, load_model, load_tokenizer
from llm_distill.paths import bundled_root

TEACHER = bundled_root() / "data" / "models" / "tiny-teacher"


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    return shutil.copytree(TEACHER, tmp_path / "model")


def cut(path: Path) -> None:
    content = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(content[:5000])


def garbage(path: Path) -> None:
    (path / "model.safetensors").write_bytes(b"no weights at all")


def lengthened(path: Path) -> None:
    with (path / "model.safetensors").open("ab") as file:
        file.write(b"more")


def half_config(path: Path) -> None:
    (path / "config.json").write_text('{"model_type": "ll')


def no_object(path: Path) -> None:
    (path / "config.json").write_text("[]")


def no_config(path: Path) -> None:
    (path / "config.json").unlink()


def an_adapter(path: Path) -> None:
    (path / "config.json").rename(path / "adapter_config.json")


def no_tokenizer(path: Path) -> None:
    for file in path.glob("tokenizer*"):
        file.unlink()


def a_missing_shard(path: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "other.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


def an_odd_index(path: Path) -> None:
    (path / "model.safetensors.index.json").write_text('{"weight_map": {"a": 1}}')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, r"model\.safetensors is damaged.*5,000 bytes where its header says .* copy"),
        (garbage, r"model\.safetensors is damaged or no safetensors file: the header is longer"),
        (lengthened, r"model\.safetensors is damaged"),
        (half_config, r"config\.json is damaged: Unterminated string"),
        (no_object, r"config\.json is damaged: it holds no JSON object"),
        (no_config, r"is not a model directory: it has no config\.json"),
        (an_adapter, "is a PEFT adapter, not a whole model; merge it"),
        (no_tokenizer, r"has no tokenizer: expected one of tokenizer\.json"),
        (an_odd_index, r"index\.json is damaged: it names no files"),
        (a_missing_shard, r"has no other\.safetensors, which model\.safetensors\.index\.json"),
    ],
)
def test_a_directory_that_cannot_be_loaded(
    damage: Callable[[Path], None], message: str, model_dir: Path
) -> None:
    check_model_dir(model_dir)
    damage(model_dir)
    with pytest.raises(ModelError, match=message):
        check_model_dir(model_dir)


def test_weights_of_another_shape_than_the_config_says(model_dir: Path) -> None:
    config = json.loads((model_dir / "config.json").read_text())
    (model_dir / "config.json").write_text(json.dumps({**config, "hidden_size": 64}))
    with pytest.raises(ModelError, match="model 'm' at .*model: "):
        load_model(ModelSource("m", str(model_dir)))


def test_a_name_that_is_nowhere_says_so_in_a_line() -> None:
    for load in (load_model, load_tokenizer):
        with pytest.raises(ModelError, match="not a directory and was never downloaded") as caught:
            load(ModelSource("m", "org/nowhere"))
        assert "\n" not in str(caught.value)


def make_adapter(path: Path, size: float, seed: int, **own: Any) -> str:
    """A LoRA adapter of the teacher whose updates are about as large as training makes them."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    settings = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear", **own}
    config = LoraConfig(task_type="CAUSAL_LM", **settings)
    adapted: Any = get_peft_model(load_model(ModelSource("t", str(TEACHER))), config)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.uniform_(-size, size)
    adapted.save_pretrained(str(path))
    return str(path)


def change(source: ModelSource, adapters: tuple[str, ...]) -> Any:
    """By how much the adapters move the logits of a short text.

    Computed in float32 on the weights as they were loaded, which leaves out the rounding of
    activations: in bfloat16 that is larger than such a change.
    """
    import torch

    ids = torch.tensor([load_tokenizer(source)("What day is two days after Monday?")["input_ids"]])
    plain, adapted = (load_model(replace(source, adapters=some)) for some in ((), adapters))
    with torch.inference_mode():
        return adapted.float()(ids).logits - plain.float()(ids).logits


@pytest.mark.parametrize("n_adapters", [1, 2])
def test_half_precision_weights_do_not_swallow_an_adapter(n_adapters: int, tmp_path: Path) -> None:
    """Merged into bfloat16 weights, most of such an update would be rounded away."""
    adapters = tuple(make_adapter(tmp_path / f"a{i}", 3e-4, i) for i in range(n_adapters))
    source = ModelSource("t", str(TEACHER))
    exact = change(replace(source, dtype="float32"), adapters)
    found = change(replace(source, dtype="bfloat16"), adapters)
    share = float((exact * found).sum() / (exact * exact).sum())
    assert 0.95 < share < 1.05


def test_adapters_add_up_the_same_merged_or_not(tmp_path: Path) -> None:
    import torch

    adapters = tuple(make_adapter(tmp_path / f"a{i}", 0.1, i) for i in range(2))
    source = ModelSource("t", str(TEACHER))
    exact = change(replace(source, dtype="float32"), adapters)
    found = change(replace(source, dtype="bfloat16"), adapters)
    one = change(replace(source, dtype="float32"), adapters[:1])
    assert torch.cosine_similarity(exact.flatten(), found.flatten(), dim=0) > 0.99
    assert torch.cosine_similarity(exact.flatten(), one.flatten(), dim=0) < 0.95


def test_embeddings_do_not_add_up(tmp_path: Path) -> None:
    own = {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}
    adapters = tuple(make_adapter(tmp_path / f"a{i}", 0.1, i, **own) for i in range(2))
    source = ModelSource("t", str(TEACHER), adapters, dtype="bfloat16")
    with pytest.raises(ModelError, match="the 2 adapters of model 't' cannot stand on .* merge"):
        load_model(source)
    load_model(replace(source, dtype="float32"))


@pytest.mark.parametrize("there_is_one", [True, False])
def test_auto_takes_the_gpu_that_is_there(
    monkeypatch: pytest.MonkeyPatch, there_is_one: bool
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: there_is_one)
    assert choose_device("auto", "device") == ("cuda" if there_is_one else "cpu")
    assert choose_device("cpu", "device") == "cpu"


def test_a_gpu_that_is_not_there_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("cuda", "engine.device") == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match=r"^engine\.device is cuda, but there is no CUDA device"):
        choose_device("cuda", "engine.device")


def test_weights_that_are_missing_are_not_made_up(model_dir: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = model_dir / "model.safetensors"
    source = ModelSource("teacher", str(model_dir))
    load_model(source, with_head=False)
    kept = {name: t for name, t in load_file(file).items() if ".layers.1.mlp" not in name}
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"no weights for .*mlp\S+ and \d+ more; is it a causal"):
        load_model(source)
    with pytest.raises(ModelError, match=r"no weights for .*mlp\S+ and \d+ more; is it a model of"):
        load_model(source, with_head=False)
