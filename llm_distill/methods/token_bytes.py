"""The UTF-8 bytes of each token of a vocabulary.

Two tokenizers of one text are compared by bytes: a token may be less than a character, and then
character offsets do not help. The bytes are those of the normalized text. A dummy prefix (the space
that SentencePiece may put before a text) is a byte of the first token but not of the text, and
SentencePiece does not tell the character ▁ from a space: to be sure of the text itself, compare it
with `text(ids)`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

SPACE_MARK = "▁"  # U+2581, what SentencePiece writes for a space
BYTE_PIECES = {f"<0x{byte:02X}>": bytes([byte]) for byte in range(256)}
SUPPORTED = "byte-level BPE, SentencePiece's BPE and Unigram, and tokenizers of bytes (ByT5)"


@dataclass(frozen=True)
class TokenBytes:
    """The bytes of every token; those of a special token are its name's.

    Attributes:
        data: all tokens' bytes, joined.
        starts: [V + 1]; token t is data[starts[t]:starts[t + 1]], empty in gaps of the vocabulary.
        is_special: [V].
    """

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    is_special: NDArray[np.bool_]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """[V], in bytes."""
        return np.diff(self.starts)

    def text(self, ids: ArrayLike) -> bytes:
        """The bytes of these tokens, joined.

        Raises:
            IndexError: an id is not in this vocabulary.
        """
        tokens = np.asarray(ids, dtype=np.int64)
        if (tokens < 0).any():
            raise IndexError(f"token {tokens.min()} is not in this vocabulary")
        lengths = self.lengths[tokens]
        shifts = self.starts[tokens] - (np.cumsum(lengths) - lengths)
        found: NDArray[np.uint8] = self.data[np.arange(lengths.sum()) + np.repeat(shifts, lengths)]
        return found.tobytes()

    def boundary_tokens(self, size: int | None = None) -> NDArray[np.bool_]:
        """[size or V]: whether a token cannot continue a word.

        The set B of outcome-chunk debiasing (ALM, arXiv 2503.20083): tokens that begin with a
        space, a tab or a newline, and special tokens. False for ids beyond the tokenizer, with
        which models pad their vocabulary.
        """
        n = len(self.is_special)
        first = np.append(self.data, np.uint8(0))[self.starts[:-1]]
        begins = (self.lengths > 0) & np.isin(first, np.frombuffer(b" \t\n", np.uint8))
        found = np.zeros(n if size is None else size, np.bool_)
        found[:n] = (begins | self.is_special)[: len(found)]
        return found


def token_bytes(tokenizer: Any) -> TokenBytes:
    """The table of a transformers tokenizer.

    Raises:
        ValueError: the tokenizer is of a kind whose tokens do not say which bytes they stand for.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        written = _bytes_of_a_byte_tokenizer(tokenizer)
        added = tokenizer.added_tokens_decoder
    else:
        vocabulary: dict[str, int] = backend.get_vocab(with_added_tokens=False)
        write = _writer(tokenizer, vocabulary)
        written = {index: write(token) for token, index in vocabulary.items()}
        added = backend.get_added_tokens_decoder()
    for index, token in added.items():
        # Gemma's runs of spaces are added tokens that the vocabulary has as ▁▁.
        if token.special or index not in written:
            written[index] = token.content.encode()
    special = {index for index, token in added.items() if token.special}
    return _table(written, special | set(tokenizer.all_special_ids))


def _table(written: dict[int, bytes], special: set[int]) -> TokenBytes:
    size = max(written, default=-1) + 1
    pieces = [written.get(index, b"") for index in range(size)]
    starts = np.zeros(size + 1, np.int64)
    np.cumsum([len(piece) for piece in pieces], out=starts[1:])
    is_special = np.zeros(size, np.bool_)
    is_special[[index for index in special if index < size]] = True
    return TokenBytes(np.frombuffer(b"".join(pieces), np.uint8), starts, is_special)


def _writer(tokenizer: Any, vocabulary: dict[str, int]) -> Callable[[str], bytes]:
    """From a token as the vocabulary spells it to its bytes."""
    backend = tokenizer.backend_tokenizer
    kind = type(backend.model).__name__
    parts = (backend.normalizer, backend.pre_tokenizer, backend.decoder)
    # A part pickles itself as its JSON; the whole tokenizer's would include the vocabulary.
    states = [json.loads(part.__getstate__()) for part in parts if part is not None]
    types = set(_types(states))
    word_ending = getattr(backend.model, "end_of_word_suffix", None)
    continuation = getattr(backend.model, "continuing_subword_prefix", None)
    if kind not in ("BPE", "Unigram") or word_ending or continuation:
        marked = f" that marks where words end ({word_ending!r})" if word_ending else ""
        raise _unsupported(tokenizer, kind + marked)
    if "ByteLevel" in types:
        return _from_byte_level
    has_byte_pieces = "ByteFallback" in types or BYTE_PIECES.keys() <= vocabulary.keys()
    has_space_mark = SPACE_MARK in json.dumps(states, ensure_ascii=False)  # Metaspace, Replace
    if not has_byte_pieces and not has_space_mark:
        raise _unsupported(tokenizer, f"{kind} on characters, with no mark for a space")

    def from_sentencepiece(token: str) -> bytes:
        if has_byte_pieces and token in BYTE_PIECES:
            return BYTE_PIECES[token]
        return (token.replace(SPACE_MARK, " ") if has_space_mark else token).encode()

    return from_sentencepiece


def _types(state: Any) -> Iterator[str]:
    """The types of a part of a tokenizer and of the parts inside it."""
    if isinstance(state, dict):
        if "type" in state:
            yield state["type"]
        state = list(state.values())
    if isinstance(state, list):
        for inner in state:
            yield from _types(inner)


def _byte_letters() -> dict[str, int]:
    """The letter with which byte-level BPE writes each byte (GPT-2), to the byte.

    Printable characters of Latin-1 stand for themselves; the other bytes take the letters from
    U+0100 on, in order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + i): byte for i, byte in enumerate(others)
    }


BYTE_OF_LETTER = _byte_letters()


def _from_byte_level(token: str) -> bytes:
    try:
        return bytes([BYTE_OF_LETTER[letter] for letter in token])
    except KeyError:  # not made by the byte-level step: a literal added to the vocabulary
        return token.encode()


def _bytes_of_a_byte_tokenizer(tokenizer: Any) -> dict[int, bytes]:
    """The ids of the 256 bytes, for tokenizers that name each byte by the character of its code."""
    vocabulary = tokenizer.get_vocab()
    ids = [vocabulary.get(chr(byte)) for byte in range(256)]
    sample = "aé€😀"
    expected = [ids[byte] for byte in sample.encode()]
    if None in ids or tokenizer.encode(sample, add_special_tokens=False) != expected:
        raise _unsupported(tokenizer, "a tokenizer without a tokenizers backend (a slow one)")
    return {index: bytes([byte]) for byte, index in enumerate(ids)}


def _unsupported(tokenizer: Any, kind: str) -> ValueError:
    name = type(tokenizer).__name__
    return ValueError(
        f"{name} is {kind}: the bytes of its tokens are not known. Supported: {SUPPORTED}"
    )
