"""Rows of an embedding for a new vocabulary, made from the rows of an old one.

old tokens: "th" "e" " the"      new token " the": the row of " the"
                                 new token "the":  the mean of the rows of "th" and "e"

Source: "Cross-Tokenizer Distillation via Approximate Likelihood Matching", arXiv 2503.20083, on
tokenizer transfer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from llm_distill.methods.token_bytes import TokenBytes

Segment = Callable[[Sequence[str]], Sequence[Sequence[int] | None]]
"""From texts to the old tokens of each; None if these do not spell exactly that text."""


@dataclass(frozen=True)
class Pieces:
    """For each new token, the old tokens whose rows its own is made from.

    Attributes:
        ids: int64 [P], old tokens, grouped by new token.
        starts: int64 [V + 1]; new token t is made from ids[starts[t]:starts[t + 1]].
    """

    ids: NDArray[np.int64]
    starts: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 [V]: 1 is a copied row, more is a mean, 0 is nothing."""
        return np.diff(self.starts)


def tokens_by_bytes(
    table: TokenBytes, spare: Sequence[bool] | NDArray[np.bool_]
) -> dict[bytes, int]:
    """The first regular token that stands for exactly these bytes.

    Args:
        table: of V tokens.
        spare: bool [V], tokens used only as a last resort, such as SentencePiece's <0x41> for A.
    """
    joined, starts = table.data.tobytes(), table.starts.tolist()
    regular = np.flatnonzero(~table.is_special & (table.lengths > 0))
    is_spare = np.asarray(spare, dtype=np.bool_)[regular]
    found: dict[bytes, int] = {}
    for token in chain(regular[~is_spare].tolist(), regular[is_spare].tolist()):
        found.setdefault(joined[starts[token] : starts[token + 1]], token)
    return found


def pieces_of(
    wanted: Sequence[bytes | int | None], known: Mapping[bytes, int], segment: Segment
) -> Pieces:
    """What each new token is made from.

    The old token with the same bytes; else the old tokens of its text; else, if its bytes are not
    text or the old tokenizer does not reproduce them, the old tokens of its single bytes.

    Args:
        wanted: for each new token its bytes, or the old token that it is, or None for neither.
        known: old tokens by their bytes.
        segment: tokenizes texts with the old tokenizer.
    """
    found: list[Sequence[int]] = [()] * len(wanted)
    texts: dict[int, str] = {}
    for token, content in enumerate(wanted):
        if content is None or content == b"":
            continue
        if isinstance(content, int):
            found[token] = (content,)
        elif content in known:
            found[token] = (known[content],)
        else:
            found[token] = _single_bytes(content, known)
            try:
                texts[token] = content.decode("utf-8")
            except UnicodeDecodeError:
                continue
    for token, segments in zip(texts, segment(list(texts.values())), strict=True):
        if segments:
            found[token] = segments
    ids = np.fromiter(chain.from_iterable(found), dtype=np.int64)
    starts = np.cumsum([0, *map(len, found)], dtype=np.int64)
    return Pieces(ids, starts)


def _single_bytes(content: bytes, known: Mapping[bytes, int]) -> list[int]:
    """The old tokens of its bytes, one each; empty if one of them does not have a token."""
    single = [known.get(content[i : i + 1]) for i in range(len(content))]
    found = [token for token in single if token is not None]
    return found if len(found) == len(content) else []


def new_rows(rows: torch.Tensor, pieces: Pieces, n_known: int) -> torch.Tensor:
    """The new embedding: copied rows bit by bit, means computed in float32 or finer.

    Args:
        rows: [R, H] or [R], of the old tokens.
        pieces: for V new tokens.
        n_known: how many rows are of tokens; the rest is padding. Their mean is the row of a token
            that is made from nothing.

    Returns:
        [V, H] or [V].
    """
    with torch.no_grad():
        exact = rows.detach().to(torch.promote_types(rows.dtype, torch.float32))
        table = exact if exact.ndim == 2 else exact[:, None]
        means = torch.nn.functional.embedding_bag(
            torch.from_numpy(pieces.ids), table, torch.from_numpy(pieces.starts[:-1]), mode="mean"
        )
        means[torch.from_numpy(pieces.lengths == 0)] = table[:n_known].mean(0)
        return means.reshape(len(means), *rows.shape[1:]).to(rows.dtype)
