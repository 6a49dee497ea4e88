"""Chunks of a row are the same text on both sides, and nothing of a template is in them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers

from llm_distill.distillation.alignment.aligned import aligned
from llm_distill.distillation.alignment.encoding import row_encoder
from llm_distill.models.sources import ModelSource
from llm_distill.rows.unusable import UnusableRowError
from tests.distillation.encoders import (
    SMOLLM2,
    TEMPLATES,
    asked,
    bundled,
    byte_level,
    dummy_prefix,
    encoder,
    template,
)

HARD = "line\r\n日本語 👩‍👩‍👧 e\u0301 <|user|>\tend"


def pieces(a, b, turns):
    """Both sides' chunks as the texts of their tokens, without outer white space."""
    rows = a.encode(turns), b.encode(turns)
    found = aligned(*rows)
    sides = []
    for coder, row, firsts, lasts in (
        (a, rows[0], found.teacher_first, found.teacher_last),
        (b, rows[1], found.student_first, found.student_last),
    ):
        texts = [
            coder.table.text(row.ids[first : last + 1])
            for first, last in zip(firsts, lasts, strict=True)
        ]
        sides.append([text for text, end in zip(texts, found.is_end, strict=True) if not end])
    return found, *sides


def test_a_chats_answer_is_the_same_as_one_after_a_text():
    found, teacher, student = pieces(
        bundled("tiny-teacher", "chat"),
        bundled("tiny-student", "text"),
        asked("What is 3 + 4?", "3 + 4 = 7. So Ann has 17 apples."),
    )
    assert (teacher[0], student[0]) == (b"3", b" 3")
    assert teacher[1:] == student[1:]
    assert b"".join(teacher) == b"3 + 4 = 7. So Ann has 17 apples."
    assert found.is_end.tolist() == [False] * len(teacher) + [True]
    assert found.n_bytes == found.n_bytes_kept == 32


@pytest.mark.parametrize("turns", [asked("a", "3 + 4 = 7.", "b", HARD), HARD])
def test_one_tokenizer_on_both_sides_gives_a_chunk_a_token(turns):
    coder = bundled("tiny-teacher", "chat")
    row = coder.encode(turns)
    found = aligned(row, row)
    in_loss = [
        i for each in row.contents for i in range(each.start, each.end + int(each.is_closed))
    ]
    for tokens in (
        found.teacher_first,
        found.teacher_last,
        found.student_first,
        found.student_last,
    ):
        assert tokens.tolist() == in_loss
        assert tokens.dtype == np.int64


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_chunk_has_text_of_a_template(name):
    teacher = encoder(byte_level("s u", "su m", "o n"), chat_template=TEMPLATES[name])
    student = encoder(byte_level("u m", "Ġ t", "n e"), "text")
    answer = "The sum: The sum. assistant one ton"
    found, a, b = pieces(teacher, student, asked("The sum:", answer))
    assert [text.strip() for text in a] == [text.strip() for text in b]
    assert b"".join(a).strip() == b"".join(b).strip() == answer.encode()
    assert a[0].strip()  # white space that only the formats put there is not a chunk
    assert found.is_end.any() == (name != "its words")


@given(
    st.text(alphabet="ab \n日e\u0301👩", min_size=1).filter(str.strip), st.sampled_from("abcdef")
)
def test_chunks_are_the_shortest_that_whole_tokens_write_on_both_sides(text, choice):
    a = encoder(byte_level("a b", "b a", "Ġ a", bos=True))
    b = encoder(byte_level("b b", "a a", "aa bb" if choice < "d" else "b a", bos=True))
    rows = a.encode(text), b.encode(text)
    found = aligned(*rows)
    (one,), (other,) = (row.contents for row in rows)
    borders = sorted(({*one.ends.tolist()} & {*other.ends.tolist()}) - {0})
    expected_last = [one.start + max(np.flatnonzero(one.ends == end)) for end in borders]
    assert found.teacher_last.tolist() == expected_last
    assert found.student_last.tolist() == [
        other.start + max(np.flatnonzero(other.ends == end)) for end in borders
    ]
    assert found.n_bytes_kept == found.n_bytes == len(text.encode().strip())
    swapped = aligned(rows[1], rows[0])
    assert swapped.teacher_first.tolist() == found.student_first.tolist()
    assert swapped.student_first.tolist() == found.teacher_first.tolist()


