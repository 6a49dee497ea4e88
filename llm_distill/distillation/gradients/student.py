"""A student with its optimizer's state: losses and gradients of texts, and what a step does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from transformers.trainer_pt_utils import get_parameter_names

from llm_distill.distillation.lm_head.head import head_logps
from llm_distill.distillation.lm_head.model_head import backbone_of, head_of
from llm_distill.distillation.teacher.scoring import batches
from llm_distill.models.limits import check_ids, n_rows

if TYPE_CHECKING:
    from llm_distill.distillation.gradients.texts import Text
    from llm_distill.training.warm_up import State

NOT_DECAYED = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
"""What transformers' Trainer leaves out of weight decay."""

Gradients = dict[str, torch.Tensor]
"""By parameter, in the student's order."""


@dataclass
class Cost:
    """What was computed, in texts read and in their tokens, prompts included."""

    forward_passes: int = 0
    backward_passes: int = 0
    forward_tokens: int = 0
    backward_tokens: int = 0
    seconds: float = 0.0

    def figures(self) -> dict[str, float]:
        """For the metrics."""
        return {**vars(self), "seconds": round(self.seconds, 3)}

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Counts the time within."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started


class Student:
    """A causal model in evaluation mode on one device.

    parameters: those that are trained, by name.
    first, second: AdamW's moments, which are 0 until `load`; n_steps: the steps that made them.

    name: in messages. batch_tokens: in a forward pass, padding counted.

    Raises:
        ModelError: its output layer is not known (see `head_of`).
    """

    def __init__(self, model: Any, name: str, batch_tokens: int) -> None:
        self._name, self._batch_tokens = name, batch_tokens
        self._backbone, self._head = backbone_of(model), head_of(model)
        self._n_rows = n_rows(model)
        self.parameters: dict[str, torch.Tensor] = {
            name: p for name, p in model.named_parameters() if p.requires_grad
        }
        self.decayed = frozenset(get_parameter_names(model, [nn.LayerNorm], NOT_DECAYED))
        self.n_steps = 0
        self.first = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self.second = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self.cost = Cost()

    @property
    def n_parameters(self) -> int:
        """Numbers in a gradient."""
        return sum(p.numel() for p in self.parameters.values())

    def load(self, state: State) -> None:
        """Take the weights and moments of a training."""
        self.n_steps = state.n_steps
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state.weights[name])
                self.first[name].copy_(state.first[name])
                self.second[name].copy_(state.second[name])

    def check(self, texts: Sequence[Text]) -> None:
        """Raises:
        ModelError: a token is not of the model.
        """
        for text in texts:
            check_ids(int(text.ids.max()), self._n_rows, self._name, f"row '{text.name}'")

    def gradients(self, text: Text) -> tuple[float, Gradients]:
        """The mean loss of a text's tokens, and its gradient."""
        (loss,) = self._losses([text])
        found = torch.autograd.grad(
            loss, list(self.parameters.values()), allow_unused=True, materialize_grads=True
        )
        self.cost.backward_passes += 1
        self.cost.backward_tokens += len(text.ids)
        return loss.item(), dict(zip(self.parameters, found, strict=True))

    def mean_loss(self, texts: Sequence[Text]) -> float:
        """The mean over texts of the mean loss of their tokens, in batches of like length.

        A text counts as much as any other, so how they are batched moves it by rounding only.
        """
        found = np.zeros(len(texts))
        with torch.no_grad():
            for batch in batches([len(text.ids) for text in texts], self._batch_tokens):
                found[batch] = self._losses([texts[index] for index in batch]).cpu().numpy()
        return float(found.mean())

    @contextmanager
    def stepped(self, step: Callable[[str, torch.Tensor], torch.Tensor]) -> Iterator[None]:
        """With other weights within, and afterwards with those of before, bit by bit.

        step: from a parameter's name and value to its value within.
        """
        before = {name: p.detach().clone() for name, p in self.parameters.items()}
        try:
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(step(name, parameter))
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(before[name])

    def _losses(self, texts: Sequence[Text]) -> torch.Tensor:
        """The mean loss of each text's tokens, float64 [n], differentiable."""
        device, longest = self._head.weight.device, max(len(text.ids) for text in texts)
        # Padded on the right, where a causal model does not look.
        padded = np.zeros((len(texts), longest), np.int64)
        for line, text in zip(padded, texts, strict=True):
            line[: len(text.ids)] = text.ids
        tokens = np.concatenate([i * longest + text.places for i, text in enumerate(texts)])
        counts = torch.tensor([len(text.places) for text in texts], device=device)
        output = self._backbone(input_ids=torch.from_numpy(padded).to(device), use_cache=False)
        hidden = output.last_hidden_state.flatten(0, 1)[torch.from_numpy(tokens - 1).to(device)]
        targets = torch.from_numpy(padded.reshape(-1)[tokens]).to(device)
        logps, _ = head_logps(hidden, self._head, targets, None)
        of = torch.repeat_interleave(torch.arange(len(texts), device=device), counts)
        sums = torch.zeros(len(texts), dtype=torch.float64, device=device)
        self.cost.forward_passes += len(texts)
        self.cost.forward_tokens += sum(len(text.ids) for text in texts)
        return -sums.index_add(0, of, logps.double()) / counts
