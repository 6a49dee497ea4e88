"""Trains on the rows of `tiny`: alone, or as one of several processes, which the environment says.

python -m tests.distillation.ranks FOLDER, where the models lie, writes FOLDER/rank 0.safetensors …
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from llm_distill.distillation.rollouts.settings import RolloutSettings
from llm_distill.distillation.settings import DistillSettings
from llm_distill.models.sources import ModelSource
from tests.distillation import trainers

STEPS = 3
RUNS = {
    "fixed": ("fixed", 1),
    "grad_mag": ("grad_mag", 1),
    "grad_mag, accumulated": ("grad_mag", 2),
    "rollouts": ("fixed", 2),
}


def trained(folder: Path, n_ranks: int) -> dict[str, torch.Tensor]:
    """Every weight after the last step of every run, and what was logged of the losses.

    Each step is over all rows, whatever the number of processes and batches that share them; alone
    they are one batch.
    """
    teacher = ModelSource("teacher", str(folder / "teacher"))
    student = ModelSource("student", str(folder / "student"), prompt_format="text")
    twin = ModelSource("twin", str(folder / "twin"), prompt_format="text")
    found = {}
    for name, (combine, times) in RUNS.items():
        settings, of_teacher, rollouts = DistillSettings(combine=combine), teacher, None
        if name == "rollouts":
            # Of a teacher with the same tokenizer, as the texts of a random model are no text.
            settings = DistillSettings(losses={"alm": 1.0, "sft": 1.0})
            rollouts, of_teacher = RolloutSettings(share=0.5, max_tokens=16), twin
        made = trainers.trainer(
            *(student, of_teacher, settings, folder / f"of {n_ranks}"),
            rollouts=rollouts,
            max_steps=STEPS,
            gradient_accumulation_steps=1 if n_ranks == 1 else times,
            per_device_train_batch_size=8 if n_ranks == 1 else 8 // n_ranks // times,
        )
        made.train()
        logged = [point for point in made.state.log_history if "loss" in point]
        assert len(logged) == STEPS
        for part in ("loss", "alm", "sft"):
            found[f"{name}: {part}"] = torch.tensor([point[part] for point in logged])
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
