"""Requests as tokens and tokens as text, without a model."""

from __future__ import annotations

from typing import Any

import pytest

from llm_distill.engines.base import Completion, Request, SamplingSettings, Score, ScoreRequest
from llm_distill.engines.codec import Codec, Prompt, ScoredTokens
from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource, load_tokenizer

LONG = "The quick brown fox jumps over the lazy dog; 0 1 2 3 4 5 6 7 8 9"


def codec(source: ModelSource, context: int, long_prompt: Any = "skip") -> Codec:
    return Codec("tiny", load_tokenizer(source), frozenset({2}), context, long_prompt)


def asking(prompt: str, max_tokens: int = 4) -> Request:
    return Request("a", prompt, SamplingSettings(max_tokens=max_tokens))


def test_a_prompt_leaves_room_or_is_long(tiny: ModelSource) -> None:
    tokens = load_tokenizer(tiny)(LONG)["input_ids"]
    fits = codec(tiny, len(tokens) + 1).read(asking(LONG))
    assert isinstance(fits, Prompt)
    assert (fits.tokens, fits.limit) == (tokens, 1)
    skipped = codec(tiny, len(tokens)).read(asking(LONG))
    assert isinstance(skipped, Completion)
    assert skipped.n_prompt_tokens == len(tokens)
    assert f"context of {len(tokens)}" in str(skipped.error)


def test_truncation_keeps_the_end_and_leaves_room_for_the_completion(tiny: ModelSource) -> None:
    tokens = load_tokenizer(tiny)(LONG)["input_ids"]
    cut = codec(tiny, 10, "truncate").read(asking(LONG, max_tokens=4))
    assert isinstance(cut, Prompt)
    assert (cut.tokens, cut.limit) == (tokens[-6:], 4)
    greedy_for_room = codec(tiny, 10, "truncate").read(asking(LONG, max_tokens=500))
    assert isinstance(greedy_for_room, Prompt)
    assert (greedy_for_room.tokens, greedy_for_room.limit) == (tokens[-5:], 5)


def test_a_long_prompt_may_fail_and_names_its_row(tiny: ModelSource) -> None:
    with pytest.raises(ModelError, match=r"request 'a'.*context of 10.*long_prompt: skip"):
        codec(tiny, 10, "fail").read(asking(LONG))


def test_what_is_scored_is_the_prompt_and_then_the_completion(tiny: ModelSource) -> None:
    tokenizer = load_tokenizer(tiny)
    prompt = tokenizer(LONG)["input_ids"]
    completion = tokenizer(" apples", add_special_tokens=False)["input_ids"]
    whole = len(prompt) + len(completion)
    asked = ScoreRequest("a", LONG, " apples")
    assert codec(tiny, whole).read_scored(asked) == ScoredTokens(
        asked, prompt + completion, len(prompt)
    )
    skipped = codec(tiny, whole - 1).read_scored(asked)
    assert isinstance(skipped, Score)
    assert f"context of {whole - 1}" in str(skipped.error)
    cut = codec(tiny, whole - 1, "truncate").read_scored(asked)
    assert cut == ScoredTokens(asked, prompt[1:] + completion, len(prompt) - 1)
    # No end of the prompt is left to keep.
    assert isinstance(codec(tiny, len(completion), "truncate").read_scored(asked), Score)


def test_a_completion_without_tokens_has_no_logprobs(tiny: ModelSource) -> None:
    score = codec(tiny, 96).read_scored(ScoreRequest("a", "The", ""))
    assert isinstance(score, Score)
    assert (score.token_ids, score.logprobs, score.error) == ((), (), None)


def test_the_space_before_the_first_word_is_kept() -> None:
    """With a tokenizer that drops it from a text's start, as Llama 2's does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.BPE({"a": 0, "\u2581": 1, "b": 2, "\u2581b": 3}, [("\u2581", "b")]))
    words.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    words.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)
    assert tokenizer.decode([3, 2]) == "bb"
    assert Codec("words", tokenizer, frozenset(), 96, "skip").text([3, 2]) == " bb"
