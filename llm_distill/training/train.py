"""Train a model on tokens and save it: what both training stages do after reading their rows."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_distill.doing import doing
from llm_distill.errors import ModelError
from llm_distill.models.limits import check_dataset
from llm_distill.stage import ModelOutput
from llm_distill.tracking import sent
from llm_distill.training.launch import is_main, is_sharded, use_one_device
from llm_distill.training.lora import lora_config
from llm_distill.training.quantization import bits_and_bytes, is_quantized, keep_adapter_precise
from llm_distill.training.settings import LaunchedSettings, trainer_arguments
from llm_distill.training.weights import load_start, save_adapter, save_full, training_source

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.models.sources import ModelSource
    from llm_distill.stage import Context
    from llm_distill.training.before_after import BeforeAfter
    from llm_distill.training.settings import TrainingSettings
    from llm_distill.training.weights import Start

log = logging.getLogger("llm_distill")

MakeTrainer = Callable[[Any, dict[str, Any], Any], Any]
"""From (model, trainer arguments, PEFT config or None) to a trainer of `training.sft` or `.dpo`."""


def train_and_save(
    settings: TrainingSettings,
    source: ModelSource,
    dataset: Dataset,
    make_trainer: MakeTrainer,
    context: Context,
    seed: int,
    held_out: Dataset | None = None,
) -> ModelOutput:
    """Train `source`; the model or adapter lies in `work_dir/model` then.

    held_out: rows that it is not trained on, to take prompts from; the trainer has them already.

    Raises:
        ModelError: see `trainer_arguments`, `check_dataset`, `run_trainer`, `BeforeAfter.compare`
            and `out_of_memory_explained`.
    """
    from llm_distill.training.before_after import BeforeAfter
    from llm_distill.training.loop import out_of_memory_explained

    size = settings.per_device_train_batch_size
    rows = dataset, held_out
    asked = None if settings.on_collapse == "ignore" else BeforeAfter(source, *rows, size)
    with out_of_memory_explained(settings), sent(settings.report_to, context.tracked):
        start, trainer = train(settings, source, dataset, make_trainer, context, seed, asked)
        if asked is not None:
            asked.compare(trainer.model, context, stop=settings.on_collapse == "stop")
        return _saved(settings, start, trainer, source, context)


def train(
    settings: TrainingSettings,
    source: ModelSource,
    dataset: Dataset,
    make_trainer: MakeTrainer,
    context: Context,
    seed: int,
    asked: BeforeAfter | None = None,
) -> tuple[Start, Any]:
    """Train `source`: what it started from, and the trainer with the model as it is now.

    asked: is asked before the first step.

    Raises:
        ModelError: see `trainer_arguments`, `check_dataset` and `run_trainer`.
    """
    from llm_distill.training.loop import AskWhenDivided, run_trainer

    use_one_device()
    arguments = trainer_arguments(settings, context, seed)
    start = _start(settings, source, arguments["bf16"])
    check_dataset(dataset, start.model, source.name)
    _check_routers(settings, start.model, source)
    if asked is not None and not is_sharded():
        asked.ask_before(start.model)
    with _arguments_fit(settings):
        with _adapter_fits(settings, source):
            trainer = make_trainer(start.model, arguments, lora_config(settings, start.model))
        if is_quantized(start.model):
            keep_adapter_precise(trainer.model)
        _warn_of_bare_experts(settings, trainer.model, context)
        context.metrics.update(n_rows=len(dataset), n_tokens=_n_tokens(dataset))
        if asked is not None and is_sharded():
            trainer.add_callback(AskWhenDivided(asked, context.work_dir / "checkpoints"))
        run_trainer(trainer, context)
    return start, trainer


def _start(settings: TrainingSettings, source: ModelSource, bf16: bool) -> Start:
    """What the training starts from, in the dtypes that it is trained in."""
    import torch

    few_bits = settings.quantization if isinstance(settings, LaunchedSettings) else None
    own = training_source(source, full=few_bits is None and settings.trains_weights())
    if few_bits is None:
        return load_start(own)
    compute = torch.bfloat16 if bf16 else torch.float32
    return load_start(own, bits_and_bytes(few_bits, compute))


def save_untrained(
    settings: TrainingSettings, source: ModelSource, context: Context, seed: int
) -> ModelOutput:
    """What no step of training gives: the model as it is, or an adapter that adds nothing to it.

    Raises:
        ModelError: see `out_of_memory_explained`.
    """
    from llm_distill.training.loop import out_of_memory_explained

    with out_of_memory_explained(settings):
        start, model = untrained(settings, source, seed)
        context.metrics.update(n_rows=0, n_tokens=0, steps=0, train_loss=None, history=[])
        _save(settings, start, model, source, context.work_dir / "model")
        return _made(settings, source, context)


def untrained(settings: TrainingSettings, source: ModelSource, seed: int) -> tuple[Start, Any]:
    """As `train` before its first step: the model, with an adapter that adds nothing yet.

    Raises:
        ModelError: the model cannot be loaded, or the adapter's settings do not fit it.
    """
    start = load_start(training_source(source, full=settings.trains_weights()))
    if settings.peft is None:
        return start, start.model
    from peft import get_peft_model
    from transformers import set_seed

    set_seed(seed)  # B of an adapter begins as 0, A at random
    with _adapter_fits(settings, source):
        return start, get_peft_model(start.model, lora_config(settings, start.model))


def _saved(
    settings: TrainingSettings, start: Start, trainer: Any, source: ModelSource, context: Context
) -> ModelOutput:
    """One process saves; where the weights are divided, it is given the others' parts."""
    accelerator = trainer.accelerator
    whole = accelerator.get_state_dict(trainer.model_wrapped) if is_sharded() else None
    if is_main():
        model, directory = accelerator.unwrap_model(trainer.model), context.work_dir / "model"
        _save(settings, start, model, source, directory, whole)
    return _made(settings, source, context)


