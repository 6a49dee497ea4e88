"""Run a TRL trainer: resume, show progress, keep the history, fail with a reason."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PrinterCallback, TrainerCallback
from transformers.utils import logging as transformers_logging

from llm_distill.errors import ModelError
from llm_distill.models.limits import n_rows
from llm_distill.models.sources import is_out_of_memory
from llm_distill.training.checkpoints import last_whole, seal

if TYPE_CHECKING:
    from llm_distill.stage import Context, Progress
    from llm_distill.training.settings import TrainingSettings

NOT_HISTORY = (
    "epoch",
    "num_tokens",
    "num_input_tokens_seen",
    "train_runtime",
    "train_tokens_per_second",
)


class Guarded:
    """Mixed into TRL's trainers: stops at a loss that is not finite, sends nothing anywhere."""

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*args, **kwargs)  # type: ignore[misc]
        if not torch.isfinite(loss):
            trainer: Any = self
            raise ModelError(
                f"the loss is {loss.item()} at step {trainer.state.global_step + 1}; lower "
                f"learning_rate (now {trainer.args.learning_rate:g}) or max_grad_norm, or raise "
                "warmup_steps"
            )
        return loss

    def _send_telemetry(self) -> None: ...

    def create_model_card(self, *args: Any, **kwargs: Any) -> None: ...


class ShowProgress(TrainerCallback):  # type: ignore[misc]
    """A bar over the optimizer steps. It is opened once the loop knows how many there are.

    stack: closes it, however training ends.
    """

    def __init__(self, context: Context, stack: ExitStack) -> None:
        self._context, self._stack = context, stack
        self._bar: Progress | None = None
        self._tokens = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        bar = self._context.progress("train", state.max_steps, "steps", state.global_step)
        self._bar = self._stack.enter_context(bar)
        self._tokens = state.num_input_tokens_seen

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        seen = int(state.num_input_tokens_seen)
        if self._bar is not None:
            self._bar.advance(1, seen - self._tokens)
        self._tokens = seen


class WholeHistory(TrainerCallback):  # type: ignore[misc]
    """Makes the loss history cover every step, and the same after a kill as without one.

    transformers forgets the losses since the last point of the history when it resumes, and those
    after the last point when it ends. So there is a point at each checkpoint and at the end.
    """

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        at_end = state.global_step >= state.max_steps
        if at_end:
            control.should_save = False  # the model itself is saved next
        if at_end or control.should_save:
            control.should_log = True


class SealCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Notes what each checkpoint's files hold, once all of them are written."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")


def run_trainer(trainer: Any, context: Context) -> None:
    """Train to the end, from the last whole checkpoint if there is one; fills the metrics.

    Raises:
        ModelError: the loss or a weight is NaN or infinite; see also `check_own_logits`.
    """
    check_own_logits(trainer.model)
    trainer.remove_callback(PrinterCallback)  # our bar and the history say it instead
    trainer.add_callback(WholeHistory())
    trainer.add_callback(SealCheckpoints())
    checkpoint = last_whole(Path(trainer.args.output_dir))
    with ExitStack() as stack:
        trainer.add_callback(ShowProgress(context, stack))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    if not all(torch.isfinite(p).all() for p in trained):
        raise ModelError("the trained weights are not all numbers; lower learning_rate")
    history = [_point(entry) for entry in trainer.state.log_history if "loss" in entry]
    context.metrics.update(
        train_loss=_mean_loss(history),
        steps=trainer.state.global_step,
        trainable_parameters=sum(p.numel() for p in trained),
        resumed_from_step=int(checkpoint.name.rpartition("-")[2]) if checkpoint else None,
        history=history,
    )


def check_own_logits(model: Any) -> None:
    """Try TRL's way to a loss, which computes the output layer itself, on a few tokens.

    Raises:
        ModelError: what it finds are not the likelihoods of the model's own logits.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    # TRL's forward says that it wraps the model's, whose parameters are not meant.
    if "fused_lm_head" not in inspect.signature(inner.forward, follow_wrapped=False).parameters:
        return
    ids = torch.arange(min(8, n_rows(inner)), device=inner.device)[None]
    was_training = inner.training
    inner.eval()
    with torch.no_grad():
        found = inner(input_ids=ids, labels=ids, fused_lm_head=True).log_probs.float()
        logprobs = inner(input_ids=ids).logits[:, :-1].float().log_softmax(-1)
    inner.train(was_training)
    wanted = logprobs.gather(2, ids[:, 1:, None])[:, :, 0]
    allowed = 1e-3 if inner.dtype == torch.float32 else 5e-2
    if (found - wanted).abs().max() > allowed * wanted.abs().max():  # false if one is NaN
        raise ModelError(
            f"TRL's loss does not know what {type(inner).__name__} does to its logits (type "
            f"{inner.config.model_type}), so it would train something else; this architecture "
            "cannot be trained here"
        )


@contextmanager
def out_of_memory_explained(settings: TrainingSettings) -> Iterator[None]:
    """Says what to lower where memory does not suffice; keeps libraries' chatter in the log.

    Raises:
        ModelError: instead of torch's and Python's out-of-memory errors.
    """
    transformers_logging.disable_default_handler()
    transformers_logging.enable_propagation()
    logging.captureWarnings(True)
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        advice = "" if settings.peft else ", train a LoRA adapter (peft)"
        raise ModelError(
            "training ran out of memory; lower per_device_train_batch_size (now "
            f"{settings.per_device_train_batch_size}) and raise gradient_accumulation_steps by as "
            f"much, lower max_length (now {settings.max_length}){advice}, or set "
            "gradient_checkpointing: true"
        ) from error
    finally:
        logging.captureWarnings(False)


def _point(entry: dict[str, Any]) -> dict[str, Any]:
    """A point of the history as JSON can hold it. Its figures are means since the point before."""
    return {
        name: value
        for name, value in entry.items()
        if name not in NOT_HISTORY and math.isfinite(value)
    }


def _mean_loss(history: list[dict[str, Any]]) -> float | None:
    """The mean over all steps, however many lie between two points."""
    total, before = 0.0, 0
    for point in history:
        total += point["loss"] * (point["step"] - before)
        before = point["step"]
    return total / before if before else None
