"""A model that is not trained, divided among the processes of a training (PyTorch's FSDP2)."""

from __future__ import annotations

from typing import Any

import torch

from llm_distill.models.layers import layer_stack
from llm_distill.training.launch import world_size


def divide_layers(model: Any, name: str, device: torch.device) -> Any:
    """The model with each of its layers divided among all processes; a forward pass gathers one.

    All processes have to make the same number of passes. Embeddings and the output layer, which is
    read outside of a pass, stay whole, and lie on `device`. Each process has had the whole model in
    its main memory before.

    model: of transformers, on the CPU. name: for messages.

    Raises:
        ModelError: its layers are not found.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (world_size(),))
    for layer in layer_stack(model, name)[1]:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    return model.to(device)
