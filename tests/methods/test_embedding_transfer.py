"""New rows are copies and means of old ones, by hand and against a loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llm_distill.methods.embedding_transfer import Pieces, new_rows, pieces_of, tokens_by_bytes
from llm_distill.methods.token_bytes import TokenBytes


def table_of(tokens: list[bytes], special: set[int] = frozenset()) -> TokenBytes:
    starts = np.cumsum([0, *map(len, tokens)], dtype=np.int64)
    is_special = np.array([i in special for i in range(len(tokens))])
    return TokenBytes(np.frombuffer(b"".join(tokens), np.uint8), starts, is_special)


def test_of_tokens_with_the_same_bytes_the_first_that_is_not_spare() -> None:
    table = table_of([b"<s>", b"A", b"", b"A", b"A", b"\xff", b"<s>"], {0})
    spare = [False, True, False, False, False, True, False]
    assert tokens_by_bytes(table, spare) == {b"A": 3, b"\xff": 5, b"<s>": 6}


def test_what_each_new_token_is_made_of() -> None:
    known = {b"th": 4, b"e": 7, b" the": 9, b"\xe4": 2, b" ": 1, b"t": 3, b"h": 5}
    asked: list[str] = []

    def segment(texts):
        asked.extend(texts)
        return [{"the": [4, 7], "hé": None, " t": None}[text] for text in texts]

    wanted = [b" the", b"the", 6, b" \xe4", "hé".encode(), b" t", None, b"", b"\xff", 0]
    pieces = pieces_of(wanted, known, segment)
    parts = np.split(pieces.ids, pieces.starts[1:-1])
    assert [part.tolist() for part in parts] == [
        [9], [4, 7], [6], [1, 2], [], [1, 3], [], [], [], [0],
    ]  # fmt: skip
    assert asked == ["the", "hé", " t"]  # what is no text, or is known, is not asked for
    assert pieces.lengths.tolist() == [1, 2, 1, 2, 0, 2, 0, 0, 0, 1]


def test_an_empty_vocabulary_has_no_pieces() -> None:
    assert pieces_of([], {}, lambda texts: []).starts.tolist() == [0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("width", [None, 3])
def test_rows_against_a_loop(dtype: torch.dtype, width: int | None) -> None:
    generator = torch.Generator().manual_seed(1)
    shape = (7,) if width is None else (7, width)
    rows = torch.randn(shape, generator=generator).to(dtype).requires_grad_()
    made_of = [[2], [], [0, 1, 1], [6], [3, 4], []]
    ids = np.array([token for tokens in made_of for token in tokens], dtype=np.int64)
    starts = np.cumsum([0, *map(len, made_of)], dtype=np.int64)
    made = new_rows(rows, Pieces(ids, starts), n_known=5)
    assert made.shape == (6, *shape[1:])
    assert made.dtype == dtype
    assert not made.requires_grad
    for row, tokens in zip(made, made_of, strict=True):
        if len(tokens) == 1:
            assert torch.equal(row, rows[tokens[0]])  # to the bit
        else:
            mean = rows[tokens].double().mean(0) if tokens else rows[:5].double().mean(0)
            torch.testing.assert_close(
                row.double(), mean, rtol=torch.finfo(dtype).eps * 4, atol=1e-6
            )
