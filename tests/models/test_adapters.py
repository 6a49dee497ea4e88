"""Adapters on each other are written as one that gives the same, and odd ones are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from llm_distill.errors import ModelError
from llm_distill.models.adapters import joined, scaling, written_as_one
from llm_distill.models.sources import ModelSource, load_model

BASE = Path("data/models/tiny-student")


def adapter(path: Path, seed: int, **settings: object) -> str:
    """A random one, as a training might have left it."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(BASE)
    found = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    for name, parameter in found.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    found.save_pretrained(path)
    return str(path)


def test_three_rounds_as_one_give_the_logits_of_all_of_them(tmp_path: Path) -> None:
    """Of other ranks, scalings and layers."""
    rounds = [
        adapter(tmp_path / "1", 1, r=4, lora_alpha=8, target_modules=["q_proj", "up_proj"]),
        adapter(tmp_path / "2", 2, r=2, lora_alpha=3, target_modules="all-linear"),
        adapter(tmp_path / "3", 3, r=9, lora_alpha=6, use_rslora=True, target_modules=["q_proj"]),
    ]
    one = written_as_one(rounds, "student", tmp_path / "out", "student")
    assert one.parent == tmp_path / "out"
    assert json.loads((one / "adapter_config.json").read_text())["r"] == 15
    ids = torch.arange(20).reshape(2, 10)
    each, all_of_it, none = (
        load_model(ModelSource("m", str(BASE), adapters=adapters))(ids).logits
        for adapters in (tuple(rounds), (str(one),), ())
    )
    torch.testing.assert_close(all_of_it, each, rtol=1e-4, atol=1e-4)
    assert (each - none).abs().max() > 0.1


def test_joined_is_the_sum_of_the_updates_layer_by_layer() -> None:
    torch.manual_seed(1)
    names = [f"m.{n}.lora_{part}.weight" for n in ("x", "y") for part in "AB"]
    one = dict(zip(names, (torch.randn(3, 5), torch.randn(4, 3)) * 2, strict=True))
    two = {names[0]: torch.randn(2, 5), names[1]: torch.randn(4, 2)}
    found = joined([(one, 0.5), (two, 2.0)])
    x, y = (found[f"m.{n}.lora_B.weight"] @ found[f"m.{n}.lora_A.weight"] for n in ("x", "y"))
    torch.testing.assert_close(
        x, 0.5 * one[names[1]] @ one[names[0]] + 2 * two[names[1]] @ two[names[0]]
    )
    torch.testing.assert_close(y, 0.5 * one[names[3]] @ one[names[2]])
    assert {tuple(v.shape) for n, v in found.items() if "lora_A" in n} == {(5, 5)}
    assert scaling({"r": 16, "lora_alpha": 8}) == 0.5
    assert scaling({"r": 16, "lora_alpha": 8, "use_rslora": True}) == 2.0


def test_one_is_copied_under_the_digest_of_its_content(tmp_path: Path) -> None:
    first = adapter(tmp_path / "a", 1, r=2)
    place = written_as_one([first], "s", tmp_path / "out", "s")
    (tmp_path / "a").rename(tmp_path / "b")
    assert written_as_one([str(tmp_path / "b")], "s", tmp_path / "out", "s") == place
    (weights,) = place.glob("*.safetensors")
    assert all(
        torch.equal(tensor, load_file(tmp_path / "b" / weights.name)[name])
        for name, tensor in load_file(weights).items()
    )
    adapter(tmp_path / "b", 2, r=2)  # other weights in the same folder
    other = written_as_one([str(tmp_path / "b")], "s", tmp_path / "out", "s")
    assert other != place
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [place.name, other.name]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "its adapter has use_dora: true, which vLLM does not lay over"),
        ({"bias": "all"}, 'its adapter has bias: "all"'),
        ({"modules_to_save": ["norm"]}, r'modules_to_save: \["norm"\]'),
        ({"target_modules": ["q_proj", "lm_head"]}, "its adapter has an adapter on lm_head"),
        ({"target_modules": ["embed_tokens"]}, "an adapter on embed_tokens"),
        ({"peft_type": "IA3"}, "its adapter has peft_type: IA3"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        (None, "model 'student': no adapter at"),
    ],
)
def test_more_than_low_rank_updates_of_layers_is_refused(
    change: dict[str, object] | None, message: str, tmp_path: Path
) -> None:
    path = adapter(tmp_path / "a", 1, r=2)
    config = Path(path) / "adapter_config.json"
    if change is None:
        config.unlink()
    else:
        config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    with pytest.raises(ModelError, match=message):
        written_as_one([path], "s", tmp_path / "out", "student")
    assert not (tmp_path / "out").exists()


def test_where_it_cannot_be_written_is_said(tmp_path: Path) -> None:
    path = adapter(tmp_path / "a", 1, r=2)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"cannot be written to .*; set engine\.adapters_folder"):
        written_as_one([path], "s", tmp_path / "file", "student")
