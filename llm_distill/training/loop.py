"""Run a TRL trainer: resume, show progress, keep the history, fail with a reason."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState
from accelerate.data_loader import DataLoaderShard
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import PrinterCallback, TrainerCallback
from transformers.utils import logging as transformers_logging

from llm_distill.errors import ModelError
from llm_distill.evaluation.hacking_figures import PROXY
from llm_distill.evaluation.results import shown
from llm_distill.models.limits import n_rows
from llm_distill.models.memory import is_out_of_memory
from llm_distill.training.checkpoints import last_whole, seal
from llm_distill.training.data import SAMPLE_WEIGHT
from llm_distill.training.held_out import HeldOut
from llm_distill.training.launch import is_main
from llm_distill.training.moved import before_and_after, table, warning
from llm_distill.training.steps import SharedBatches, Shares, StepRows, WeightedOrder

if TYPE_CHECKING:
    from llm_distill.stage import Context, Progress
    from llm_distill.training.before_after import BeforeAfter
    from llm_distill.training.settings import TrainingSettings

NOT_HISTORY = (
    "epoch",
    "num_tokens",
    "eval_num_tokens",
    "num_input_tokens_seen",
    "train_runtime",
    "train_tokens_per_second",
)

KINDS_OF_POINT = {"loss", "eval_loss", PROXY}
"""Of the history; an entry with none of them sums the training up."""

KEPT = (
    "collate_fn",
    "multiprocessing_context",
    "num_workers",
    "persistent_workers",
    "pin_memory",
    "prefetch_factor",
    "timeout",
    "worker_init_fn",
)
"""Of a DataLoader, when only the batches change."""


class Guarded(HeldOut):
    """Mixed into TRL's trainers, which then

    stop at a loss that is not finite, send nothing anywhere, and train the same steps on however
    many processes (see `training.steps`).
    """

    all_rows: int = 0
    """Of all processes, in the current step."""

    def create_accelerator_and_postprocess(self) -> None:
        """Under FSDP2 accelerate would round what a forward pass gives, and sum gradients so.

        TRL computes log-probabilities within the forward pass: in bfloat16, 5.76 becomes 5.75.
        """
        super().create_accelerator_and_postprocess()  # type: ignore[misc]
        trainer: Any = self
        plugin: Any = getattr(trainer.accelerator.state, "fsdp_plugin", None)
        policy = getattr(plugin, "mixed_precision_policy", None)
        if isinstance(policy, MixedPrecisionPolicy):
            plugin.mixed_precision_policy = replace(
                policy, reduce_dtype=torch.float32, output_dtype=None
            )

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Rows by their weights, where they have any."""
        trainer: Any = self
        own = trainer.train_dataset  # with the columns that no batch has
        if SAMPLE_WEIGHT not in own.column_names:
            return super()._get_train_sampler(train_dataset)  # type: ignore[misc]
        weights = own.with_format(None)[SAMPLE_WEIGHT]
        return WeightedOrder(list(weights), trainer.args.data_seed)

    def get_train_dataloader(self) -> Any:
        """The batches of this process."""
        trainer: Any = self
        loader = super().get_train_dataloader()  # type: ignore[misc]
        inner = loader.batch_sampler
        while not hasattr(inner, "sampler"):
            inner = inner.batch_sampler
        rows = StepRows(trainer._train_batch_size, trainer.args.gradient_accumulation_steps)
        self._shares = Shares(len(inner.sampler), rows, trainer.args.world_size)
        if trainer.args.world_size == 1:
            return loader
        return DataLoaderShard(
            loader.dataset,
            device=loader.device,
            batch_sampler=SharedBatches(inner.sampler, self._shares, trainer.args.process_index),
            **{name: getattr(loader, name) for name in KEPT},
        )

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """The batches of a step, of which this process notes how many rows count."""
        trainer: Any = self
        if self._shares is None:  # batches from elsewhere, all of whose rows count
            return super().get_batch_samples(*args, **kwargs)  # type: ignore[misc,no-any-return]
        step = trainer.state.global_step % self._shares.steps
        self.own_rows = [len(rows) for rows in self._shares.own(step, trainer.args.process_index)]
        self.all_rows, self._turn = self._shares.rows_of(step), 0
        return super().get_batch_samples(*args, **kwargs)  # type: ignore[misc,no-any-return]

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.rows_here, self._turn = self.own_rows[self._turn], self._turn + 1
        with self.gathering():
            loss: torch.Tensor = super().training_step(*args, **kwargs)  # type: ignore[misc]
        if not torch.isfinite(loss):
            trainer: Any = self
            raise ModelError(
                f"the loss is {loss.item()} at step {trainer.state.global_step + 1}; lower "
                f"learning_rate (now {trainer.args.learning_rate:g}) or max_grad_norm, or raise "
                "warmup_steps"
            )
        return loss

    def gathering(self) -> AbstractContextManager[None]:
        trainer: Any = self
        return gathering_what_counts(trainer.accelerator, self.rows_here)

    def _send_telemetry(self) -> None: ...

    def create_model_card(self, *args: Any, **kwargs: Any) -> None: ...


