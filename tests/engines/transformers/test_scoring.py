"""Likelihoods of given completions against a forward pass over one row, whole and unpadded."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from llm_distill.engines.base import Score, ScoreRequest
from llm_distill.engines.codec import ScoredTokens
from llm_distill.engines.transformers import scoring
from llm_distill.engines.transformers.engine import BATCHES_AHEAD, TransformersEngine
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource, load_model, load_tokenizer

PAIRS = [
    ("The", " quick brown fox"),
    ("Question: a farmer has twelve apples and gives five away.\nAnswer:", " seven"),
    ("jumps over the lazy dog; 0 1 2", " 3 4 5 6 7 8 9 + - * / = ?! and on until it ends."),
    ("ö", "e"),
    ("The text goes on", ""),
]
REQUESTS = [ScoreRequest(f"r{i}", prompt, text) for i, (prompt, text) in enumerate(PAIRS)]


def scores(source: ModelSource, requests: list[ScoreRequest], batch_size: int) -> dict[str, Score]:
    engine = TransformersEngine(source, TransformersSettings(batch_size=batch_size, device="cpu"))
    given = list(engine.score(requests))
    assert len(given) == len(requests)
    return {score.id: score for score in given}


def brute_force(source: ModelSource, request: ScoreRequest) -> tuple[list[int], torch.Tensor]:
    """The completion's tokens, and the log-softmax of one forward pass at their places."""
    completion = load_tokenizer(source)(request.completion, add_special_tokens=False)["input_ids"]
    return completion, all_logprobs(source, request)[range(len(completion)), completion]


def all_logprobs(source: ModelSource, request: ScoreRequest) -> torch.Tensor:
    """[tokens, vocabulary], at the places of `brute_force`."""
    tokenizer = load_tokenizer(source)
    prompt = tokenizer(str(request.prompt))["input_ids"]
    completion = tokenizer(request.completion, add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        logits = load_model(source)(torch.tensor([prompt + completion])).logits[0].float()
    return logits.log_softmax(-1)[len(prompt) - 1 : -1]


@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("most_logits", [2**26, 1])  # at once, and token by token
def test_scores_are_those_of_a_plain_forward_pass(
    build: Callable[..., ModelSource],
    monkeypatch: pytest.MonkeyPatch,
    batch_size: int,
    most_logits: int,
) -> None:
    monkeypatch.setattr(scoring, "MOST_LOGITS", most_logits)
    source = build(num_key_value_heads=2)
    given = scores(source, REQUESTS, batch_size)
    for request in REQUESTS:
        tokens, expected = brute_force(source, request)
        score = given[request.id]
        assert score.error is None
        assert list(score.token_ids) == tokens
        torch.testing.assert_close(torch.tensor(score.logprobs), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("most_logits", [2**26, 1])
@pytest.mark.parametrize("way", [scoring.score_batch, scoring.score_plainly, scoring.score_sharing])
def test_ranks_count_the_tokens_that_are_likelier(
    tiny: ModelSource, monkeypatch: pytest.MonkeyPatch, most_logits: int, way: Any
) -> None:
    monkeypatch.setattr(scoring, "MOST_LOGITS", most_logits)
    monkeypatch.setattr("llm_distill.engines.transformers.engine.fitting_score", lambda model: way)
    # Requests with and without ranks share a batch.
    requests = [replace(r, ranks=(0, 40, 10**6)[i % 3]) for i, r in enumerate(REQUESTS)]
    given = scores(tiny, requests, 5)
    seen = set()
    for request in requests:
        tokens, chosen = brute_force(tiny, request)
        everything = all_logprobs(tiny, request)
        wanted = [
            min(request.ranks, 1 + int((line > logp).sum()))
            for line, logp in zip(everything, chosen, strict=True)
        ]
        assert list(given[request.id].ranks) == (wanted if request.ranks else [])
        assert len(given[request.id].logprobs) == len(tokens)
        seen |= set(given[request.id].ranks)
    assert max(seen) > 40
    assert 40 in seen
    assert min(seen) < 40


LABELS = [" sports", " a", " politics and law, as in courts", ""]
TEXTS = ["The club won the cup after extra time, and all the town was there.", "A short one."]


def test_labels_of_a_text_are_scored_after_reading_it_once(tiny: ModelSource) -> None:
    """Rows of two texts, and one that is like neither, in one batch of any order."""
    asked = [
        ScoreRequest(f"{i}/{j}", f"Which label fits? {text}\nAnswer:", label, ranks=30 * (j % 2))
        for i, text in enumerate(TEXTS)
        for j, label in enumerate(LABELS)
    ]
    asked.append(ScoreRequest("other", "ö", "e"))
    random.Random(2).shuffle(asked)
    given = scores(tiny, asked, len(asked))
    for request in asked:
        tokens, expected = brute_force(tiny, request)
        score = given[request.id]
        assert list(score.token_ids) == tokens
        torch.testing.assert_close(torch.tensor(score.logprobs), expected, atol=1e-4, rtol=0)
        assert len(score.ranks) == (len(tokens) if request.ranks else 0)


def test_what_is_shared_goes_through_the_model_once(tiny: ModelSource) -> None:
    model = load_model(tiny)
    passed: list[int] = []
    model.register_forward_pre_hook(
        lambda _, args, given: passed.append(given["input_ids"].numel()), with_kwargs=True
    )
    head = list(range(3, 53))
    rows = [ScoredTokens(ScoreRequest("", "", ""), [*head, i, i + 1], 51) for i in range(10)]
    found = scoring.score_sharing(model, rows)
    assert sum(passed) == 50 + 10
    passed.clear()
    assert torch.tensor([of for of, _ in found]) == pytest.approx(
        torch.tensor([of for of, _ in scoring.score_batch(model, rows)]), abs=1e-4
    )
    assert sum(passed) == 10 * 51
    apart = [ScoredTokens(r.request, [i, *r.tokens], 52) for i, r in enumerate(rows)]
    passed.clear()
    scoring.score_sharing(model, apart)  # nothing is shared: as it was
    assert sum(passed) == 10 * 52


def test_ties_share_the_better_rank() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0, 3.0, 5.0]])
    found = [int(scoring.ranks_of(logits, logits[:, i])) for i in range(5)]
    assert found == [5, 2, 2, 2, 1]


