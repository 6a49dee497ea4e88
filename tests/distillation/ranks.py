"""Trains on the rows of `tiny`: alone, or as one of several processes, which the environment says.

python -m tests.distillation.ranks FOLDER, where the models lie, writes FOLDER/rank 0.safetensors …
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llm_distill.distillation.hacking.settings import WatchSettings
from llm_distill.distillation.rollouts.settings import RolloutSettings
from llm_distill.distillation.settings import DistillSettings
from llm_distill.distillation.teacher.on_engine import TeacherOnEngine
from llm_distill.distillation.teacher.online import TeacherInMemory
from llm_distill.engines.budget import Budget
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.evaluation.hacking_figures import points_of
from llm_distill.models.sources import ModelSource
from tests.distillation import tiny, trainers

if TYPE_CHECKING:
    from llm_distill.distillation.alignment.encoding import RowEncoder
    from llm_distill.engines.base import ScoreRequest

STEPS = 3
MIXED = {"combine": "grad_mag"}
SPANS = {"uld": 1.0, "gold": 1.0, "p_kl": 1.0, "h_kl": 1.0, "simct": 1.0}
BY_TOKEN = {"forward_kl": 1.0, "reverse_kl": 1.0, "jsd": 1.0}
OF_CHUNKS = {"losses": {"opd": 1.0, "alm": 1.0}, "alm": {"debias": False}}
RUNS: dict[str, tuple[dict[str, Any], int]] = {
    "fixed": ({}, 1),
    "grad_mag": (MIXED, 1),
    "grad_mag, accumulated": (MIXED, 2),
    "sampled, accumulated": ({"losses": {"opd": 1.0}, "opd": {"returns": "sum"}}, 2),
    "sampled": ({"losses": {"opd": 1.0}}, 1),
    "spans, accumulated": ({"losses": SPANS}, 2),
    "one tokenizer, accumulated": ({"losses": BY_TOKEN}, 2),
    "rollouts": ({"losses": {"alm": 1.0, "sft": 1.0}}, 2),
    "rollouts, opd": ({"losses": {"opd": 1.0}}, 2),
    "rollouts, asked": (OF_CHUNKS, 2),
    "watched": ({}, 1),
}
WATCH = WatchSettings(rows="held_out", distance="alm", every=2)
"""Of five rows, two at a time: one of two processes has a batch less."""
PARTS = ("loss", "alm", "sft", "opd", *SPANS, *BY_TOKEN, "opd_effective", "opd_apart_at_start")


def asked_of_engine(
    teacher: ModelSource, encoder: RowEncoder, settings: DistillSettings
) -> TeacherOnEngine:
    """The teacher as with `online: engine`; only the first process has an engine."""

    def ask(requests: Iterable[ScoreRequest], *, total: int) -> Iterator[Any]:
        assert os.environ.get("RANK", "0") == "0", "another process than the first asks"
        made = TransformersSettings(kind="transformers").open(teacher, Budget(None))
        found = {score.id: score for score in made.score(requests)}
        made.close()
        return ((request, found[request.id]) for request in requests)

    return TeacherOnEngine("twin", encoder, settings, ask, print)


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
        of_teacher = twin if name.startswith(("rollouts", "one tokenizer")) else teacher
        rollouts = None
        if name.startswith("rollouts"):
            # Of a teacher with the same tokenizer, as the texts of a random model are no text.
            rollouts = RolloutSettings(share=0.5 if name == "rollouts" else 1, max_tokens=16)
        rows = tiny.as_sampled(student) if "sampled" in name else tiny.ROWS
        # All texts are cut at one length: one process has less where it has a row less.
        rows = rows[:7] if name in ("rollouts, opd", "rollouts, asked") else rows
        made = trainers.trainer(
            *(student, of_teacher, DistillSettings(**settings), folder / f"of {n_ranks}"),
            rows=rows,
            signal=asked_of_engine if "asked" in name else TeacherInMemory,
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
