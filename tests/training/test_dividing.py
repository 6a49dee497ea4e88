"""A divided model computes what the whole one does, and holds its part alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.distillation import tiny

RANK = """
import os, sys
import torch
import torch.distributed as dist
from llm_distill.models.sources import ModelSource, load_model
from llm_distill.training.dividing import divide_layers

folder, path = sys.argv[1:]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet",
                        rank=int(os.environ["RANK"]), world_size=2)
model = load_model(ModelSource("m", path, prompt_format="text"), device="cpu")
model = divide_layers(model.requires_grad_(False), "m", torch.device("cpu"))
ids = torch.arange(12).view(2, 6) % 5
with torch.no_grad():
    logits = [model(ids).logits for _ in range(2)][1]
held = sum(getattr(p, "_local_tensor", p).numel() for p in model.model.layers.parameters())
assert not hasattr(model.get_output_embeddings().weight, "_local_tensor")
torch.save((logits, held), f"{folder}/{os.environ['RANK']}")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_hold_half_of_the_layers_each(tmp_path: Path) -> None:
    from llm_distill.models.sources import load_model

    source = tiny.make_teacher(tmp_path)
    whole = load_model(source, device="cpu")
    with torch.no_grad():
        expected = whole(torch.arange(12).view(2, 6) % 5).logits
    command = [sys.executable, "-c", RANK, str(tmp_path), source.path]
    started = [
        subprocess.Popen(command, env={**os.environ, "RANK": str(n), "WORLD_SIZE": "2"})
        for n in range(2)
    ]
    assert [each.wait(timeout=300) for each in started] == [0, 0]
    total = sum(p.numel() for p in whole.model.layers.parameters())
    held = 0
    for n in range(2):
        logits, own = torch.load(tmp_path / str(n), weights_only=True)
        assert torch.allclose(logits, expected, atol=1e-5)
        assert own < 0.6 * total
        held += own
    assert held == total
