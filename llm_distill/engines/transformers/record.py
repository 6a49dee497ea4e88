"""What a batch has written so far, and which of its rows go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from llm_distill.engines.base import Request
    from llm_distill.engines.transformers.stopping import StopStrings


class Written:
    """What the rows of a batch have written so far, on the CPU.

    Attributes:
        tokens: int64 [rows, most tokens].
        logprobs: float32 [rows, most tokens], in nats; [rows, 0] where nobody asked for them.
        lengths: int64 [rows], how many of them count; 0 for a row that goes on.
        stopped: bool [rows], whether a row ended by an end token or a stop string.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        limits: Sequence[int],
        stops: StopStrings,
        ends: torch.Tensor,
    ) -> None:
        """limits: the most tokens that each request may be answered with. ends: token ids."""
        self._finder, self._ends = stops, ends
        self._stops = [request.sampling.stop for request in requests]
        self._candidates = stops.candidates(self._stops)
        self._limits = torch.tensor(limits)
        self._wants_logprobs = any(request.wants_logprobs for request in requests)
        n, most = len(requests), max(limits)
        self.tokens = torch.zeros(n, most, dtype=torch.long)
        self.logprobs = torch.zeros(n, most if self._wants_logprobs else 0)
        self.lengths = torch.zeros(n, dtype=torch.long)
        self.stopped = torch.zeros(n, dtype=torch.bool)

    def add(
        self, step: int, rows: torch.Tensor, drawn: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor:
        """Note the tokens `drawn` [n] from logits [n, vocabulary] for `rows` [n] of the batch.

        Returns:
            Which of `rows` go on, bool [n].
        """
        tokens = drawn.cpu()
        self.tokens[rows, step] = tokens
        if self._wants_logprobs:
            chosen = logits.log_softmax(-1).gather(1, drawn[:, None])[:, 0]
            self.logprobs[rows, step] = chosen.cpu()
        going = self.lengths[rows] == 0
        ended = torch.isin(tokens, self._ends)
        if self._candidates is not None:
            # A model may have more ids than its tokenizer; those have no text.
            known = tokens.clamp(max=self._candidates.shape[1] - 1)
            look = going & ~ended & self._candidates[rows, known]
            for index in look.nonzero()[:, 0].tolist():
                row = int(rows[index])
                written = self.tokens[row, : step + 1].tolist()
                ended[index] = self._finder.found(written, self._stops[row])
        now = going & (ended | (step + 1 >= self._limits[rows]))
        self.lengths[rows[now]] = step + 1
        self.stopped[rows[now]] = ended[now]
        return going & ~now
