"""A teacher's likelihoods of texts that are there, from one forward pass over each.

For each token in the loss two numbers are kept, 8 bytes whatever the vocabulary: log p(token), and
log p(boundary) after it, with which ALM tells how likely a chunk ends there ("Cross-Tokenizer
Distillation via Approximate Likelihood Matching", arXiv 2503.20083).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from llm_distill.distillation.alignment.encoding import in_loss
from llm_distill.distillation.lm_head.head import head_logps, top_tokens
from llm_distill.distillation.lm_head.model_head import backbone_of, head_of
from llm_distill.errors import ModelError
from llm_distill.models.limits import check_ids
from llm_distill.models.memory import fits_memory, is_out_of_memory
from llm_distill.models.sources import Device, choose_device, load_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llm_distill.distillation.alignment.encoding import EncodedRow, RowEncoder
    from llm_distill.distillation.lm_head.head import Head
    from llm_distill.models.sources import ModelSource

Scores = dict[str, "NDArray[Any]"]
"""Of a row with n tokens in the loss, by column, in the order of `in_loss`.

teacher_logps: float32 [n], log p(token i). teacher_log_pbs: float32 [n], log p(boundary)
after token i.
With top_k, flat, the likeliest of the first token first: teacher_top_ids int32 [n · k], and
teacher_top_logps float32 [n · k].
"""


OTHER_DTYPE = "try another dtype for it"


class TeacherScorer:
    """A model on one device; `close` frees its memory.

    encoder: the model's. batch_tokens: in a forward pass, padding counted.
    top_k: also keep as many of the likeliest tokens at each place.
    n_tokens, seconds: what was scored so far, of the tokens in the loss, and in what time.

    Raises:
        ModelError: the model cannot be loaded, its output layer is not known (see `head_of`), it
            has fewer than top_k tokens, or the device is not there.
    """

    def __init__(
        self,
        source: ModelSource,
        encoder: RowEncoder,
        *,
        batch_tokens: int,
        top_k: int | None = None,
        device: Device = "auto",
    ) -> None:
        self._name, self._batch_tokens, self._top_k = source.name, batch_tokens, top_k
        self._device = choose_device(device, "device")
        self.n_tokens, self.seconds = 0, 0.0
        with fits_memory(f"model '{source.name}'", self._device):
            model: Any = load_model(source, device=self._device)
        self._head, self._backbone = head_of(model), backbone_of(model)
        vocabulary = len(self._head.weight)
        self._n_tokens = min(vocabulary, len(encoder.table.lengths))  # models pad their vocabulary
        if top_k is not None and top_k > self._n_tokens:
            raise ModelError(
                f"top_k is {top_k}, but model '{source.name}' has {self._n_tokens} tokens"
            )
        self._boundary_tokens = torch.from_numpy(encoder.boundary_tokens(vocabulary)).to(
            self._device
        )

    def score(
        self,
        rows: Sequence[EncodedRow],
        names: Sequence[str],
        note: Callable[[int, int], None] = lambda rows, tokens: None,
    ) -> list[Scores]:
        """The scores of each row, in the order of `rows`.

        Rows of like length share a batch, the longest come first: what does not fit into memory
        fails at once. How they are batched moves a score by no more than rounding.

        names: what to call a row in a message. note: called with each batch's rows and tokens.

        Raises:
            ModelError: a batch does not fit into memory, a token is not of the model, or a score is
                not a number. One of minus infinity is: the model holds a token impossible.
        """
        found: dict[int, Scores] = {}
        for batch in batches([len(row.ids) for row in rows], self._batch_tokens):
            started = time.perf_counter()
            scores = self._scores([rows[index] for index in batch], [names[i] for i in batch])
            n_tokens = sum(len(score["teacher_logps"]) for score in scores)
            self.seconds += time.perf_counter() - started
            self.n_tokens += n_tokens
            found.update(zip(batch, scores, strict=True))
            note(len(batch), n_tokens)
        return [found[index] for index in range(len(rows))]

    def close(self) -> None:
        """Free the weights, and the device's memory with them."""
        self._head = self._backbone = None  # type: ignore[assignment]
        if self._device == "cuda":
            torch.cuda.empty_cache()

    def _scores(self, rows: Sequence[EncodedRow], names: Sequence[str]) -> list[Scores]:
        for row, name in zip(rows, names, strict=True):
            check_ids(int(row.ids.max()), len(self._head.weight), self._name, f"row '{name}'")
        longest = max(len(row.ids) for row in rows)
        try:
            with torch.inference_mode():
                columns = self._columns(rows)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise ModelError(
                f"model '{self._name}' ran out of memory with {len(rows)} rows of up to {longest} "
                f"tokens; lower batch_tokens (now {self._batch_tokens})"
            ) from error
        counts = np.array([len(in_loss(row)) for row in rows])
        for column in ("teacher_logps", "teacher_log_pbs"):
            bad = np.flatnonzero(np.isnan(columns[column]) | np.isposinf(columns[column]))
            if len(bad):
                index = int(np.searchsorted(np.cumsum(counts), bad[0], side="right"))
                raise ModelError(
                    f"model '{self._name}' computes {columns[column][bad[0]]} for row "
                    f"'{names[index]}'; {OTHER_DTYPE}"
                )
        return split(columns, counts)

    def _columns(self, rows: Sequence[EncodedRow]) -> Scores:
        """Of all rows, joined."""
        tokens = [(row.ids, in_loss(row)) for row in rows]
        logps, boundary_logps, hidden = read(
            self._backbone, self._head, self._boundary_tokens, tokens
        )
        columns = {
            "teacher_logps": logps.cpu().numpy(),
            "teacher_log_pbs": boundary_logps.cpu().numpy(),
        }
        if self._top_k is not None:
            top = top_tokens(hidden, self._head, self._top_k, self._n_tokens)
            columns["teacher_top_ids"] = top.ids.to(torch.int32).flatten().cpu().numpy()
            columns["teacher_top_logps"] = top.logps.flatten().cpu().numpy()
        return columns