@contextmanager
def gathering_what_counts(accelerator: Any, n_rows: int) -> Iterator[None]:
    """Let TRL gather its figures from processes that may have different numbers of rows.

    accelerate expects as many on each, and leaves out the last, which it had repeated.
    """
    if accelerator.num_processes == 1:
        yield
        return
    gather = accelerator.gather

    def of_rows(values: torch.Tensor) -> torch.Tensor:
        if values.ndim == 0:
            gathered: torch.Tensor = gather(values)
            return gathered
        padded = accelerator.pad_across_processes(values[:n_rows], pad_index=float("nan"))
        found: torch.Tensor = gather(padded)
        return found[~found.isnan()]

    accelerator.gather, accelerator.gather_for_metrics = of_rows, gather
    try:
        yield
    finally:
        del accelerator.gather, accelerator.gather_for_metrics  # the class's own show again


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
            # The model itself is saved next, unless an earlier one is better.
            control.should_save = args.load_best_model_at_end
            control.should_evaluate = args.eval_strategy != "no"
        if at_end or control.should_save:
            control.should_log = True


class SealCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Notes what each checkpoint's files hold, once all processes have written theirs."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")


class AskWhenDivided(TrainerCallback):  # type: ignore[misc]
    """Asks once the model's weights are divided among the processes: none has them all before."""

    def __init__(self, asked: BeforeAfter, folder: Path) -> None:
        self._asked, self._folder = asked, folder

    def on_train_begin(self, args: Any, state: Any, control: Any, **of: Any) -> None:
        if self._asked.recall(self._folder):
            return
        self._asked.ask_before(of["model"])
        if state.is_world_process_zero:
            self._asked.remember(self._folder)


def run_trainer(trainer: Any, context: Context) -> None:
    """Train to the end, from the last whole checkpoint if there is one; fills the metrics.

    Raises:
        ModelError: the loss or a weight is NaN or infinite; see also `check_own_logits`.
    """
    if is_main():  # where weights are divided, others have not loaded theirs yet
        check_own_logits(trainer.model)
    trainer.remove_callback(PrinterCallback)  # our bar and the history say it instead
    trainer.add_callback(WholeHistory())
    trainer.add_callback(SealCheckpoints())
    with trainer.accelerator.main_process_first():  # it removes those that are not whole
        checkpoint = last_whole(Path(trainer.args.output_dir))
    # A training that goes on has been measured before its first step.
    trainer.args.eval_on_start = trainer.eval_dataset is not None and checkpoint is None
    with ExitStack() as stack:
        trainer.add_callback(ShowProgress(context, stack))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    if not all(torch.isfinite(p).all() for p in trained):
        raise ModelError("the trained weights are not all numbers; lower learning_rate")
    logged = trainer.state.log_history
    history = [_point(entry) for entry in logged if not KINDS_OF_POINT.isdisjoint(entry)]
    context.metrics.update(
        train_loss=_mean_loss(history),
        steps=trainer.state.global_step,
        trainable_parameters=sum(p.numel() for p in trained),
        resumed_from_step=int(checkpoint.name.rpartition("-")[2]) if checkpoint else None,
        history=history,
    )
    best = trainer.state.best_global_step if trainer.args.load_best_model_at_end else None
    if best is not None:
        context.metrics["best_step"] = best
    _tell_how_far_it_moved(history, best, trainer.eval_dataset, context)


def _tell_how_far_it_moved(
    history: list[dict[str, Any]], best: int | None, held_out: Any, context: Context
) -> None:
    points = before_and_after(history, best)
    if points is None:
        return
    context.metrics.update(shown(table(*points, len(held_out))))
    said = warning(*points)
    if said is not None:
        context.warn(said)


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
    for point in (point for point in history if "loss" in point):
        total += point["loss"] * (point["step"] - before)
        before = point["step"]
    return total / before if before else None
