"""Self-distillation of a model that learns another tokenizer: one set of layers for both sides.

The student is the teacher with other rows for tokens, and a LoRA adapter. With the adapter off, its
layers after the teacher's embedding are the teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from llm_distill.distillation.lm_head.model_head import backbone_of, head_of
from llm_distill.distillation.teacher.online import OnlineBatches, OnlineTeacher, TeacherInMemory
from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource, load_model

if TYPE_CHECKING:
    from llm_distill.distillation.alignment.encoding import RowEncoder


class OwnTeacher(TeacherInMemory):
    """A `TeacherSignal`: what a teacher in memory says, out of the student's layers."""

    def open(self, student: Any, device: torch.device) -> OnlineBatches:
        """Raises:
        ModelError: see `own_teacher`.
        """
        return OnlineBatches(own_teacher(student, self.source, self.encoder, device), self.settings)


@dataclass(frozen=True)
class SelfTeacher:
    """The teacher of self-distillation, as `backbone_of` takes a causal model.

    It is the student's layers, without its adapter.

    layers: the student's backbone. embedding: the teacher's, from its token ids.
    """

    layers: torch.nn.Module
    embedding: torch.nn.Module

    @property
    def base_model(self) -> Callable[..., Any]:
        return self._hidden

    def _hidden(self, input_ids: torch.Tensor, **inputs: Any) -> Any:
        with adapters_off(self.layers):
            return self.layers(inputs_embeds=self.embedding(input_ids), **inputs)


@contextmanager
def adapters_off(model: Any) -> Iterator[None]:
    """The model in evaluation mode and without its adapters; afterwards as it was."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    modes = {module: module.training for module in model.modules()}
    model.eval()
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for module, mode in modes.items():
            module.training = mode


def own_teacher(
    student: Any, source: ModelSource, encoder: RowEncoder, device: torch.device
) -> OnlineTeacher:
    """The teacher of `online: true` where the student is the teacher with another tokenizer.

    student: the model before or after PEFT has put an adapter into it. Its other weights must not
        be trained. encoder: the teacher's.

    Raises:
        ModelError: the layers of student and teacher differ.
    """
    # Loaded as `transfer_tokenizer` does; then in the student's dtype, as its layers are.
    source = replace(source, dtype="float32") if source.adapters else source
    teacher: Any = load_model(source).requires_grad_(False)
    _check_layers(student, teacher, source)
    head = head_of(teacher.to(student.dtype))
    bias = None if head.bias is None else head.bias.to(device)
    head = replace(head, weight=head.weight.to(device), bias=bias)
    boundary_tokens = torch.from_numpy(encoder.boundary_tokens(len(head.weight))).to(device)
    self_teacher = SelfTeacher(backbone_of(student), teacher.get_input_embeddings().to(device))
    return OnlineTeacher(self_teacher, head, boundary_tokens, encoder.tokenizer.pad_token_id)


def _check_layers(student: Any, teacher: Any, source: ModelSource) -> None:
    """Every weight but those of tokens is the same on both sides, in the coarser dtype of both."""
    own_rows = (teacher.get_input_embeddings(), teacher.get_output_embeddings())
    of_tokens = {id(p) for layer in own_rows for p in layer.parameters()}
    wanted = {name: p for name, p in teacher.named_parameters() if id(p) not in of_tokens}
    # PEFT's names: the model is inside of base_model.model, a layer that it adapts is base_layer.
    inner = student.get_base_model() if hasattr(student, "peft_config") else student
    found = {name.replace(".base_layer.", "."): p for name, p in inner.named_parameters()}
    for name, weight in wanted.items():
        own = found.get(name)
        if own is None or own.shape != weight.shape or not _same(own.cpu(), weight):
            raise ModelError(
                f"the model that is trained does not have the layers of its teacher "
                f"'{source.name}' ({name} differs), so the teacher has to be loaded beside it: "
                "set online: true"
            )


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    coarser = min(a.dtype, b.dtype, key=lambda dtype: dtype.itemsize)
    return bool(torch.equal(a.to(coarser), b.to(coarser)))
