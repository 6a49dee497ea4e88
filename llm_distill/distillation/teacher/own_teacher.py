"""Self-distillation of a model that learns another tokenizer: one set of layers for both sides.

The student is the teacher with other rows for tokens, and a LoRA adapter. With the adapter off, its
layers on top of the teacher's embedding are the teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from llm_distill.distillation.lm_head.model_head import backbone_of, head_of, unwrapped
from llm_distill.distillation.teacher.online import OnlineBatches, TeacherInMemory
from llm_distill.errors import ModelError
from llm_distill.models.sources import load_model

if TYPE_CHECKING:
    from llm_distill.models.sources import ModelSource


class OwnTeacher(TeacherInMemory):
    """A `TeacherSignal`: what a teacher in memory says, out of the student's layers."""

    def open(self, student: Any, device: torch.device) -> OnlineBatches:
        """The teacher of `online: adapter_off`: the student is it with another tokenizer.

        student: its weights below the adapter must not be trained.

        Raises:
            ModelError: the layers of student and teacher differ.
        """
        # Loaded as `transfer_tokenizer` does; then in the student's dtype, as its layers are.
        is_merged = bool(self.source.adapters)
        source = replace(self.source, dtype="float32") if is_merged else self.source
        teacher: Any = load_model(source).requires_grad_(False)
        _check_layers(student, teacher, source)
        head = head_of(teacher.to(student.dtype))
        bias = None if head.bias is None else head.bias.to(device)
        head = replace(head, weight=head.weight.to(device), bias=bias)
        embedding = teacher.get_input_embeddings().to(device)
        return self._batches(SelfTeacher(backbone_of(student), embedding), head, student)


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
    from peft.utils.other import AuxiliaryTrainingWrapper

    kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper)  # the second: peft.modules_to_save
    layers = [module for module in model.modules() if isinstance(module, kinds)]
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


def _check_layers(student: Any, teacher: Any, source: ModelSource) -> None:
    """Every weight but those of tokens is the same on both sides, in the coarser dtype of both."""
    own_rows = (teacher.get_input_embeddings(), teacher.get_output_embeddings())
    of_tokens = {id(p) for layer in own_rows for p in layer.parameters()}
    wanted = {name: p for name, p in teacher.named_parameters() if id(p) not in of_tokens}
    # PEFT's names: the model is inside of base_model.model, a layer that it adapts is base_layer.
    own = unwrapped(student).named_parameters()
    layers = (".base_layer.", ".original_module.")
    found = {name.replace(layers[0], ".").replace(layers[1], "."): p for name, p in own}
    for name, weight in wanted.items():
        same = found.get(name)
        if same is None or same.shape != weight.shape or not _same(same.cpu(), weight):
            raise ModelError(
                f"the model that is trained does not have the layers of its teacher "
                f"'{source.name}' ({name} differs), so the teacher has to be loaded beside it: "
                "set online: true"
            )


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    coarser = min(a.dtype, b.dtype, key=lambda dtype: dtype.itemsize)
    return bool(torch.equal(a.to(coarser), b.to(coarser)))
