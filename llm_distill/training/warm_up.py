"""A short training whose states are kept: its weights, and the moments of its optimizer.

Scores from a student's gradients need both (`distillation.gradients`). A stage that is killed
afterwards goes on from the states that lie in `work_dir/checkpoints/states`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import TrainerCallback

from llm_distill.tracking import sent
from llm_distill.training.checkpoints import DIGESTS, seal, why_not_whole
from llm_distill.training.loop import out_of_memory_explained
from llm_distill.training.sft import sft_trainer
from llm_distill.training.train import train, untrained

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.models.sources import ModelSource
    from llm_distill.stage import Context
    from llm_distill.training.settings import TrainingSettings

METRICS = "metrics.json"
"""Beside the states: what the training measured."""

RENAMED = {"n_rows": "warm_up_rows", "n_tokens": "warm_up_tokens"}


@dataclass(frozen=True)
class State:
    """A training after `n_steps` steps.

    weights: of the parameters that are trained, by name. first, second: AdamW's moments of each.
    learning_rate: its mean over the steps since the state before.
    """

    n_steps: int
    learning_rate: float
    weights: Mapping[str, torch.Tensor]
    first: Mapping[str, torch.Tensor]
    second: Mapping[str, torch.Tensor]


def start_model(settings: TrainingSettings, source: ModelSource, seed: int) -> Any:
    """What the training starts from, in float32 and in evaluation mode, on the CPU.

    Raises:
        ModelError: see `training.train.untrained`.
    """
    with out_of_memory_explained(settings):
        return untrained(settings, in_float32(source), seed)[1].eval()


def in_float32(source: ModelSource) -> ModelSource:
    """The same model with float32 for all of its weights, whether they are trained or not.

    In bfloat16 a step of a usual size is rounded away, and so is the change of a loss by it.
    """
    return replace(source, dtype="float32")


def warm_up(
    settings: TrainingSettings,
    source: ModelSource,
    dataset: Dataset,
    tokenizer: Any,
    context: Context,
    seed: int,
    *,
    each_epoch: bool,
) -> list[Path]:
    """Train `source`, unless an earlier run has done it; the files of `read_state`, in order.

    each_epoch: a state at the end of each epoch; else only the last one.

    Raises:
        ModelError: see `training.train.train` and `out_of_memory_explained`.
    """
    checkpoints = context.work_dir / "checkpoints"
    folder = checkpoints / "states"
    if why_not_whole(folder) is not None:
        if (folder / DIGESTS).exists():  # it was finished, and was damaged since
            shutil.rmtree(checkpoints)
        folder.mkdir(parents=True, exist_ok=True)

        def trainer(model: Any, arguments: dict[str, Any], peft_config: Any) -> Any:
            made = sft_trainer(model, dataset, tokenizer, arguments, peft_config)
            made.add_callback(KeepStates(folder, each_epoch=each_epoch))
            return made

        with out_of_memory_explained(settings), sent(settings.report_to, context.tracked):
            train(settings, in_float32(source), dataset, trainer, context, seed)
        measured = {RENAMED.get(name, name): value for name, value in context.metrics.items()}
        (folder / METRICS).write_text(json.dumps(measured), encoding="utf-8")
        seal(folder)
        for checkpoint in checkpoints.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        context.metrics.clear()
    context.metrics.update(json.loads((folder / METRICS).read_text(encoding="utf-8")))
    return _states(folder)


class KeepStates(TrainerCallback):  # type: ignore[misc]
    """Writes the states of a training as it goes, before the checkpoint of the same step."""

    def __init__(self, folder: Path, *, each_epoch: bool) -> None:
        self._folder, self._each_epoch = folder, each_epoch

    def on_step_end(self, args: Any, state: Any, control: Any, **of: Any) -> None:
        ends_epoch = self._each_epoch and state.epoch == int(state.epoch)
        if not (ends_epoch or state.global_step >= state.max_steps):
            return
        now = int(state.global_step)
        before = max((n for n in map(_n_steps, _states(self._folder)) if n < now), default=0)
        moments = of["optimizer"].state
        tensors = {}
        for name, parameter in of["model"].named_parameters():
            if parameter.requires_grad:
                found = moments.get(parameter, {})
                tensors[f"weight/{name}"] = parameter.detach()
                for key, kind in (("first", "exp_avg"), ("second", "exp_avg_sq")):
                    moment = found.get(kind)
                    tensors[f"{key}/{name}"] = (
                        torch.zeros_like(parameter) if moment is None else moment
                    )
        rate = _mean_rate(of["lr_scheduler"], before, now)
        path = self._folder / f"state-{now:08d}.safetensors"
        part = path.with_suffix(".part")
        whole = {name: tensor.float().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(whole, part, {"learning_rate": repr(rate)})
        part.rename(path)


def read_state(path: Path) -> State:
    """A state as `KeepStates` wrote it, on the CPU."""
    with safe_open(path, "pt") as file:
        rate = float(file.metadata()["learning_rate"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    groups: dict[str, dict[str, torch.Tensor]] = {"weight": {}, "first": {}, "second": {}}
    for name, tensor in tensors.items():
        kind, _, parameter = name.partition("/")
        groups[kind][parameter] = tensor
    return State(_n_steps(path), rate, groups["weight"], groups["first"], groups["second"])


def _states(folder: Path) -> list[Path]:
    return sorted(folder.glob("state-*.safetensors"))


def _n_steps(path: Path) -> int:
    return int(path.stem.removeprefix("state-"))


def _mean_rate(scheduler: Any, start: int, end: int) -> float:
    """The mean learning rate of the steps [start, end), which the scheduler tells of any step."""
    plain = getattr(scheduler, "scheduler", scheduler)  # accelerate wraps it
    factors = [plain.lr_lambdas[0](step) for step in range(start, end)]
    return float(plain.base_lrs[0] * sum(factors) / len(factors))
