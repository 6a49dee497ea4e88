"""TRL's trainer with a loss of several components over a student's hidden states."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func
from trl import SFTConfig, SFTTrainer

from llm_distill.distillation.lm_head.head import Head
from llm_distill.distillation.lm_head.model_head import backbone_of, head_of, unwrapped
from llm_distill.distillation.losses.loss import MeanOf
from llm_distill.distillation.losses.objective import WATCHED, Objective, counts
from llm_distill.distillation.losses.watching import Watching
from llm_distill.distillation.rollouts.figures import check_length
from llm_distill.distillation.teacher.signal import BatchesOfRows, TeacherSignal
from llm_distill.errors import ModelError
from llm_distill.methods.loss_weights import grad_mag_weights
from llm_distill.models.layers import layer_stack
from llm_distill.training.launch import is_main, is_sharded
from llm_distill.training.loop import Guarded

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.distillation.alignment.encoding import RowEncoder
    from llm_distill.distillation.hacking.watch import Watch
    from llm_distill.distillation.losses.loss import Batch
    from llm_distill.distillation.rollouts.step import Passes, Rollouts
    from llm_distill.distillation.settings import DistillSettings
    from llm_distill.distillation.teacher.signal import BatchSignal

Collate = Callable[[Sequence[Any]], dict[str, torch.Tensor]]
Parts = dict[str, torch.Tensor]

ROUTERS = "aux_loss"
"""TRL's name for it."""


