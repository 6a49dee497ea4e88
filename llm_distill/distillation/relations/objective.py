"""What is computed of a batch: the relations of both models, and how far apart they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from llm_distill.distillation.relations.losses import LOSSES, heads_of
from llm_distill.distillation.relations.projections import (
    Projections,
    States,
    attention_pair,
    check_attends_so,
    projections,
)
from llm_distill.errors import ModelError
from llm_distill.methods.relations import Pair, relation_divergence, split_heads
from llm_distill.models.causal import is_causal

if TYPE_CHECKING:
    from llm_distill.distillation.relations.settings import RelationSettings

Batch = Mapping[str, torch.Tensor]
"""input_ids and attention_mask, [B, T]."""


@dataclass(frozen=True)
class Objective:
    """Of a teacher and a student with one tokenizer.

    weights, heads: by the loss's name. causal: whether tokens see none after themselves.
    """

    teacher: Any
    at_teacher: Projections
    at_student: Projections
    weights: Mapping[str, float]
    heads: Mapping[str, int]
    causal: bool

    def sums(self, student: Any, batch: Batch) -> dict[str, torch.Tensor]:
        """By the loss's name, Σ KL over the rows that count, a mean over heads.

        student: the model, or what wraps it for several processes.
        """
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        if self.causal:
            inputs |= {"use_cache": False}
        with torch.no_grad(), self.at_teacher.listening() as wanted:
            self.teacher(**inputs)
        with self.at_student.listening() as found:
            student(**inputs)
        mask = batch["attention_mask"].bool()
        # The rows are sharp: in half precision they would be rounded away.
        with torch.autocast(mask.device.type, enabled=False):
            return {
                name: relation_divergence(
                    self._pair(name, wanted, self.at_teacher),
                    self._pair(name, found, self.at_student),
                    mask,
                    causal=self.causal,
                )
                for name in self.weights
            }

    def _pair(self, name: str, states: States, of: Projections) -> Pair:
        loss = LOSSES[name]
        if not loss.re_split:
            return attention_pair(states, of.n_heads["query"], of.n_heads["key"])
        split = split_heads(states[loss.x], self.heads[name])
        return split, split


def objective_of(
    settings: RelationSettings, teacher: Any, student: Any, names: tuple[str, str]
) -> Objective:
    """teacher, student: backbones of transformers. names: theirs, for messages.

    Raises:
        ModelError: one of them reads later tokens and the other does not, a layer is not there, or
            the losses do not fit the models.
    """
    causal = is_causal(student)
    if is_causal(teacher) != causal:
        encoder, decoder = names if causal else names[::-1]
        raise ModelError(
            f"'{decoder}' is a decoder, whose tokens see none after themselves, and '{encoder}' an "
            "encoder, whose tokens see all: their relations cannot be compared"
        )
    at_teacher = projections(teacher, settings.teacher_layer, names[0], "teacher_layer")
    at_student = projections(student, settings.student_layer, names[1], "student_layer")
    weights = settings.losses.weights()
    heads = {
        name: heads_of(LOSSES[name], settings.relation_heads, at_teacher, at_student)
        for name in weights
    }
    if not all(LOSSES[name].re_split for name in weights):
        check_attends_so(teacher, at_teacher)
        check_attends_so(student, at_student)
    return Objective(teacher, at_teacher, at_student, weights, heads, causal)


def train_what_is_reached(student: Any, of: Objective) -> int:
    """Freeze what no gradient reaches: all that comes after the layer's projections.

    So that weight decay leaves it alone, and processes do not wait for its gradients. Found by
    trying, in evaluation mode.

    Returns:
        How many parameters are not trained.
    """
    read: set[Any] = {part for name in of.weights for part in (LOSSES[name].x, LOSSES[name].y)}
    parameters = [p for p in student.parameters() if p.requires_grad]
    with of.at_student.listening() as found:
        student(input_ids=torch.arange(1, 5, device=student.device)[None])
    total = torch.stack([found[part].sum() for part in sorted(read)]).sum()
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
    return sum(p.numel() for p in student.parameters() if not p.requires_grad)
