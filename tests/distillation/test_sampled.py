"""Rows are read token by token as they were sampled, and only where that can be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llm_distill.distillation.sampled import rollout_logps, sampled_ids
from llm_distill.errors import DataError
from llm_distill.rows.unusable import UnusableRowError
from tests.distillation.encoders import asked, byte_level, encoder

CODER = encoder(byte_level("a b", "ab c"))
END, A, B, C = (CODER.tokenizer.convert_tokens_to_ids(t) for t in ("<|end|>", "a", "b", "c"))
SAMPLED = [A, B, C, END]  # read again, "abc" is one token
ROW: dict[str, Any] = {
    "id": "r1",
    "completion_ids": SAMPLED,
    "rollout_logps": [-0.1, -0.2, -0.3, -0.4],
    "written_with": CODER.vocabulary,
}


def encoded(sampled: list[int] | None, text: str = "abc", is_open: bool = False) -> Any:
    return CODER.encode(asked("q", text), is_open=is_open, sampled=sampled)


def test_tokens_stand_as_they_were_sampled_after_the_same_prompt() -> None:
    as_text, row = encoded(None), encoded(SAMPLED)
    (content,) = row.contents
    assert len(as_text.ids) == len(row.ids) - 2
    assert row.ids.tolist() == [*as_text.ids[: content.start], *SAMPLED]
    assert (row.is_sampled, as_text.is_sampled) == (True, False)
    assert content.text == b"abc"
    assert content.ends.tolist() == [1, 2, 3]
    assert content.is_closed


@pytest.mark.parametrize("is_open", [True, False])
def test_no_end_is_added_that_was_not_sampled(is_open: bool) -> None:
    row = encoded(SAMPLED[:-1], is_open=is_open)
    assert row.ids.tolist()[-3:] == [A, B, C]
    assert not row.contents[0].is_closed


@pytest.mark.parametrize("sampled", [[A, B, END], [A, B, C, C, END], [A, B, END, C, END]])
def test_tokens_that_do_not_say_the_text_are_not_taken(sampled: list[int]) -> None:
    row = encoded(sampled)
    assert not row.is_sampled
    assert row.ids.tolist() == encoded(None).ids.tolist()


def test_tokens_are_taken_by_who_has_their_vocabulary() -> None:
    other = encoder(byte_level("a b"))
    assert CODER.vocabulary == encoder(byte_level("a b", "ab c")).vocabulary != other.vocabulary
    assert sampled_ids(ROW, CODER.vocabulary) == SAMPLED
    assert sampled_ids(ROW, other.vocabulary) is None
    assert sampled_ids({"id": "r"}, CODER.vocabulary) is None


@pytest.mark.parametrize("id_", [-1, 10_000])
def test_a_token_beyond_the_vocabulary(id_: int) -> None:
    with pytest.raises(UnusableRowError, match="a token that the vocabulary does not have"):
        encoded([A, id_, END])


def test_log_probabilities_stand_at_their_tokens() -> None:
    row = encoded(SAMPLED)
    found = rollout_logps(ROW, CODER, row)
    start = row.contents[0].start
    assert np.isnan(found[:start]).all()
    assert found[start:].tolist() == pytest.approx(ROW["rollout_logps"])
    plain = rollout_logps({"id": "r"}, CODER, encoded(None))
    assert np.isnan(plain).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rollout_logps": [-0.1]}, "row r1 has 1 rollout_logps for 4 completion_ids"),
        ({"rollout_logps": [-0.1, -0.2, np.nan, -0.4]}, "rollout_logps holds nan"),
        ({"rollout_logps": [-0.1, -np.inf, -0.1, -0.4]}, "rollout_logps holds -inf"),
        ({"rollout_logps": [0.1, -0.2, -0.3, -0.4]}, "rollout_logps holds 0.1"),
    ],
)
def test_log_probabilities_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        rollout_logps(ROW | change, CODER, encoded(SAMPLED))


def test_what_the_student_did_not_sample() -> None:
    with pytest.raises(UnusableRowError, match="completion is not the text of completion_ids"):
        rollout_logps(ROW, CODER, encoded(None))
    with pytest.raises(UnusableRowError, match="another tokenizer than the student's"):
        rollout_logps({**ROW, "written_with": "5d20c1f3be77"}, CODER, encoded(None))
    two = CODER.encode(asked("q", "a", "q", "abc"), sampled=SAMPLED)
    assert two.is_sampled
    with pytest.raises(UnusableRowError, match="set answers: last"):
        rollout_logps(ROW, CODER, two)
