"""An adapter added into the weights that it stands on: a whole model, which loads anywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource
from llm_distill.training.weights import load_start, save_full

MergedDType = Literal["float32", "bfloat16", "float16"]


def merge_adapters(source: ModelSource, directory: Path, dtype: MergedDType = "float32") -> None:
    """Write the whole model: safetensors, its configs, tokenizer and chat template.

    The sum is computed in float32 and only then rounded to `dtype`.

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
