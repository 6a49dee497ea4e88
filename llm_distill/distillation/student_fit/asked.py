"""What the student's engine says of the tokens that count, row by row."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from llm_distill.distillation.student_fit.texts import ScoredText
from llm_distill.engines.base import Score, ScoreRequest
from llm_distill.errors import ModelError
from llm_distill.rows.columns import Row

Ask = Callable[[Iterable[ScoreRequest]], Iterator[tuple[ScoreRequest, Score]]]
Told = tuple[list[float], list[int]]
"""Of the tokens of a text that count: log-probabilities in nats, and ranks where they are asked."""


def asked(
    pairs: Iterable[tuple[Row, Sequence[ScoredText]]], ask: Ask, name: str, ranks: int
) -> Iterator[list[Told] | Score]:
    """Of each row's texts what the engine says of them, or a score with an error; in order.

    ask: gives each request its score, in order. name: of the model, for messages. ranks: see
        `ScoreRequest`.

    Raises:
        ModelError: a log-probability is not finite.
    """
    waiting: deque[tuple[Row, Sequence[ScoredText]]] = deque()

    def requests() -> Iterator[ScoreRequest]:
        for row, texts in pairs:
            waiting.append((row, texts))
            for number, text in enumerate(texts):
                yield ScoreRequest(f"{row['id']}/{number}", text.prompt, text.completion, ranks)

    scores: list[Score] = []
    for _, score in ask(requests()):
        row, texts = waiting[0]
        scores.append(_whole(score, texts[len(scores)]))
        if len(scores) < len(texts):
            continue
        failed = next((score for score in scores if score.error is not None), None)
        told = zip(texts, scores, strict=True)
        yield failed or [_of_places(text, score, name, row) for text, score in told]
        waiting.popleft()
        scores = []


def _whole(score: Score, text: ScoredText) -> Score:
    """The score; with an error where the engine has cut the prompt (long_prompt: truncate)."""
    if score.error is None and score.n_prompt_tokens != len(text.prompt):
        return replace(score, error="it is longer than the engine's context")
    return score


def _of_places(text: ScoredText, score: Score, name: str, row: Row) -> Told:
    logps = [score.logprobs[place] for place in text.places]
    bad = [logp for logp in logps if not math.isfinite(logp)]
    if bad:
        raise ModelError(
            f"model '{name}' computes {bad[0]} for row '{row['id']}'; try another dtype for it"
        )
    return logps, [score.ranks[place] for place in text.places] if score.ranks else []
