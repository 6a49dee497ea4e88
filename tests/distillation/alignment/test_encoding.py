"""What is in the loss is found by its bytes, and the tokens are those of training and asking."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_distill.distillation.alignment.encoding import (
    bytes_of_tokens,
    document_of,
    messages_of,
    row_encoder,
    turns_of,
)
from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource
from llm_distill.rows.unusable import UnusableRowError
from llm_distill.training.encoder import pair_encoder
from tests.distillation.encoders import (
    MODELS,
    PLAIN,
    TEMPLATES,
    THINKS,
    asked,
    bundled,
    byte_level,
    dummy_prefix,
    encoder,
    template,
)
from tests.methods import small_tokenizers as small

TALK = asked("Hi", " The sum: 7\n", "More?", "The sum.")


def read(coder, row):
    """Of each content: its text, and what its tokens write."""
    return [
        (content.text.decode(), coder.table.text(row.ids[content.start : content.end]).decode())
        for content in row.contents
    ]


@pytest.mark.parametrize("prompt_format", ["chat", "text"])
@pytest.mark.parametrize("name", ["tiny-teacher", "tiny-student"])
def test_one_question_and_one_answer_are_the_tokens_of_training(name, prompt_format):
    source = ModelSource(name, str(MODELS / name), prompt_format=prompt_format)
    head, tail = pair_encoder(source, 64).encode("What is 3 + 4?\n", " 3 + 4 = 7.\n")
    row = row_encoder(source, 64).encode(asked("What is 3 + 4?\n", " 3 + 4 = 7.\n"))
    assert row.ids.tolist() == [*head, *tail]
    assert row.ids.dtype == np.int32
    (content,) = row.contents
    assert (content.start, content.end) == (len(head), len(head) + len(tail) - 1)
    assert content.is_closed
    assert content.text == b"3 + 4 = 7."


def test_a_system_turn_is_rendered_and_in_no_loss():
    coder = encoder(byte_level())
    turns = [{"role": "system", "content": "Add."}, *asked("1 + 1?", "2")]
    row = coder.encode(turns)
    assert coder.tokenizer.decode(row.ids) == "<|user|>Add.<|user|>1 + 1?<|assistant|>2<|end|>"
    assert read(coder, row) == [("2", "2")]


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_assistant_turn_is_found_whatever_stands_around_it(name):
    coder = encoder(byte_level(), chat_template=TEMPLATES[name])
    row = coder.encode(TALK)
    whole = coder.tokenizer.apply_chat_template(
        [{**turn, "content": turn["content"].strip()} for turn in TALK], tokenize=False
    )
    assert coder.tokenizer.decode(row.ids) == whole.rstrip()
    found = read(coder, row)
    assert [text for text, _ in found] == ["The sum: 7", "The sum."]
    assert [written.strip() for _, written in found] == ["The sum: 7", "The sum."]
    for content in row.contents:
        assert content.begin == 0
        assert content.ends[-1] == len(content.text)
        assert content.is_closed == (name != "its words")


def test_an_answer_in_the_templates_own_words_is_found_in_its_place():
    coder = encoder(byte_level(), chat_template=TEMPLATES["its words"])
    row = coder.encode(asked("a", "sum"))
    (content,) = row.contents
    assert coder.tokenizer.decode(row.ids[: content.start]).endswith("|>The sum:")
    assert coder.tokenizer.decode(row.ids[content.end :]) == "The sum.<|end|>"
    assert content.ends.tolist() == [0, 1, 2, 3, 3]


def test_white_space_around_a_content_writes_nothing_of_it():
    coder = encoder(byte_level(), chat_template=TEMPLATES["new lines"])
    (content,) = coder.encode(asked("a", "bc")).contents
    assert content.ends.tolist() == [0, 0, 1, 2, 2, 2]


def test_empty_thoughts_are_the_templates_and_own_ones_the_answers():
    coder = encoder(byte_level(), chat_template=THINKS)
    row = coder.encode(asked("a", "b"))
    assert coder.tokenizer.decode(row.ids).endswith("<|assistant|><t>\n\n</t>\n\nb<|end|>")
    assert read(coder, row) == [("b", "\n\nb")]
    row = coder.encode(asked("a", "<t>so</t>b"))
    assert read(coder, row) == [("<t>so</t>b", "<t>so</t>b")]


def test_a_template_that_changes_earlier_turns_is_said():
    coder = encoder(byte_level(), chat_template=THINKS)
    with pytest.raises(UnusableRowError, match="changes earlier turns"):
        coder.encode(asked("a", "b", "c", "d"))


def test_tokens_that_also_hold_template_text_are_left_out():
    chat_template = template("x{{ m.content }}y<|end|>")
    coder = encoder(byte_level("x a", "c y"), chat_template=chat_template)
    (content,) = coder.encode(asked("q", "abbc")).contents  # [xa, b, b, cy]
    assert content.text == b"abbc"
    assert content.begin == 1
    assert content.ends.tolist() == [2, 3]
    assert not content.is_closed


def test_plain_text_begins_behind_a_space():
    coder = encoder(byte_level("Ġ 3"), "text")
    (content,) = coder.encode(asked("How many?", "3.")).contents
    assert content.text == b"3."
    assert content.ends.tolist() == [1, 2]


@pytest.mark.parametrize("prompt_format", ["chat", "text"])
def test_a_dummy_prefix_is_no_part_of_a_content(prompt_format):
    coder = encoder(dummy_prefix(), prompt_format)
    (content,) = coder.encode(asked("to", "a sea.")).contents
    assert content.text == b"a sea."
    assert content.ends[0] == 1
    assert coder.encode("a sea.").contents[0].text == b"a sea."


def test_a_documents_first_token_needs_one_before_it():
    alone = encoder(byte_level("a b")).encode("abc")
    assert (alone.contents[0].start, alone.contents[0].begin) == (1, 2)
    assert alone.contents[0].ends.tolist() == [3]
    opened = encoder(byte_level("a b", bos=True)).encode("abc")
    assert (opened.contents[0].start, opened.contents[0].begin) == (1, 0)
    assert opened.contents[0].ends.tolist() == [2, 3]


def test_a_document_is_closed_where_its_tokenizer_closes_it():
    assert not encoder(byte_level(bos=True)).encode("abc").contents[0].is_closed
    row = encoder(byte_level(bos=True, eos=True)).encode("abc")
    assert row.contents[0].is_closed
    assert row.ids[row.contents[0].end] == 1


@given(st.text(min_size=1).filter(str.strip))
def test_the_ends_are_those_of_the_tokens_counted_one_by_one(text):
    coder = encoder(byte_level("a a", "Ġ a", bos=True))
    row = coder.encode(text)
    (content,) = row.contents
    pieces = [coder.table.text([token]) for token in row.ids[content.start : content.end]]
    data = text.encode()
    assert b"".join(pieces) == data
    assert content.text == data.strip()
    outer = len(data) - len(data.lstrip())
    for i, end in enumerate(content.ends):
        assert end == min(max(len(b"".join(pieces[: i + 1])) - outer, 0), len(content.text))


def test_rows_do_not_depend_on_those_before_them():
    coder = bundled("tiny-teacher", "chat")
    rows = [asked("a", "b"), TALK, "Ann has 3 apples."]
    forth = [coder.encode(row).ids.tolist() for row in rows]
    assert [coder.encode(row).ids.tolist() for row in reversed(rows)] == forth[::-1]


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        (asked("a", " \n"), "empty completion"),
        (asked("a", "b", "c", ""), "empty completion"),
        (asked(" ", "b"), "empty prompt"),
        (asked("a"), "no assistant turn"),
        (asked("a", "b<|end|>c"), "end token inside the completion"),
        (asked("a", "b" * 70), "longer than max_length"),
        (asked("a", "b" * 30, "a", "b" * 30), "longer than max_length"),
        ("b" * 70, "longer than max_length"),
        (" \n", "empty text"),
        ("b<|end|>c", "end token inside the text"),
        ("bc<|end|>", "end token inside the text"),
        ("b", "no token that is predicted"),
    ],
)
def test_what_cannot_be_used_says_why(turns, reason):
    with pytest.raises(UnusableRowError, match=reason):
        encoder(byte_level(), max_length=64).encode(turns)


def test_plain_text_takes_no_conversation():
    coder = encoder(byte_level(), "text")
    system = [{"role": "system", "content": "Add."}, *asked("a", "b")]
    for turns in (asked("a", "b", "c", "d"), system):
        with pytest.raises(UnusableRowError, match="one answer; set prompt_format: chat"):
            coder.encode(turns)


def test_a_template_that_refuses_or_rewrites_makes_the_row_unusable():
    refuses = "{% if messages | length > 2 %}{{ raise_exception('no') }}{% endif %}" + PLAIN
    with pytest.raises(UnusableRowError, match="refused by the chat template"):
        encoder(byte_level(), chat_template=refuses).encode(asked("a", "b", "c", "d"))


def test_a_tokenizer_without_bytes_is_named():
    with pytest.raises(ModelError, match=r"model 'bert' \(somewhere\): .*WordPiece"):
        bytes_of_tokens(ModelSource("bert", "somewhere"), small.word_piece())


def test_an_end_beyond_the_tokenizer_changes_nothing(tmp_path):
    """A generation config may name one: of a tokenizer that the model had before, say."""
    source = ModelSource("tiny-teacher", str(tmp_path / "copy"))
    shutil.copytree(MODELS / "tiny-teacher", source.path)
    file = tmp_path / "copy/generation_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"eos_token_id": [config["eos_token_id"], 99999]}))
    changed, plain = row_encoder(source, None), bundled("tiny-teacher", "chat")
    assert 99999 in changed.pairs.ends
    for turns in (asked("What is 3 + 4?", "3 + 4 = 7."), TALK, "Ann has 3 apples."):
        found, expected = changed.encode(turns), plain.encode(turns)
        assert found.ids.tolist() == expected.ids.tolist()
        assert [(c.start, c.end, c.text, c.is_closed) for c in found.contents] == [
            (c.start, c.end, c.text, c.is_closed) for c in expected.contents
        ]
    size = len(plain.table.lengths) + 8
    assert changed.boundary_tokens(size).tolist() == plain.boundary_tokens(size).tolist()


def test_what_ends_a_turn_is_in_b_though_the_tokenizer_does_not_call_it_special():
    tokenizer = byte_level()
    tokenizer.add_tokens(["<turn>"])
    turn, size = tokenizer.convert_tokens_to_ids("<turn>"), len(tokenizer) + 3
    coder = encoder(tokenizer)
    ends = replace(coder, pairs=replace(coder.pairs, ends=frozenset({1, turn})))
    assert not coder.boundary_tokens(size)[turn]
    assert ends.boundary_tokens(size)[turn]
    assert np.flatnonzero(coder.boundary_tokens(size) != ends.boundary_tokens(size)).tolist() == [
        turn
    ]


def test_max_length_counts_all_tokens():
    coder = encoder(byte_level())
    n = len(coder.encode(TALK).ids)
    exact = replace(coder, pairs=replace(coder.pairs, max_length=n))
    assert len(exact.encode(TALK).ids) == n
    with pytest.raises(UnusableRowError, match="longer than max_length"):
        replace(coder, pairs=replace(coder.pairs, max_length=n - 1)).encode(TALK)


def test_turns_come_from_a_prompt_and_its_answer_from_messages_or_from_a_text():
    row = {"q": "1 + 1?", "completion": "2", "messages": TALK, "text": "Ann."}
    assert turns_of(row, "completion", lambda row: row["q"]) == asked("1 + 1?", "2")
    assert messages_of(row, "messages") == TALK
    assert document_of(row, "text") == "Ann."


def answer_of(row, column):
    return turns_of(row, column, lambda row: row["p"])


@pytest.mark.parametrize(
    ("row", "read", "reason"),
    [
        ({"p": None, "completion": "2"}, answer_of, "empty prompt"),
        ({"p": "a", "completion": None}, answer_of, "empty completion"),
        ({"p": "a", "completion": 7}, answer_of, "completion holds int, not text"),
        ({"messages": []}, messages_of, "empty messages"),
        ({"messages": [{"role": "user"}]}, messages_of, "content should be text, but is None"),
        ({"messages": [{"content": "a"}]}, messages_of, "unknown role None"),
        ({"messages": 3}, messages_of, "a conversation holds no turns: 3"),
        ({"messages": "hello"}, messages_of, r"^messages holds text, not messages \(text_column"),
        ({"text": None}, document_of, "empty text"),
        ({"text": TALK}, document_of, r"^text holds a list, not text \(messages_column reads mess"),
        ({"text": 0}, document_of, "^text holds int, not text$"),
    ],
)
def test_rows_without_turns_say_why(row, read, reason):
    with pytest.raises(UnusableRowError, match=reason):
        read(row, next(name for name in row if name != "p"))


@pytest.mark.parametrize("prompt_format", ["chat", "text"])
@pytest.mark.parametrize("name", ["tiny-teacher", "tiny-student"])
def test_a_text_that_goes_on_has_no_end(name, prompt_format):
    """What is before its end stays as it is, in the last turn and in those before."""
    coder = row_encoder(ModelSource(name, str(MODELS / name), prompt_format=prompt_format), 64)
    turns = asked("What is 3 + 4?", "3 + 4 = 7.")
    whole, cut = coder.encode(turns), coder.encode(turns, is_open=True)
    assert cut.ids.tolist() == whole.ids[: whole.contents[-1].end].tolist()
    assert not coder.pairs.ends & {*cut.ids[cut.contents[0].start :].tolist()}
    assert not cut.contents[-1].is_closed
    assert read(coder, cut) == read(coder, whole)
    if prompt_format == "chat":
        talk = coder.encode(TALK, is_open=True)
        assert [content.is_closed for content in talk.contents] == [True, False]