def read(
    backbone: Any,
    head: Head,
    boundary_tokens: torch.Tensor,
    rows: Sequence[tuple[NDArray[Any], NDArray[np.int64]]],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a model says of the tokens in the loss, in one forward pass.

    boundary_tokens: bool [V]. rows: the ids of each, and which of them are in the loss, ascending.

    Returns:
        log p(token) and log p(boundary) after it, [n] each over the tokens of all rows, and the
        hidden states that predict the tokens, [n, H].
    """
    device, longest = head.weight.device, max(len(ids) for ids, _ in rows)
    # Padded on the right, where a causal model does not look.
    padded = np.zeros((len(rows), longest), np.int64)
    for line, (ids, _) in zip(padded, rows, strict=True):
        line[: len(ids)] = ids
    tokens = np.concatenate([i * longest + index for i, (_, index) in enumerate(rows)])
    # Tokens are predicted by the place before them, a boundary by their own: most do both.
    places = np.union1d(tokens - 1, tokens)
    targets = padded.reshape(-1)[np.minimum(places + 1, padded.size - 1)]
    before, after = (
        torch.from_numpy(np.searchsorted(places, at)).to(device) for at in (tokens - 1, tokens)
    )
    output = backbone(input_ids=torch.from_numpy(padded).to(device), use_cache=False)
    hidden = output.last_hidden_state.flatten(0, 1)[torch.from_numpy(places).to(device)]
    logps, boundary_logps = head_logps(
        hidden, head, torch.from_numpy(targets).to(device), boundary_tokens
    )
    assert boundary_logps is not None
    return logps[before], boundary_logps[after], hidden[before]


def batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Indices of rows in batches of like length, the longest first; of one row where it is long."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    found: list[list[int]] = []
    while order:
        size = max(1, batch_tokens // max(1, lengths[order[0]]))
        found.append(order[:size])
        order = order[size:]
    return found


def split(columns: Scores, counts: NDArray[np.int64]) -> list[Scores]:
    """Joined columns as those of each row, which has `counts` tokens in the loss."""
    total, places = int(counts.sum()), np.cumsum(counts)[:-1]
    parts = {
        name: np.split(values, places * (len(values) // max(1, total)))
        for name, values in columns.items()
    }
    return [{name: part[index] for name, part in parts.items()} for index in range(len(counts))]
