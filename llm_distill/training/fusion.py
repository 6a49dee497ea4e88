"""Teach the network that weighs a classifier's sources (`methods.fusion`), while that is trained.

Before each pass: a virtual step of plain gradient descent on its rows, the gradient v of the loss
on validation rows there, and one step of the network towards lowering that loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llm_distill.methods.fusion import (
    FusionNetwork,
    class_means,
    class_of,
    fused,
    fusion_features,
    ratio_gradient,
)
from llm_distill.training.classifier import GOLD, TARGET, WEIGHT, ClassifierTrainer, collate

if TYPE_CHECKING:
    from datasets import Dataset

HELD_ROWS = 64
"""Validation rows of a step."""
NUDGE = 0.01
"""How far the weights move along v where the change of the logits is measured (as in DARTS, arXiv
1806.09055): by differences, since attention kernels have no derivative forwards."""
DECAY = 0.01
"""L2, of the network: of ratios that have run to 0 and 1 a softmax has hardly a gradient."""
FILE = "fusion.pt"


@dataclass(frozen=True)
class FusionPlan:
    """n_teachers: of each row. held_out: texts with their right labels as `target`."""

    n_teachers: int
    held_out: Dataset
    learning_rate: float


def as_sources(targets: torch.Tensor, gold: torch.Tensor | None, n_classes: int) -> torch.Tensor:
    """[rows, teachers + 1, classes].

    targets: [rows, teachers · classes]; gold: [rows], below 0 where it is not known.
    """
    teachers = targets.unflatten(-1, (-1, n_classes)).float()
    right = torch.zeros_like(teachers[:, :1])
    if gold is not None:
        known = (gold >= 0).nonzero()[:, 0]
        right[known, 0, gold[known]] = 1
    return torch.cat([teachers, right], 1)


class FusionTrainer(ClassifierTrainer):
    """A `ClassifierTrainer` whose `target` has each teacher's shares, one after another."""

    def plan_fusion(self, plan: FusionPlan, n_classes: int, seed: int) -> None:
        """Make the network, and the teachers' means of the classes over the training rows."""
        self._plan, self._n_classes, self._seed = plan, n_classes, seed
        device = self.args.device
        torch.manual_seed(seed)
        self.network = FusionNetwork(plan.n_teachers, n_classes).to(device)
        self._learns = torch.optim.Adam(
            self.network.parameters(), lr=plan.learning_rate, weight_decay=DECAY
        )
        self._sources = as_sources(*_columns(self.train_dataset, device), n_classes)
        self._means = class_means(self._sources[:, :-1], class_of(self._sources))

    # --- the student's loss ---

    def wanted(
        self, logits: torch.Tensor, targets: torch.Tensor, gold: torch.Tensor | None
    ) -> torch.Tensor:
        sources = as_sources(targets, gold, self._n_classes)
        with torch.no_grad():
            return fused(self._ratios(logits, sources), sources)

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._teach(model, self._prepare_inputs(dict(inputs)))
        return super().training_step(model, inputs, *args, **kwargs)

    def _ratios(self, logits: torch.Tensor, sources: torch.Tensor) -> torch.Tensor:
        student = logits.detach().float().softmax(-1)
        found: torch.Tensor = self.network(fusion_features(student, sources, self._means), sources)
        return found

    # --- the network's ---

    def _teach(self, model: Any, batch: dict[str, torch.Tensor]) -> None:
        """One step of the network, by `ratio_gradient`; the model is as before then."""
        was_training = model.training
        model.eval()  # dropout would blur the difference
        self._learns.zero_grad()
        ratios, gradient = self.outer_gradient(model, batch)
        # In proportion to the student's rate and a row's share it would be near Adam's epsilon.
        ratios.backward(gradient * len(ratios) / self.args.learning_rate)
        self._learns.step()
        model.train(was_training)

    def outer_gradient(
        self, model: Any, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The ratios of a batch's rows, and what the loss on validation rows changes by them."""
        texts = {name: of for name, of in batch.items() if name not in (TARGET, GOLD, WEIGHT)}
        sources = as_sources(batch[TARGET], batch.get(GOLD), self._n_classes)
        weights = (batch[WEIGHT] / batch[WEIGHT].sum()).float()
        rate = self.args.learning_rate
        trained = [each for each in model.parameters() if each.requires_grad]
        logits = model(**texts).logits.float()
        ratios = self._ratios(logits, sources)
        towards = fused(ratios.detach(), sources)
        inner = (weights * -(towards * logits.log_softmax(-1)).sum(-1)).sum()
        steps = _gradient(inner, trained)
        with moved(trained, steps, -rate):
            v = _gradient(self._held_loss(model), trained)
        by = NUDGE / torch.stack([each.norm() for each in v]).norm().clamp(min=1e-12).item()
        with torch.no_grad():
            with moved(trained, v, by):
                after = model(**texts).logits.float()
            with moved(trained, v, -by):
                before = model(**texts).logits.float()
        change = (after - before) / (2 * by)
        student = logits.detach().softmax(-1)
        return ratios, ratio_gradient(student, sources, change, weights, rate)

    def _held_loss(self, model: Any) -> torch.Tensor:
        """Cross entropy on validation rows, drawn anew for each step and the same after a kill."""
        rows = self._plan.held_out
        drawn = torch.Generator().manual_seed(self._seed + self.state.global_step)
        places = torch.randperm(len(rows), generator=drawn)[:HELD_ROWS].tolist()
        batch = collate([rows[place] for place in places], model.config.pad_token_id)
        batch = {name: of.to(self.args.device) for name, of in batch.items()}
        right = batch.pop(TARGET).argmax(-1)
        del batch[WEIGHT]
        return torch.nn.functional.cross_entropy(model(**batch).logits.float(), right)

    # --- what is said of it, and kept ---

    def ratios_of_rows(self) -> torch.Tensor:
        """[rows, sources]: of the training rows, in their order, by the student as it is."""
        model: Any = self.model
        was_training = model.training
        model.eval()
        rows = self.train_dataset.select_columns(["input_ids"])
        logits = []
        with torch.no_grad():
            for start in range(0, len(rows), HELD_ROWS):
                some = [rows[i] for i in range(start, min(start + HELD_ROWS, len(rows)))]
                batch = collate(some, model.config.pad_token_id)
                logits.append(model(**{k: v.to(self.args.device) for k, v in batch.items()}).logits)
            found = self._ratios(torch.cat(logits), self._sources)
        model.train(was_training)
        return found

    @property
    def sources(self) -> torch.Tensor:
        """[rows, sources, classes], of the training rows."""
        return self._sources

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        kept = {"network": self.network.state_dict(), "optimizer": self._learns.state_dict()}
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        torch.save(kept, folder / FILE)

    def _load_optimizer_and_scheduler(self, checkpoint: Any) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            kept = torch.load(Path(checkpoint) / FILE, weights_only=True)
            self.network.load_state_dict(kept["network"])
            self._learns.load_state_dict(kept["optimizer"])


def _columns(dataset: Any, device: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    targets = torch.tensor([list(row) for row in dataset[TARGET]], device=device)
    if GOLD not in dataset.column_names:
        return targets, None
    return targets, torch.tensor([int(of) for of in dataset[GOLD]], device=device)


def _gradient(loss: torch.Tensor, of: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    found = torch.autograd.grad(loss, of, allow_unused=True)
    pairs = zip(found, of, strict=True)
    return [torch.zeros_like(p) if each is None else each for each, p in pairs]


@contextmanager
def moved(of: Sequence[torch.Tensor], along: Sequence[torch.Tensor], by: float) -> Iterator[None]:
    """Add `by` times `along` to parameters for a while; their own values are put back after."""
    before = [each.detach().clone() for each in of]
    with torch.no_grad():
        for each, way in zip(of, along, strict=True):
            each.add_(way, alpha=by)
    try:
        yield
    finally:
        with torch.no_grad():
            for each, own in zip(of, before, strict=True):
                each.copy_(own)
