from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_distill.methods import alignment
from llm_distill.methods.alignment import Chunks, align, merge
from llm_distill.methods.token_bytes import token_bytes
from tests.methods import small_tokenizers as small

LENGTHS = st.lists(st.integers(0, 6), max_size=30)  # of tokens, in bytes


def ends(lengths: Sequence[int], start: int = 0) -> Any:
    return start + np.cumsum(np.array(lengths, np.int64))


def oracle(ends_a: Sequence[int], ends_b: Sequence[int]) -> tuple[list[int], list[int]]:
    """Byte by byte: a chunk closes where both sides have an end."""
    common = sorted(set(ends_a) & set(ends_b))
    last = lambda found, byte: max(i for i, end in enumerate(found) if end == byte)  # noqa: E731
    return [last(ends_a, byte) for byte in common], [last(ends_b, byte) for byte in common]


def lists(found: Chunks) -> tuple[list[int], list[int]]:
    assert found.last_a.dtype == found.last_b.dtype == np.int64
    return found.last_a.tolist(), found.last_b.tolist()


@given(LENGTHS, LENGTHS, st.sampled_from([1, 3, 16, 1 << 20]), st.sampled_from([0, 10**12]))
def test_chunks_are_those_of_the_oracle(a: list[int], b: list[int], block: int, start: int) -> None:
    ends_a, ends_b = ends(a, start), ends(b, start)
    with mock.patch.object(alignment, "BLOCK", block):
        found = align(ends_a, ends_b)
    assert lists(found) == oracle(ends_a.tolist(), ends_b.tolist())
    swapped = align(ends_b, ends_a)
    assert lists(swapped) == (found.last_b.tolist(), found.last_a.tolist())


def cut(text_length: int, lengths: Sequence[int]) -> list[int]:
    """Lengths that add up to the text's."""
    found, left = [], text_length
    for length in lengths:
        found.append(min(length, left))
        left -= found[-1]
    return [*found, left] if left else found


@given(st.lists(st.tuples(st.integers(0, 40), LENGTHS, LENGTHS), max_size=6))
def test_documents_one_by_one_are_all_at_once(
    documents: list[tuple[int, list[int], list[int]]],
) -> None:
    all_a, all_b, one_a, one_b = [], [], [], []
    start = n_a = n_b = 0
    for size, a, b in documents:
        a, b = cut(size, a), cut(size, b)
        alone = align(ends(a), ends(b))
        one_a += [n_a + i for i in alone.last_a.tolist()]
        one_b += [n_b + i for i in alone.last_b.tolist()]
        all_a += ends(a, start).tolist()
        all_b += ends(b, start).tolist()
        start, n_a, n_b = start + size + 1, n_a + len(a), n_b + len(b)
    together = align(np.array(all_a, np.int64), np.array(all_b, np.int64))
    assert lists(together) == (one_a, one_b)


@pytest.mark.parametrize(
    "make", [small.tiktoken, lambda: small.sentencepiece_bpe("replace"), small.byte_tokenizer]
)
@pytest.mark.parametrize("text", small.TEXTS)
def test_chunks_of_tokenizers_write_the_same_on_both_sides(make: Any, text: str) -> None:
    sides = []
    for tokenizer in (small.byte_level(), make()):
        ids = tokenizer.encode(text, add_special_tokens=False)
        sides.append((token_bytes(tokenizer), np.array(ids, np.int64)))
    found = align(*(np.cumsum(table.lengths[ids]) for table, ids in sides))
    pieces = []
    for (table, ids), last in zip(sides, (found.last_a, found.last_b), strict=True):
        assert not text or last[-1] == len(ids) - 1
        pieces.append([table.text(part) for part in np.split(ids, last[:-1] + 1)])
    assert pieces[0] == pieces[1]
    assert b"".join(pieces[0]) == text.encode()


def test_one_tokenizer_on_both_sides_gives_a_chunk_a_token() -> None:
    found = align(ends([3, 1, 4, 1, 5]), ends([3, 1, 4, 1, 5]))
    assert lists(found) == ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])


@given(st.lists(st.booleans(), max_size=20))
def test_merge_is_a_plain_loop(keep: list[bool]) -> None:
    n = len(keep)
    given_a, given_b = np.arange(n) * 2 + 1, np.arange(n) * 3
    groups: list[list[int]] = []
    pending: list[int] = []
    for chunk, is_kept in enumerate(keep):
        pending.append(chunk)
        if is_kept:
            groups.append(pending)
            pending = []
    found = merge(Chunks(given_a, given_b), np.array(keep, np.bool_))
    expected = [given_a[group[-1]] for group in groups], [given_b[group[-1]] for group in groups]
    assert lists(found) == expected
