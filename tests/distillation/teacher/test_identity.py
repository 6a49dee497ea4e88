"""A score set says whose it is: the same wherever the model lies, another for another model."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file, save_file

from llm_distill.distillation.teacher.identity import scored_by
from llm_distill.models.sources import ModelSource


def test_it_is_of_the_model_and_not_of_its_place(tmp_path: Path) -> None:
    source = ModelSource("teacher", "data/models/tiny-teacher")
    mine = scored_by(source)
    assert mine.startswith("tiny-teacher ")
    copy = tmp_path / "tiny-teacher"
    shutil.copytree(source.path, copy)
    (copy / "README.md").write_text("Another card.")
    there = replace(source, name="other", path=str(copy))
    assert scored_by(there) == mine
    others = [scored_by(replace(source, prompt_format="text"))]
    for name in ("tokenizer.json", "config.json"):
        before = (copy / name).read_text()
        (copy / name).write_text(before + " ")
        others.append(scored_by(there))
        (copy / name).write_text(before)
    (file,) = copy.glob("*.safetensors")
    weights = {key: value * 1.01 for key, value in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})
    others.append(scored_by(there))
    assert len({mine, *others}) == 5


def test_adapters_and_names_on_the_hub_count(tmp_path: Path) -> None:
    hub = ModelSource("teacher", "meta-llama/Llama-3.1-8B", revision="a" * 40)
    assert scored_by(hub).startswith("Llama-3.1-8B ")
    assert scored_by(hub) != scored_by(replace(hub, revision="b" * 40))
    assert scored_by(hub) != scored_by(replace(hub, path="other/Llama-3.1-8B"))
    adapter = tmp_path / "tuned-0123"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    adapted = replace(hub, adapters=(str(adapter),))
    assert scored_by(adapted).startswith("Llama-3.1-8B + tuned-0123 ")
    before = scored_by(adapted)
    save_file({}, adapter / "adapter_model.safetensors")
    assert scored_by(adapted) != before
