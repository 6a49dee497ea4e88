"""The memory that a training takes without its activations, which nobody knows before it runs.

Of 8.03e9 parameters, all trained, on 8 devices with fsdp2, it is on each: 4.0 GB of weights, 4.0 GB
of gradients, 8.0 GB of the optimizer's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_distill.models.size import HEAD, ModelSize, Weight

if TYPE_CHECKING:
    from llm_distill.training.settings import LoraSettings, TrainingSettings

FLOAT32 = 4
"""Bytes: of what is trained, of its gradients, and of each of AdamW's two averages."""
NOT_LINEAR = ("embed", "wte", "wpe", *HEAD)
"""Parts of names of matrices that are no linear layers, or get no adapter."""
EXPERT = re.compile(r"\.experts\.\d+\.")
"""Experts are saved one by one, and transformers stacks them into one parameter."""


@dataclass(frozen=True)
class Trained:
    """Parameters of an adapter: those that it adds, and those trained whole, which PEFT copies."""

    adapter: int
    copied: int


def trained_by(peft: LoraSettings, weights: Mapping[str, Weight]) -> Trained:
    """How many parameters an adapter has, as PEFT makes it."""
    adapter = 0
    for name, weight in weights.items():
        if _gets_adapter(name, weight, peft):
            n_out, n_in = weight.shape
            adapter += peft.r * (n_in + n_out) + peft.use_dora * n_out
        elif name.endswith(peft.target_parameters or ("\0",)):
            *stacked, one, other = weight.shape
            adapter += peft.r * (one + other) * (stacked[0] if stacked else 1)
    copied = sum(w.numel for name, w in weights.items() if _is_trained_whole(name, peft))
    return Trained(adapter, copied)


def _gets_adapter(name: str, weight: Weight, peft: LoraSettings) -> bool:
    module, _, last = name.rpartition(".")
    if last != "weight" or len(weight.shape) != 2 or EXPERT.search(name):
        return False
    if peft.target_modules == "all-linear":
        return not any(part in name for part in NOT_LINEAR)
    if isinstance(peft.target_modules, str):
        return re.fullmatch(peft.target_modules, module) is not None
    return f".{module}".endswith(tuple(f".{target}" for target in peft.target_modules))


def _is_trained_whole(name: str, peft: LoraSettings) -> bool:
    module = name.rpartition(".")[0]
    if peft.modules_to_save and module.endswith(peft.modules_to_save):
        return True
    return peft.train_embeddings and any(part in name for part in ("embed_tokens", "wte", *HEAD))


@dataclass(frozen=True)
class Footprint:
    """Bytes, before they are divided among devices; what is saved is float32 as well."""

    weights: int
    gradients: int
    optimizer: int | None
    reference: int = 0
    saved: int = 0

    @property
    def checkpoint(self) -> int:
        return self.saved + (self.optimizer or 0)

    def on_each(self, devices: int, strategy: str) -> dict[str, int]:
        """By what it is for, on each of the devices. strategy: as `launch.strategy` names it."""
        of_weights = devices if strategy in ("fsdp2", "zero3") else 1
        of_steps = devices if strategy != "ddp" else 1
        parts = {
            "weights": self.weights // of_weights,
            "gradients": self.gradients // of_steps,
            "optimizer": (self.optimizer or 0) // of_steps,
            "reference": self.reference // of_weights,
        }
        return {name: size for name, size in parts.items() if size}


def footprint(
    settings: TrainingSettings,
    size: ModelSize,
    dtype: str,
    *,
    bits: int | None = None,
    has_reference: bool = False,
) -> Footprint:
    """What training takes.

    dtype: of the weights that lie still under an adapter. bits: of a quantized base.
    has_reference: whether a second model stays as it was.
    """
    n = size.parameters
    if settings.peft is None:
        weights, trained = n * FLOAT32, n
    else:
        found = trained_by(settings.peft, size.weights)
        trained = found.adapter + found.copied
        base = size.bytes(dtype) if bits is None else _in_few_bits(size, dtype, bits)
        weights = base + trained * FLOAT32
    return Footprint(
        weights=weights,
        gradients=trained * FLOAT32,
        optimizer=2 * trained * FLOAT32 if _is_adamw(settings) else None,
        reference=n * FLOAT32 if has_reference else 0,
        saved=trained * FLOAT32,
    )


def _is_adamw(settings: TrainingSettings) -> bool:
    """Whether the optimizer keeps two averages of each gradient, in float32."""
    optim = str(settings.trainer_arguments.get("optim", "adamw_torch"))
    return optim in ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw_apex_fused")


def _in_few_bits(size: ModelSize, dtype: str, bits: int) -> int:
    """The linear layers in few bits, their scales not counted; the rest as it is."""
    linear = sum(
        weight.numel
        for name, weight in size.weights.items()
        if len(weight.shape) == 2 and not any(part in name for part in NOT_LINEAR)
    )
    return int(linear * bits / 8 + size.bytes(dtype) * (1 - linear / max(1, size.parameters)))
