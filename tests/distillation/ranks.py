"""Trains on the rows of `tiny`: alone, or as one of several processes, which the environment says.

python -m tests.distillation.ranks FOLDER, where the models lie, writes FOLDER/rank 0.safetensors …
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch

from llm_distill.distillation.hacking.settings import WatchSettings
from llm_distill.distillation.rollouts.settings import RolloutSettings
from llm_distill.distillation.settings import DistillSettings
from llm_distill.evaluation.hacking_figures import points_of
from llm_distill.models.sources import ModelSource
from tests.distillation import tiny, trainers

STEPS = 3
MIXED = {"combine": "grad_mag"}
RUNS: dict[str, tuple[dict[str, Any], int]] = {
    "fixed": ({}, 1),
    "grad_mag": (MIXED, 1),
    "grad_mag, accumulated": (MIXED, 2),
    "sampled, accumulated": ({"losses": {"opd": 1.0}, "opd": {"returns": "sum"}}, 2),
    "rollouts": ({"losses": {"alm": 1.0, "sft": 1.0}}, 2),
    "watched": ({}, 1),
}
WATCH = WatchSettings(rows="held_out", distance="alm", every=2)
"""Of five rows, two at a time: one of two processes has a batch less."""
PARTS = ("loss", "alm", "sft", "opd", "opd_effective", "opd_apart_at_start")


def trained(folder: Path, n_ranks: int) -> dict[str, torch.Tensor]:
    """Every weight after the last step of every run, and what was logged of the losses.

    Each step is over all rows, whatever the number of processes and batches that share them; alone
    they are one batch.
    """
    teacher = ModelSource("teacher", str(folder / "teacher"))
    student = ModelSource("student", str(folder / "student"), prompt_format="text")
    twin = ModelSource("twin", str(folder / "twin"), prompt_format="text")
    found = {}
    for name, (settings, times) in RUNS.items():
        rollouts, of_teacher = None, teacher
        if name == "rollouts":
            # Of a teacher with the same tokenizer, as the texts of a random model are no text.
            rollouts, of_teacher = RolloutSettings(share=0.5, max_tokens=16), twin
        made = trainers.trainer(
            *(student, of_teacher, DistillSettings(**settings), folder / f"of {n_ranks}"),
            rows=tiny.as_sampled(student) if "sampled" in name else tiny.ROWS,
            rollouts=rollouts,
            watch=WATCH if name == "watched" else None,
            max_steps=STEPS,
            gradient_accumulation_steps=1 if n_ranks == 1 else times,
            per_device_train_batch_size=8 if n_ranks == 1 else 8 // n_ranks // times,
        )
        made.train()
        logged = [point for point in made.state.log_history if "loss" in point]
        assert len(logged) == STEPS
        points = points_of(made.state.log_history)
        if points:
            assert [point.step for point in points] == [0, 2, 3]
            found[f"{name}: proxy"] = torch.tensor([point.proxy for point in points])
        for part in PARTS:
            values = [point[part] for point in logged if part in point]
            if values:
                found[f"{name}: {part}"] = torch.tensor(values)
        for weight, value in trainers.weights(made).items():
            found[f"{name}: {weight.removeprefix('module.')}"] = value
    return found


if __name__ == "__main__":
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    place = Path(sys.argv[1])
    save_file(
        trained(place, int(os.environ["WORLD_SIZE"])),
        place / f"rank {os.environ['RANK']}.safetensors",
    )