def _save(
    settings: TrainingSettings,
    start: Start,
    model: Any,
    source: ModelSource,
    directory: Path,
    weights: Mapping[str, Any] | None = None,
) -> None:
    """weights: by name, in place of the model's own."""
    with doing("save the model" if settings.peft is None else "save the adapter"):
        if settings.peft is None:
            save_full(start, source, directory, weights=weights)
        else:
            save_adapter(model, source, directory, weights)


def _made(settings: TrainingSettings, source: ModelSource, context: Context) -> ModelOutput:
    base = None if settings.peft is None else source
    return ModelOutput(context.work_dir / "model", base=base)


@contextmanager
def _adapter_fits(settings: TrainingSettings, source: ModelSource) -> Iterator[None]:
    """Says that the adapter's settings are wrong where PEFT refuses them for this model.

    Raises:
        ModelError: instead of what PEFT raises.
    """
    try:
        yield
    except (ValueError, TypeError, re.error) as error:
        if settings.peft is None or not _is_of_peft(error):
            raise
        said = " ".join(str(error).split())
        said = said if len(said) <= 400 else f"{said[:150]} … {said[-240:]}"  # a module's layers
        raise ModelError(
            f"no LoRA adapter for model '{source.name}' with peft.target_modules "
            f"{settings.peft.target_modules!r}: {said}"
        ) from error


@contextmanager
def _arguments_fit(settings: TrainingSettings) -> Iterator[None]:
    """Says that trainer_arguments may be why a training fails, such as for a missing package.

    Raises:
        ModelError: instead of what TRL or transformers raises.
    """
    try:
        yield
    except (AttributeError, ImportError, NotImplementedError, TypeError, ValueError) as error:
        if not settings.trainer_arguments:
            raise
        given = ", ".join(
            f"{name}: {value!r}" for name, value in settings.trainer_arguments.items()
        )
        said = " ".join(str(error).split())
        raise ModelError(
            f"the training fails, and trainer_arguments {{{given}}} may be why: {said}"
        ) from error


def _check_routers(settings: TrainingSettings, model: Any, source: ModelSource) -> None:
    is_mixture = hasattr(model.config.get_text_config(decoder=True), "output_router_logits")
    if settings.router_aux_loss_coef and not is_mixture:
        raise ModelError(
            f"router_aux_loss_coef is {settings.router_aux_loss_coef:g}, but model '{source.name}' "
            f"(type {model.config.model_type}) is not a mixture of experts; leave it out"
        )


def _warn_of_bare_experts(settings: TrainingSettings, model: Any, context: Context) -> None:
    """A mixture's experts may be one stacked parameter, which `all-linear` does not find."""
    from torch.nn.modules.conv import _ConvNd

    if settings.peft is None or settings.peft.target_modules != "all-linear":
        return
    adapted = {id(layer.get_param()) for layer in model.modules() if hasattr(layer, "get_param")}
    bare = {
        name: parameter.numel()
        for place, module in model.named_modules()
        if not isinstance(module, _ConvNd)
        for name, parameter in module.named_parameters(place, recurse=False)
        if parameter.ndim == 3 and not parameter.requires_grad and id(parameter) not in adapted
    }
    if bare:
        ends = sorted({".".join(name.split(".")[-3:]) for name in bare})
        context.warn(
            f"{sum(bare.values()):,} parameters of stacked linear layers (experts) get no adapter, "
            f"as PEFT's all-linear does not find them; peft.target_parameters: [{', '.join(ends)}] "
            "adapts them"
        )


def _is_of_peft(error: BaseException) -> bool:
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__", "").startswith("peft.") for frame, _ in frames)


def _n_tokens(dataset: Dataset) -> int:
    """Of all rows, once each; a pair's prompt is read twice, with either answer."""
    times = {"input_ids": 1, "prompt_ids": 2, "chosen_ids": 1, "rejected_ids": 1}
    columns = [
        (n, dataset.data.column(name)) for name, n in times.items() if name in dataset.features
    ]
    return sum(n * len(chunk.flatten()) for n, column in columns for chunk in column.chunks)