class DistillTrainer(Guarded, SFTTrainer):  # type: ignore[misc]
    """The loss of an optimizer step is Σ weight · mean, a mean for each component of `objective`.

    With a mixture of experts also router_aux_loss_coef · the mean over the step's batches of the
    loss that spreads tokens over the experts.

    A mean is over the chunks or labelled tokens (see `MeanOf`) of the whole step: of all its
    batches and ranks. So it does not depend on how a step is cut into batches.
    """

    loss_is_scaled_for_ga = True  # it is divided by what the whole step has

    def __init__(
        self,
        objective: Objective,
        collate: Collate,
        rollouts: Rollouts | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        # Batches are read one ahead, before the weights are those that the student writes with.
        self.data_collator = collate if rollouts is None else list
        self._collate, self._rollouts = collate, rollouts
        boundary_tokens = objective.boundary_tokens
        boundary_tokens = None if boundary_tokens is None else boundary_tokens.to(self.args.device)
        self._objective = replace(objective, boundary_tokens=boundary_tokens)
        self._weights = objective.settings.losses.weights()
        self._head = _same_head(self.model)
        self._is_measured = objective.settings.combine == "grad_mag" and len(self._weights) > 1
        self._layer = _last_layer(self.model) if self._is_measured else []
        _answers_through(self.model, backbone_of(self.model), routers=self.aux_loss_enabled)
        self._batches: list[Batch] = []
        self._totals: dict[str, float] = {}
        self._factors: dict[str, float] | None = None
        self._logged: dict[str, Any] = {}
        self._steps: Counter[str] = Counter()  # that have something of each loss, since then
        self._watched = Watching(objective.settings)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train; afterwards the model gives logits again."""
        try:
            return super().train(*args, **kwargs)
        finally:
            vars(unwrapped(self.model)).pop("forward", None)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """The batches of an optimizer step; what its means are over is counted here."""
        batches, n_items = super().get_batch_samples(*args, **kwargs)
        if self._rollouts is not None:
            batches = self._with_rollouts(self._rollouts, batches)
        if batches:
            own = [batch for batch, n in zip(batches, self.own_rows, strict=True) if n]
            counted = sum(map(counts, own), torch.zeros(len(MeanOf), dtype=torch.int64))
            gathered = self.accelerator.gather(counted.to(self.args.device))
            totals = gathered.view(-1, len(MeanOf)).sum(0).tolist()
            n_of = dict(zip(MeanOf, totals, strict=True))
            losses = self._objective.settings.losses.named()
            found = {loss.name: n_of[loss.mean_of] for loss in losses}
            found[ROUTERS] = len(batches) * self.accelerator.num_processes
            self._steps.update(name for name, n in found.items() if n)
            self._totals = {name: max(1, n) for name, n in found.items()}
            self._batches, self._factors = batches, None
            self._watched.is_first = self.state.global_step == 0 and torch.is_grad_enabled()
        return batches, n_items

    def _with_rollouts(self, rollouts: Rollouts, passes: Passes) -> list[Batch]:
        """The batches of a step; rows that are held out keep their own text."""
        step = self.state.global_step
        if passes and torch.is_grad_enabled():
            assert self._shares is not None
            places = self._shares.places(step, self.args.process_index)
            with self.accelerator.autocast():
                passes = rollouts.of_step(self.model, passes, places, step)
        passes = rollouts.with_scores(passes, step)
        return [self._collate(examples) for examples in passes]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """A batch's share of the loss of its optimizer step."""
        if self._factors is None and len(self._batches) > 1:
            batches = zip(map(self._prepare_inputs, self._batches), self.own_rows, strict=True)
            self._factors = self._found_factors(
                self._parts(model, batch, n_rows) for batch, n_rows in batches
            )
        parts = self._parts(model, inputs, self.rows_here)
        if self._factors is None:
            self._factors = self._found_factors([parts])
        self._watched.add({name: parts.pop(name) for name in [*parts] if name.startswith(WATCHED)})
        for name, part in parts.items():
            self._logged[name] = self._logged.get(name, 0.0) + part.detach()
        loss = sum(self._factors[name] * part for name, part in parts.items())
        # DDP takes the mean of the ranks' gradients, and this is a share of a sum.
        return torch.as_tensor(loss) * self.accelerator.num_processes

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """See `HeldOut.evaluate`; what the training has yet to log is left alone."""
        kept = self._batches, self._totals, self._factors, self._logged, self._steps
        watched = self._watched
        self._logged, self._steps = {}, Counter()
        self._watched = Watching(self._objective.settings)
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            self._batches, self._totals, self._factors, self._logged, self._steps = kept
            self._watched = watched

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """With each component: its mean over the steps since the last point that have it."""
        if self._steps:
            before = "eval_" if "eval_loss" in logs else ""
            for name, total in self._logged.items():
                if self._steps[name]:  # the same on all processes
                    summed = self.accelerator.reduce(total, "sum").item()
                    logs[before + name] = summed / self._steps[name]
            for name, value in self._watched.figures(self.accelerator).items():
                logs[before + name] = value
            self._logged, self._steps = {}, Counter()
        if self._rollouts is not None and "loss" in logs:
            total = self._rollouts.sums.to(self.args.device)
            found = self._rollouts.point(self.accelerator.reduce(total, "sum"))
            most = self._rollouts.settings.max_truncated
            check_length(self.state.log_history, found, most)
            logs |= found
        super().log(logs, start_time)

    def objective(self, settings: DistillSettings, signal: BatchSignal) -> Objective:
        """The training's own with other losses, and another who says what of the batches."""
        return replace(self._objective, settings=settings, signal=signal)

    def sums(self, model: Any, batch: Batch, objective: Objective) -> Parts:
        """What an objective makes of a batch and the student as it is."""

        def of_hidden(hidden: torch.Tensor) -> Parts:
            layer = unwrapped(self.model).get_output_embeddings()
            # Where weights are divided among processes, they are whole within a forward pass.
            head = replace(self._head, weight=layer.weight, bias=getattr(layer, "bias", None))
            return objective.sums(hidden, head, batch)

        ids, mask = batch["input_ids"], batch["attention_mask"]
        found: Parts = model(input_ids=ids, attention_mask=mask, of_hidden=of_hidden)
        return found

    def _parts(self, model: Any, batch: Batch, n_rows: int) -> Parts:
        """A batch's share of each component's mean; it has none where its row is another's."""
        found = self.sums(model, batch, self._objective)
        counts_here = 1 if n_rows else 0
        # What is watched is a sum, and stays one.
        return {n: counts_here * value / self._totals.get(n, 1) for n, value in found.items()}

    def _found_factors(self, batches: Iterable[Parts]) -> dict[str, float]:
        """What each component is multiplied by in this step.

        With GradMag a weight times what brings the components' gradients at the last decoder layer
        to one size; not on held-out rows, which have none. A step of one batch reads these off the
        graph that it has; in a step of more, that takes a forward pass of its own for each: weights
        that differ from batch to batch would not be the step's.
        """
        routers = {ROUTERS: self.router_aux_loss_coef} if self.aux_loss_enabled else {}
        if not (self._is_measured and torch.is_grad_enabled()):
            return self._weights | routers
        totals = {name: [torch.zeros_like(p) for p in self._layer] for name in self._weights}
        for parts in batches:
            for name in self._weights:
                gradients = torch.autograd.grad(
                    parts[name],
                    self._layer,
                    retain_graph=True,
                    allow_unused=True,
                    materialize_grads=True,
                )
                for total, gradient in zip(totals[name], gradients, strict=True):
                    total += gradient
        norms = [self._norm(totals[name]) for name in self._weights]
        for name, norm in zip(self._weights, norms, strict=True):
            if not math.isfinite(norm):
                raise ModelError(
                    f"the gradient of {name} has the size {norm} at step "
                    f"{self.state.global_step + 1}; lower learning_rate (now "
                    f"{self.args.learning_rate:g}), or raise warmup_steps"
                )
        factors = grad_mag_weights(norms)
        pairs = zip(self._weights.items(), factors, strict=True)
        return {name: weight * factor for (name, weight), factor in pairs} | routers

    def _norm(self, gradients: Sequence[torch.Tensor]) -> float:
        whole = [self.accelerator.reduce(gradient, "sum").float() for gradient in gradients]
        return float(torch.stack([gradient.square().sum() for gradient in whole]).sum().sqrt())


def distill_trainer(
    model: Any,
    dataset: Dataset,
    student: RowEncoder,
    arguments: dict[str, Any],
    peft_config: Any,
    settings: DistillSettings,
    signal: TeacherSignal | None,
    held_out: Dataset | None = None,
    rollouts: Rollouts | None = None,
    watch: Watch | None = None,
) -> DistillTrainer:
    """The trainer.

    dataset, held_out: as `dataset.prepared` makes them, with the same signal. signal: None where no
        loss needs a teacher. rollouts: the student answers rows of `dataset` itself. watch: what is
        measured on the way.

    Raises:
        ModelError: the model's output layer is not known (see `head_of`), grad_mag has nothing to
            measure, or the signal cannot be opened.
    """
    if signal is not None and signal.in_process:
        # The teacher is in this process, and what it gives is on its device already.
        arguments = {**arguments, "dataloader_pin_memory": False}
    own = {"remove_unused_columns": False, "dataset_kwargs": {"skip_prepare_dataset": True}}
    config = SFTConfig(**arguments, **own)
    said = BatchesOfRows() if signal is None else signal.open(model, config.device)
    weight = model.get_output_embeddings().weight
    boundary_tokens = (
        torch.from_numpy(student.boundary_tokens(len(weight))) if settings.debiases() else None
    )
    watching = None if watch is None else watch.open(said, model, config.device)
    trainer = DistillTrainer(
        Objective(settings, boundary_tokens, said),
        partial(said.collate, pad_token_id=student.tokenizer.pad_token_id),
        rollouts,
        model=model,
        args=config,
        train_dataset=dataset,
        eval_dataset=held_out,
        processing_class=student.tokenizer,
        peft_config=peft_config,
    )
    if watching is not None:
        watching.trainer = trainer
        trainer.add_callback(watching)
    return trainer


def _same_head(model: Any) -> Head:
    """The output layer; where weights are divided, only the first process can look at them yet."""
    if not is_sharded():
        return head_of(model)
    from accelerate.utils import broadcast_object_list

    found = head_of(model) if is_main() else None
    about = [None if found is None else (found.scale, found.soft_cap)]
    scale, soft_cap = broadcast_object_list(about)[0]
    layer = unwrapped(model).get_output_embeddings()
    return Head(layer.weight, getattr(layer, "bias", None), scale, soft_cap)


def _answers_through(model: Any, backbone: Any, *, routers: bool) -> None:
    """Make `model(of_hidden=f, …)` give f(last hidden states) instead of logits.

    routers: with the loss that spreads tokens over a mixture's experts, as TRL's trainers have it.

    Inside of the model's own forward pass, so that what wraps it (DDP, autocast) covers the output
    layer and the losses.
    """

    def forward(of_hidden: Callable[[torch.Tensor], Parts], **inputs: Any) -> Parts:
        given = {name: value for name, value in inputs.items() if value is not None}
        if not routers:
            return of_hidden(backbone(**given, use_cache=False).last_hidden_state)
        output = backbone(**given, use_cache=False, output_router_logits=True)
        config = backbone.config.get_text_config(decoder=True)
        sizes = config.num_experts, config.num_experts_per_tok
        spread = load_balancing_loss_func(output.router_logits, *sizes, given["attention_mask"])
        return of_hidden(output.last_hidden_state) | {ROUTERS: spread}

    unwrapped(model).forward = forward


def _last_layer(model: Any) -> list[torch.nn.Parameter]:
    """The weights of the last decoder layer that are trained.

    Raises:
        ModelError: it has none.
    """
    _, layers = layer_stack(unwrapped(model), "student")
    found = [p for p in layers[-1].parameters() if p.requires_grad]
    if not found:
        raise ModelError(
            "combine: grad_mag measures the losses at the last decoder layer, and nothing in it is "
            "trained; let peft.target_modules cover it, or set combine: fixed"
        )
    return found
