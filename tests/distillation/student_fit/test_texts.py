"""Which tokens count: of an answer alone, and of a question to which one is compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llm_distill.distillation.student_fit.hidden import hidden_text
from llm_distill.distillation.student_fit.texts import bare_opening, scored_texts
from llm_distill.methods.chat_format import ChatFormat
from llm_distill.models.sources import ModelSource, load_tokenizer
from llm_distill.rows.unusable import UnusableRowError
from llm_distill.training.encoder import PairEncoder, pair_encoder
from tests.distillation.tiny import make_student

CHATML = (
    "{% for m in messages %}<|{{ m.role }}|> says: {{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|> says: {% endif %}"
)


def encoder(template: str, **changes: Any) -> PairEncoder:
    source = ModelSource("student", "data/models/tiny-student", prompt_format="chat")
    made = pair_encoder(source, 10**9)
    tokenizer: Any = load_tokenizer(source)
    tokenizer.chat_template = template
    return replace(made, tokenizer=tokenizer, chat=ChatFormat(tokenizer), **changes)


def test_an_answer_alone_comes_after_what_opens_answers() -> None:
    made = encoder(CHATML)
    opening = bare_opening(made)
    assert made.tokenizer.decode(opening.ids) == "<|assistant|> says: "
    head, _ = made.encode("2 + 2?", "4.")
    assert head[-len(opening.header) :] == opening.header


def test_a_template_that_says_more_of_what_is_asked_last() -> None:
    """Where what opens an answer is not what is added, it is what comes after the question."""
    changed = CHATML.replace("{% for m", "{% if add_generation_prompt %}Reply. {% endif %}{% for m")
    opening = bare_opening(encoder(changed))
    assert encoder(changed).tokenizer.decode(opening.ids) == "<|end|>\n<|assistant|> says: "


def test_a_token_that_begins_texts_begins_an_answer_alone(tmp_path: Any) -> None:
    made = encoder("<|pad|>" + CHATML)
    made.tokenizer.bos_token = "<|pad|>"
    assert made.tokenizer.decode(bare_opening(made).ids) == "<|pad|><|assistant|> says: "
    source = make_student(tmp_path)
    plain = pair_encoder(replace(source, prompt_format="text"), 10**9)
    assert len(bare_opening(plain).ids) == 1


def test_every_turn_counts_once() -> None:
    made = encoder(CHATML)
    talk = [
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "4."},
        {"role": "user", "content": "And 3?"},
        {"role": "assistant", "content": "7."},
    ]
    source = ModelSource("student", "data/models/tiny-student", prompt_format="chat")
    for each, n_texts in ((made, 2), (pair_encoder(source, 10**9), 1)):
        texts = scored_texts(each.conversation(talk))  # type: ignore[arg-type]
        assert len(texts) == n_texts
        said = [text.completion[place] for text in texts for place in text.places]
        assert each.tokenizer.decode(said).replace(" ", "") == "4.<|end|>7.<|end|>"


def test_special_tokens_and_what_opens_answers_are_not_compared() -> None:
    # <s> q1 q2 <e> header header | a <e>
    text = hidden_text([1, 10, 11, 2, 1, 50], [20, 2], [1, 50], frozenset({1, 2}))
    assert text.ids.tolist() == [1, 10, 11, 2, 1, 50, 20, 2]
    assert text.answer.tolist() == [6, 7]
    assert text.like_answer.tolist() == [6]
    assert text.prompt.tolist() == text.like_prompt.tolist() == [1, 2]
    bare = hidden_text([10, 11], [20, 21], [], frozenset())
    assert (bare.prompt.tolist(), bare.like_prompt.tolist()) == ([1], [0, 1])
    with pytest.raises(UnusableRowError, match="an answer of special tokens only"):
        hidden_text([1, 10], [2], [], frozenset({1, 2}))
    with pytest.raises(UnusableRowError, match="a prompt without a token that is predicted"):
        hidden_text([10], [20], [], frozenset())
