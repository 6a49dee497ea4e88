"""What two models say of a text, on vocabularies that are made by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from llm_distill.distillation.alignment.encoding import Content, EncodedRow
from llm_distill.distillation.compared import END, Spoken, Vocabularies, as_written, compared
from llm_distill.methods.token_bytes import TokenBytes

TEACHER = [b"<eos>", b"a", "bé".encode(), b" c"]
STUDENT = [b"a", b"b", "é".encode(), b"</s>", b" c"]


def encoder(pieces: list[bytes], end: int) -> Any:
    starts = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])])
    table = TokenBytes(
        np.frombuffer(b"".join(pieces), np.uint8), starts, np.zeros(len(pieces), bool)
    )
    return SimpleNamespace(table=table, pairs=SimpleNamespace(ends=frozenset({end})))


def row(pieces: list[bytes], said: list[int], end: int) -> EncodedRow:
    """One token of a prompt, what is said, and the end."""
    text = b"".join(pieces[token] for token in said)
    ends = np.cumsum([len(pieces[token]) for token in said])
    content = Content(1, 1 + len(said), text, ends, is_closed=True)
    return EncodedRow(np.array([0, *said, end], np.int32), (content,))


def spoken(of: EncodedRow, logps: list[float], likeliest: list[dict[int, float]]) -> Spoken:
    ids = np.array([list(each) for each in likeliest])
    return Spoken(of, np.array(logps), ids, np.log([list(each.values()) for each in likeliest]))


SAYS_TEACHER = spoken(
    row(TEACHER, [1, 2, 3], 0),
    [-1.0, -2.0, -3.0, -0.5],
    [{1: 0.5, 2: 0.1}, {2: 0.6, 3: 0.2}, {3: 0.7, 1: 0.1}, {0: 0.8, 9: 0.2}],  # 9 is padding
)
SAYS_STUDENT = spoken(
    row(STUDENT, [0, 1, 2, 4], 3),
    [-1.5, -0.5, -0.25, -1.0, -4.5],
    [{0: 0.4, 4: 0.2}, {1: 0.9, 4: 0.05}, {2: 0.9, 0: 0.1}, {1: 0.3, 0: 0.3}, {3: 0.3, 9: 0.6}],
)


def test_chunks_have_the_sums_of_both_sides_and_their_place_in_the_text() -> None:
    found = compared(SAYS_TEACHER, SAYS_STUDENT)
    np.testing.assert_allclose(found.teacher, [-1.0, -2.0, -3.0, -0.5])  # a | bé | ␣c | end
    np.testing.assert_allclose(found.student, [-1.5, -0.75, -1.0, -4.5])
    assert (found.gap.nats, found.gap.n_tokens, found.gap.n_bytes) == (-1.25, 5, 6)
    assert [found.text(chunk) for chunk in range(4)] == [
        "⟦a⟧bé c", "a⟦bé⟧ c", "abé⟦ c⟧", f"abé c⟦{END}⟧"
    ]  # fmt: skip


def test_tokens_are_the_same_by_their_bytes_and_ends_are_ends() -> None:
    vocabularies = Vocabularies(encoder(TEACHER, 0), encoder(STUDENT, 3))
    chunks = compared(SAYS_TEACHER, SAYS_STUDENT).chunks
    found = vocabularies.shared(SAYS_TEACHER, SAYS_STUDENT, chunks)
    assert found is not None
    # At a: a alone. At bé: ␣c. At ␣c: a. At the end: the end; ids that pad are not each other.
    assert found.n_places == 4
    assert found.tokens == pytest.approx(4 * 0.5)
    assert found.of_teacher == pytest.approx(5 / 6 + 2 / 8 + 1 / 8 + 0.8)
    assert found.of_student == pytest.approx(4 / 6 + 0.05 / 0.95 + 3 / 6 + 3 / 9)


@pytest.mark.parametrize(
    ("ids", "known"),
    [
        ([0, 1, 2, 4, 3], [True] * 5),
        ([0, 1, 2, 4], [True] * 4 + [False]),  # without its end token
        ([0, 1, 2], None),
        ([0, 1, 4, 4, 3], None),
        ([], None),
    ],
)
def test_what_was_written_is_taken_where_it_is_read_as_the_same_tokens(
    ids: list[int], known: list[bool] | None
) -> None:
    given = {"completion_ids": ids, "rollout_logps": [-0.1] * len(ids)}
    found = as_written(given, SAYS_STUDENT.row)
    if known is None:
        assert found is None
        return
    assert found is not None
    assert (~np.isnan(found.logps)).tolist() == known
    # What was not said takes its chunk out of both sides.
    assert len(compared(SAYS_TEACHER, found).teacher) == sum(known) - 1
