"""LoRA adapters for a server that lays them over weights it holds: which it takes, and as one.

A model that was trained in rounds has an adapter of each, one on top of another. Their updates add
up, B₁A₁ + B₂A₂ = [B₁ B₂][A₁; A₂], so together they are one adapter, whose rank is the sum.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from llm_distill.errors import ModelError

if TYPE_CHECKING:
    import torch

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PLAIN: Mapping[str, tuple[Any, ...]] = {
    "use_dora": (None, False),
    "bias": (None, "none"),
    "lora_bias": (None, False),
    "modules_to_save": (None, []),
    "target_parameters": (None, []),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
}
"""Settings of PEFT with the values under which an adapter is B and A of a few layers, no more."""
OF_TOKENS = ("embed_tokens", "lm_head", "wte", "embed_out")
A, B = ".lora_A.", ".lora_B."


def check_plain(adapter: Path, name: str) -> dict[str, Any]:
    """Its config.

    Raises:
        ModelError: it is not there, or has more than a server lays over weights. name: the model's.
    """
    try:
        config: dict[str, Any] = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"model '{name}': no adapter at {adapter}: {error}") from error
    kind = config.get("peft_type", "LORA")
    odd = [key for key, allowed in PLAIN.items() if config.get(key) not in allowed]
    said = [f"{key}: {json.dumps(config[key])}" for key in odd]
    if kind != "LORA":
        said = [f"peft_type: {kind}"]
    layers = config.get("target_modules")
    named = [layers] if isinstance(layers, str) else list(layers or ())
    said += [f"an adapter on {each}" for each in OF_TOKENS if each in named]
    if said:
        raise ModelError(
            f"model '{name}': its adapter has {', '.join(said)}, which vLLM does not lay over the "
            "weights that it serves; train it without, or merge it (merge_adapter) and serve that"
        )
    return config


def written_as_one(adapters: Sequence[str], called: str, folder: Path, name: str) -> Path:
    """A folder with these adapters, applied in this order, as one; named after their content.

    Args:
        adapters: PEFT's directories.
        called: what the folder's name begins with.
        folder: where it is written, if it is not there.
        name: the model's, for messages.

    Raises:
        ModelError: see `check_plain`; or it cannot be written.
    """
    configs = [check_plain(Path(adapter), name) for adapter in adapters]
    digest = hashlib.sha256()
    for adapter in map(Path, adapters):
        digest.update((adapter / CONFIG).read_bytes())
        with (adapter / WEIGHTS).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    place = folder / f"{called}-{digest.hexdigest()[:16]}"
    if place.is_dir():
        return place
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".new-", dir=folder) as made:
            whole = Path(made) / "adapter"  # whole or not at all: renamed when it is complete
            whole.mkdir()
            if len(adapters) == 1:
                for file_name in (CONFIG, WEIGHTS):
                    shutil.copy(Path(adapters[0]) / file_name, whole)
            else:
                _write_joined(adapters, configs, whole)
            if not place.is_dir():  # another process may have been quicker
                whole.rename(place)
    except OSError as error:
        raise ModelError(
            f"model '{name}': its adapter cannot be written to {folder}: {error.strerror}; set "
            "engine.adapters_folder"
        ) from error
    return place


def scaling(config: Mapping[str, Any]) -> float:
    """What an adapter's B·A is multiplied by."""
    rank = config["r"]
    return float(config["lora_alpha"]) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def joined(parts: Sequence[tuple[Mapping[str, torch.Tensor], float]]) -> dict[str, torch.Tensor]:
    """The weights of one adapter whose B·A is the sum of theirs, each times its scaling.

    All of its layers have one rank: where an adapter leaves a layer alone, there are zeros.
    """
    import torch

    layers = list(dict.fromkeys(name for weights, _ in parts for name in weights if A in name))
    ranks = [max(w.shape[0] for name, w in weights.items() if A in name) for weights, _ in parts]
    found: dict[str, torch.Tensor] = {}
    for layer in layers:
        other = layer.replace(A, B)
        like_a, like_b = next((w[layer], w[other]) for w, _ in parts if layer in w)
        downs, ups = [], []
        for (weights, scale), rank in zip(parts, ranks, strict=True):
            down = torch.zeros(rank, like_a.shape[1])
            up = torch.zeros(like_b.shape[0], rank)
            if layer in weights:
                down[: weights[layer].shape[0]] = weights[layer].float()
                up[:, : weights[other].shape[1]] = weights[other].float() * scale
            downs.append(down)
            ups.append(up)
        found[layer], found[other] = torch.cat(downs), torch.cat(ups, 1)
    return found


def _write_joined(
    adapters: Sequence[str], configs: Sequence[Mapping[str, Any]], folder: Path
) -> None:
    from safetensors.torch import load_file, save_file

    weights = [load_file(Path(adapter) / WEIGHTS) for adapter in adapters]
    tensors = joined([(w, scaling(c)) for w, c in zip(weights, configs, strict=True)])
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    rank = next(tensor.shape[0] for name, tensor in tensors.items() if A in name)
    ends = sorted({name.partition(A)[0].rpartition(".")[2] for name in tensors if A in name})
    config = {
        **configs[-1],
        "r": rank,
        "lora_alpha": rank,  # the scaling is in B
        "use_rslora": False,
        "target_modules": ends,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")
