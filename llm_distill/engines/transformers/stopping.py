"""Notice a stop string as soon as it is written, without decoding at every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


class StopStrings:
    """Decodes only after a token that contains the last character of a stop string.

    The tokens that do are found once. A character outside ASCII may be spread over several byte
    tokens, and some tokenizers drop the space of a token that is decoded alone; for these last
    characters every token is a candidate.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._pieces: list[str] | None = None
        self._masks: dict[tuple[str, ...], torch.Tensor] = {}

    def candidates(self, stops: Sequence[tuple[str, ...]]) -> torch.Tensor | None:
        """Which tokens can complete a row's stop strings, bool [rows, vocabulary]."""
        if not any(stops):
            return None
        for row_stops in set(stops).difference(self._masks):
            self._masks[row_stops] = self._mask(row_stops)
        return torch.stack([self._masks[row_stops] for row_stops in stops])

    def found(self, tokens: list[int], stops: tuple[str, ...]) -> bool:
        """Whether the text of `tokens` holds a stop string."""
        text = self._tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return any(stop in text for stop in stops)

    def _mask(self, stops: tuple[str, ...]) -> torch.Tensor:
        if self._pieces is None:
            ids = [[token] for token in range(len(self._tokenizer))]
            self._pieces = self._tokenizer.batch_decode(ids, clean_up_tokenization_spaces=False)
        ends = {stop[-1] for stop in stops}
        if any(not end.isascii() or end == " " for end in ends):
            return torch.ones(len(self._pieces), dtype=torch.bool)
        return torch.tensor([any(end in piece for end in ends) for piece in self._pieces])