def test_learned_positions_are_not_moved_by_padding(tiny: ModelSource, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = load_tokenizer(tiny)
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=96, n_embd=32, n_layer=2, n_head=2, bos_token_id=1
    )
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    source = replace(tiny, path=str(tmp_path))
    given = scores(source, REQUESTS, 5)
    for request in REQUESTS:
        _, expected = brute_force(source, request)
        found = torch.tensor(given[request.id].logprobs)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_the_batch_does_not_change_a_score(tiny: ModelSource) -> None:
    requests = [
        ScoreRequest(f"{r.id}/{i}", str(r.prompt) + "!" * i, r.completion)
        for i in range(4)
        for r in REQUESTS
    ]
    alone = scores(tiny, requests, 1)
    random.Random(1).shuffle(requests)
    together = scores(tiny, requests, 7)
    for key, score in alone.items():
        found = torch.tensor(together[key].logprobs)
        torch.testing.assert_close(found, torch.tensor(score.logprobs), atol=1e-4, rtol=0)


def test_bad_rows_and_chat_prompts(tiny: ModelSource) -> None:
    chat = [{"role": "user", "content": "twelve apples"}]
    requests = [
        ScoreRequest("chat", chat, " seven"),
        ScoreRequest("same", "<|user|>twelve apples<|assistant|>", " seven"),
        ScoreRequest("long", "The", " word" * 200),
    ]
    given = scores(tiny, requests, 2)
    assert given["chat"] == Score(
        "chat", given["same"].token_ids, given["same"].logprobs, given["same"].n_prompt_tokens
    )
    assert "context of 96" in str(given["long"].error)
    assert given["long"].logprobs == ()


def test_token_ids_are_taken_as_they_are(tiny: ModelSource) -> None:
    tokenizer = load_tokenizer(tiny)
    prompt, completion = tokenizer("twelve apples")["input_ids"], tokenizer(" seven")["input_ids"]
    completion = [*completion, tokenizer.eos_token_id]
    by_ids = scores(tiny, [ScoreRequest("r", prompt, completion)], 1)["r"]
    assert by_ids.token_ids == tuple(completion)
    assert by_ids.n_prompt_tokens == len(prompt)
    with torch.no_grad():
        logits = load_model(tiny)(torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
    places = range(len(prompt) - 1, len(prompt) + len(completion) - 1)
    wanted = [float(logits[i, token]) for i, token in zip(places, completion, strict=True)]
    assert by_ids.logprobs == pytest.approx(wanted, abs=1e-4)


def test_requests_are_read_lazily(tiny: ModelSource) -> None:
    read: list[int] = []

    def endless() -> Iterator[ScoreRequest]:
        for index in itertools.count():
            read.append(index)
            yield ScoreRequest(str(index), "The", " fox")

    engine = TransformersEngine(tiny, TransformersSettings(batch_size=2, device="cpu"))
    next(engine.score(endless()))
    assert len(read) == 2 * BATCHES_AHEAD


def test_nan_is_not_a_score(tiny: ModelSource) -> None:
    engine = TransformersEngine(tiny, TransformersSettings(device="cpu"))
    with torch.no_grad():
        engine._model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(ModelError, match="computes NaN"):
        list(engine.score(REQUESTS))