def test_bos_on_one_side_leaves_out_the_first_token_of_the_other_only():
    opened = encoder(byte_level("a b", "c d", bos=True))
    alone = encoder(byte_level("c d"))
    found, a, b = pieces(opened, alone, "abcdab")  # [ab, cd, ab], and a | [b, cd, a, b]
    assert a == b == [b"cd", b"ab"]
    assert (found.n_bytes, found.n_bytes_kept) == (6, 4)
    found, a, b = pieces(alone, opened, "abcdab")
    assert a == b == [b"cd", b"ab"]
    _, a, b = pieces(alone, alone, "abcd")
    assert a == b == [b"b", b"cd"]


def test_a_token_with_template_text_costs_its_own_chunk_only():
    crossing = encoder(byte_level("x a", "c y"), chat_template=template("x{{ m.content }}y<|end|>"))
    found, a, b = pieces(crossing, encoder(byte_level("b b")), asked("q", "abbdc"))
    assert a == b == [b"bb", b"d"]  # of [xa, b, b, d, cy] and [a, bb, d, c]
    assert (found.n_bytes, found.n_bytes_kept) == (5, 3)
    assert not found.is_end.any()


@pytest.mark.parametrize("turns", ["a sea. 日本 and more", asked("to", "a sea. 日本 and more")])
@pytest.mark.parametrize("prompt_format", ["chat", "text"])
def test_a_dummy_prefix_against_none(turns, prompt_format):
    a = encoder(dummy_prefix(), prompt_format)
    b = encoder(byte_level("m o", "Ġ a", bos=True), prompt_format)
    found, one, other = pieces(a, b, turns)
    assert [text.strip() for text in one] == [text.strip() for text in other]
    whole = "a sea. 日本 and more".encode()
    missing = 1 if isinstance(turns, str) else 0  # nothing predicts a document's ▁a without BOS
    assert b"".join(other).removeprefix(b" " * (not missing)) == whole[missing:]
    assert found.n_bytes - found.n_bytes_kept == missing


@pytest.mark.parametrize("text", [HARD, "one\r\n\r\ntwo", "👍🏽🏳️‍🌈", "中文,한국어", "العَرَبِيَّة"])
def test_texts_of_every_script_are_aligned_to_the_byte(text):
    a, b = bundled("tiny-teacher", "chat"), bundled("tiny-student", "text")
    found, one, other = pieces(a, b, asked("a", text))
    assert b"".join(one) == b"".join(other).strip() == text.encode()
    assert found.n_bytes_kept == len(text.encode())


def test_a_normaliser_on_one_side_drops_what_it_changes_only():
    composes = encoder(byte_level(normalizer=normalizers.NFC()))
    leaves = encoder(byte_level())
    with pytest.raises(UnusableRowError, match="texts differ after normalisation"):
        aligned(*(coder.encode(asked("a", "cafe\u0301")) for coder in (composes, leaves)))
    _, one, other = pieces(composes, leaves, asked("a", "café"))
    assert b"".join(one) == b"".join(other) == "café".encode()
    # Both change it in the same way, and then they agree.
    _, one, _ = pieces(composes, composes, asked("a", "cafe\u0301"))
    assert b"".join(one) == "café".encode()


def test_end_tokens_are_a_chunk_where_both_sides_have_one():
    closed = encoder(byte_level(bos=True, eos=True))
    found, _, _ = pieces(closed, closed, "ab")
    assert found.is_end.tolist() == [False, False, True]
    assert found.teacher_last[-1] == found.teacher_first[-1] == 3
    found, _, _ = pieces(closed, encoder(byte_level(bos=True)), "ab")
    assert found.is_end.tolist() == [False, False]


def test_no_chunks_are_none_and_no_error():
    found = aligned(*(encoder(byte_level(*merges)).encode("ab c") for merges in ((), ("Ġ c",))))
    assert found.teacher_last.tolist() == [1, 3]
    one = encoder(byte_level()).encode("ab")
    two = encoder(byte_level("a b", bos=True)).encode("ab")
    found = aligned(one, two)
    assert found.n_bytes_kept == len(found.is_end) == 0


@pytest.mark.skipif(not SMOLLM2.is_dir(), reason="python scripts/smollm2.py writes it")
@pytest.mark.parametrize(
    ("name", "prompt_format"), [("tiny-student", "text"), ("tiny-teacher", "chat")]
)
def test_smollm2_against_the_bundled_ones(name, prompt_format):
    teacher = row_encoder(ModelSource("smollm2", str(SMOLLM2)), None)
    student = bundled(name, prompt_format)
    found, one, other = pieces(teacher, student, asked("What is 3 + 4?", "3 + 4 = 7.\n" + HARD))
    assert b"".join(one) == b"".join(other).strip() == ("3 + 4 = 7.\n" + HARD).encode()
    assert found.is_end.tolist() == [False] * len(one) + [True]
