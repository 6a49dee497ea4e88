"""The model that training starts from, and the directory that it ends in."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource, load_model, own_tokenizer

NOT_SAFE = (".bin", ".pt", ".pth", ".pkl")


@dataclass(frozen=True)
class Start:
    """A model to be trained, and its own configs, which trainers change (pad token and others)."""

    model: Any
    config: Any
    generation_config: Any


def training_source(source: ModelSource, *, full: bool) -> ModelSource:
    """`source` with the dtype that it is trained in.

    Weights that change are float32: at a usual learning rate a step is smaller than what bfloat16
    can tell apart, and float16 overflows (`bf16` computes in half precision all the same). So are
    weights that an earlier adapter is merged into. Weights that lie still under an adapter keep
    their dtype, but for `auto` on the CPU, which is slow at anything but float32.
    """
    import torch

    lies_still = not full and not source.adapters
    if lies_still and (source.dtype != "auto" or torch.cuda.is_available()):
        return source
    return replace(source, dtype="float32")


def load_start(source: ModelSource) -> Start:
    """The model, its adapters merged, on the CPU; the trainer moves it."""
    model: Any = load_model(source)
    model.requires_grad_(True)  # PEFT freezes what an adapter is merged into
    _make_storable(model.generation_config)
    return Start(model, copy.deepcopy(model.config), copy.deepcopy(model.generation_config))


def reference_model(source: ModelSource) -> Any:
    """A second copy that stays as it is, with the source's adapters merged."""
    return load_model(training_source(source, full=True))


def _make_storable(generation_config: Any) -> None:
    """Transformers loads a temperature or top_p without do_sample, and then refuses to save it.

    Who sets one means to sample.
    """
    try:
        generation_config.validate(strict=True)
    except ValueError:
        generation_config.do_sample = True


def save_full(
    start: Start, source: ModelSource, directory: Path, tokenizer: Any | None = None
) -> None:
    """A model directory: safetensors, configs as the model came with them, its tokenizer.

    tokenizer: in place of the model's own.
    """
    model = start.model
    model.config, model.generation_config = start.config, start.generation_config
    model.save_pretrained(str(directory))
    kept = own_tokenizer(source) if tokenizer is None else tokenizer
    kept.save_pretrained(str(directory))
    _only_safe(directory)


def save_adapter(peft_model: Any, source: ModelSource, directory: Path) -> None:
    """A PEFT adapter directory with the tokenizer.

    PEFT notes where the base was loaded from; a path of this machine means nothing on another.
    """
    base = Path(source.path).name if source.is_local else source.path
    for config in peft_model.peft_config.values():
        config.base_model_name_or_path = base
        config.revision = source.revision
    # False: the vocabulary is as it was, and PEFT would ask the Hub to find that out.
    peft_model.save_pretrained(str(directory), save_embedding_layers=False)
    own_tokenizer(source).save_pretrained(str(directory))
    _only_safe(directory)


def merge_adapters(source: ModelSource, directory: Path, dtype: str = "float32") -> None:
    """Write the model with its adapters added into its weights; it loads without PEFT.

    dtype: float32, bfloat16 or float16. The sum is computed in float32 and rounded only then.

    Raises:
        ModelError: the model has no adapter.
    """
    import torch

    if not source.adapters:
        raise ModelError(f"model '{source.name}' has no adapter to merge: it is whole already")
    start = load_start(replace(source, dtype="float32"))
    if dtype != "float32":
        start.model.to(getattr(torch, dtype))
        start.config.dtype = getattr(torch, dtype)
    directory.mkdir(parents=True, exist_ok=True)
    save_full(start, source, directory)


def _only_safe(directory: Path) -> None:
    (directory / "README.md").unlink(missing_ok=True)  # PEFT's, empty but for a path
    for path in directory.iterdir():
        if path.suffix in NOT_SAFE:
            path.unlink()
