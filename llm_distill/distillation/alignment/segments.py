"""Any text as a tokenizer's tokens, whatever it puts before what it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_distill.methods.token_bytes import BYTE_PIECES, TokenBytes

ANCHOR = "\n"
"""Stands before a text for tokenizers that put a space before whatever they are given."""


def segments(tokenizer: Any, table: TokenBytes, texts: Sequence[str]) -> list[list[int] | None]:
    """The tokens of each text; None where the tokenizer cannot write just that.

    table: the bytes of its tokens.
    """
    if not texts:
        return []
    plain = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    anchored = [ANCHOR + text for text in texts]
    tails = tokenizer(anchored, add_special_tokens=False)["input_ids"]
    found: list[list[int] | None] = []
    for text, ids, after in zip(texts, plain, tails, strict=True):
        content = text.encode()
        ways = (ids, _last(after, len(content), table.lengths))
        found.append(next((way for way in ways if table.text(way) == content), None))
    return found


def is_byte_token(tokenizer: Any, table: TokenBytes) -> list[bool]:
    """Of each token whether it is SentencePiece's for a byte, such as <0x41>."""
    names = tokenizer.convert_ids_to_tokens(list(range(len(table.is_special))))
    return [name in BYTE_PIECES for name in names]


def _last(ids: list[int], size: int, lengths: Any) -> list[int]:
    """The last tokens that write at least `size` bytes."""
    first = len(ids)
    while size > 0 and first > 0:
        first -= 1
        size -= int(lengths[ids[first]])
    return ids[first:]
