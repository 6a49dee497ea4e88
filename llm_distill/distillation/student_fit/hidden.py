"""What SCAS needs of a text: surprisals, and the likeness of its tokens in one hidden layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from llm_distill.distillation.lm_head.head import head_logps
from llm_distill.distillation.lm_head.model_head import backbone_of, head_of
from llm_distill.distillation.teacher.scoring import batches
from llm_distill.errors import ModelError
from llm_distill.methods.student_fit import mean_cosine
from llm_distill.models.limits import check_ids
from llm_distill.models.memory import fits_memory, out_of_memory_as
from llm_distill.models.sources import Device, choose_device, load_model
from llm_distill.rows.unusable import UnusableRowError

if TYPE_CHECKING:
    from llm_distill.models.sources import ModelSource

LAYER = "mlp.up_proj"
PARTS = ("mean_nll", "mean_nll_prompt", "similarity", "similarity_prompt")


@dataclass(frozen=True)
class HiddenText:
    """A question and an answer to it.

    Attributes:
        ids: int32, the whole text.
        answer, prompt: int64, which tokens have their surprisal taken.
        like_answer, like_prompt: int64, which are compared.
    """

    ids: NDArray[np.int32]
    answer: NDArray[np.int64]
    prompt: NDArray[np.int64]
    like_answer: NDArray[np.int64]
    like_prompt: NDArray[np.int64]


def hidden_text(
    head: Sequence[int], tail: Sequence[int], header: Sequence[int], special: frozenset[int]
) -> HiddenText:
    """Special tokens are not compared, and are no part of the question; nor is what opens answers.

    header: what a chat template writes between the question and the answer. The first token of all
        is compared, but nothing says how likely it is.

    Raises:
        UnusableRowError: nothing of one of the two is left.
    """
    end = len(head) - len(header) if header and [*head][-len(header) :] == [*header] else len(head)
    prompt = [place for place in range(end) if head[place] not in special]
    answer = range(len(head), len(head) + len(tail))
    like = [place for place, token in zip(answer, tail, strict=True) if token not in special]
    predicted = [place for place in prompt if place > 0]
    if not predicted:
        raise UnusableRowError("a prompt without a token that is predicted")
    if not like:
        raise UnusableRowError("an answer of special tokens only")
    return HiddenText(
        np.asarray([*head, *tail], np.int32),
        np.asarray(answer, np.int64),
        np.asarray(predicted, np.int64),
        np.asarray(like, np.int64),
        np.asarray(prompt, np.int64),
    )


class HiddenScorer:
    """A student on one device; `close` frees its memory.

    Raises:
        ModelError: the model cannot be loaded, its output layer is not known (see `head_of`), it
            has no `mlp.up_proj`, or the device is not there.
    """

    def __init__(self, source: ModelSource, *, batch_tokens: int, device: Device) -> None:
        self._name, self._batch_tokens = source.name, batch_tokens
        self._device = choose_device(device, "device")
        with fits_memory(f"model '{source.name}'", self._device):
            model: Any = load_model(source, device=self._device)
        self._head, self._backbone = head_of(model), backbone_of(model)
        layers = [module for name, module in model.named_modules() if name.endswith(LAYER)]
        if not layers:
            raise ModelError(
                f"model '{source.name}' is of type {model.config.model_type}, which has no "
                f"{LAYER}: signal: scas compares the output of the last one; take another signal"
            )
        self._layer = layers[-1]

    def score(
        self, texts: Sequence[HiddenText], names: Sequence[str], note: Callable[[int, int], None]
    ) -> list[dict[str, NDArray[Any]]]:
        """`parts`, float64 [4], of each text: the figures of PARTS, in their order.

        names: what to call a text in a message. note: called with each batch's texts and tokens.

        Raises:
            ModelError: a batch does not fit into memory, a token is not of the model, or a figure
                is not finite.
        """
        found: dict[int, dict[str, NDArray[Any]]] = {}
        for batch in batches([len(text.ids) for text in texts], self._batch_tokens):
            chosen = [texts[index] for index in batch]
            for index, text in zip(batch, chosen, strict=True):
                where = f"row '{names[index]}'"
                check_ids(int(text.ids.max()), len(self._head.weight), self._name, where)
            advice = (
                f"model '{self._name}' ran out of memory with {len(batch)} rows of up to "
                f"{len(chosen[0].ids)} tokens; lower batch_tokens (now {self._batch_tokens})"
            )
            with out_of_memory_as(advice), torch.inference_mode():
                parts = self._parts(chosen)
            for index, one in zip(batch, parts, strict=True):
                if not np.isfinite(one).all():
                    raise ModelError(
                        f"model '{self._name}' computes {one[~np.isfinite(one)][0]} for row "
                        f"'{names[index]}'; try another dtype for it"
                    )
                found[index] = {"parts": one}
            note(len(batch), sum(len(text.ids) for text in chosen))
        return [found[index] for index in range(len(texts))]

    def close(self) -> None:
        """Free the weights, and the device's memory with them."""
        self._head = self._backbone = self._layer = None  # type: ignore[assignment]
        if self._device == "cuda":
            torch.cuda.empty_cache()

    def _parts(self, texts: Sequence[HiddenText]) -> list[NDArray[np.float64]]:
        longest = max(len(text.ids) for text in texts)
        # Padded on the right, where a causal model does not look.
        padded = np.zeros((len(texts), longest), np.int64)
        for line, text in zip(padded, texts, strict=True):
            line[: len(text.ids)] = text.ids
        ids = torch.from_numpy(padded).to(self._device)
        with _output_of(self._layer) as outputs:
            hidden = self._backbone(input_ids=ids, use_cache=False).last_hidden_state
        found = []
        for index, text in enumerate(texts):
            vectors = outputs[-1].view(len(texts), longest, -1)[index]
            answer, prompt = (vectors[places] for places in (text.like_answer, text.like_prompt))
            figures = (
                self._nll(hidden[index], ids[index], text.answer),
                self._nll(hidden[index], ids[index], text.prompt),
                mean_cosine(answer, answer),
                mean_cosine(answer, prompt),
            )
            found.append(np.asarray(figures, np.float64))
        return found

    def _nll(self, hidden: torch.Tensor, ids: torch.Tensor, places: NDArray[np.int64]) -> float:
        at = torch.from_numpy(places).to(ids.device)
        logps, _ = head_logps(hidden[at - 1], self._head, ids[at], None)
        return float(-logps.double().mean())


@contextmanager
def _output_of(layer: Any) -> Iterator[list[torch.Tensor]]:
    """What a module gives in the forward pass that is made meanwhile."""
    outputs: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda module, given, output: outputs.append(output))
    try:
        yield outputs
    finally:
        hook.remove()
