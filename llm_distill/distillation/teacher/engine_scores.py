"""A teacher's log-probabilities from the engine that it writes with, vLLM say.

An engine tells how likely each token of a text is, and not how likely a word ends after it (the
likeliest few tokens of vLLM would only be a lower bound). So this is for ALM without debiasing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from llm_distill.distillation.alignment.encoding import EncodedRow, in_loss
from llm_distill.distillation.teacher.scoring import Scores
from llm_distill.engines.base import Score, ScoreRequest
from llm_distill.errors import ModelError

if TYPE_CHECKING:
    from llm_distill.rows.columns import Row

Ask = Callable[[Iterable[ScoreRequest]], Iterator[tuple[ScoreRequest, Score]]]


def engine_scores(
    pairs: Iterable[tuple[Row, EncodedRow]], ask: Ask, name: str, top_k: int | None = None
) -> Iterator[tuple[Row, EncodedRow, Scores | str]]:
    """Each row with its scores as `TeacherScorer` gives them, or why it has none; in order.

    ask: gives each request its score, in order. name: of the model, for messages. top_k: likeliest
    tokens at each place; None: do not tell them.

    Raises:
        ModelError: a score is not finite.
    """
    waiting: deque[tuple[Row, EncodedRow]] = deque()

    def requests() -> Iterator[ScoreRequest]:
        for row, encoded in pairs:
            waiting.append((row, encoded))
            places, ids = in_loss(encoded), encoded.ids.tolist()
            first, last = places[0], places[-1]
            scored = ids[first : last + 1]
            yield ScoreRequest(row["id"], ids[:first], scored, top_k=top_k or 0)

    for _, score in ask(requests()):
        row, encoded = waiting.popleft()
        if score.error is not None:
            yield row, encoded, score.error
            continue
        places = in_loss(encoded)
        within = places - places[0]
        logps = np.asarray(score.logprobs, np.float32)[within]
        if np.isneginf(logps).any():  # as of a template that the model was never shown
            yield row, encoded, "the model gives one of its tokens no probability at all"
            continue
        bad = [logp for logp in logps.tolist() if not math.isfinite(logp)]
        if bad:
            raise ModelError(
                f"model '{name}' computes {bad[0]} for row '{row['id']}'; try another dtype for it"
            )
        scores: Scores = {"teacher_logps": logps}
        if top_k:
            ids = np.asarray(score.top_ids, np.int32).reshape(-1, top_k)
            top = np.asarray(score.top_logprobs, np.float32).reshape(-1, top_k)
            scores["teacher_top_ids"] = ids[within].ravel()
            scores["teacher_top_logps"] = top[within].ravel()
        yield row, encoded, scores
