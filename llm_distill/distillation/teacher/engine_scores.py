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
    from numpy.typing import NDArray

    from llm_distill.rows.columns import Row

IMPOSSIBLE = "the model gives a token, or the end of a word, no probability at all"
"""Why a text has no scores, where the model masks a part of its vocabulary, or its template."""
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
            yield score_request(row["id"], encoded.ids, in_loss(encoded), top_k or 0)

    for _, score in ask(requests()):
        row, encoded = waiting.popleft()
        if score.error is not None:
            yield row, encoded, score.error
            continue
        logps = token_logps(score, in_loss(encoded), name, row["id"])
        if isinstance(logps, str):
            yield row, encoded, logps
            continue
        scores: Scores = {"teacher_logps": logps}
        if top_k:
            places = in_loss(encoded)
            within = places - places[0]
            ids = np.asarray(score.top_ids, np.int32).reshape(-1, top_k)
            top = np.asarray(score.top_logprobs, np.float32).reshape(-1, top_k)
            scores["teacher_top_ids"] = ids[within].ravel()
            scores["teacher_top_logps"] = top[within].ravel()
        yield row, encoded, scores


def score_request(
    identity: str, ids: NDArray[np.int32], places: NDArray[np.int64], top_k: int = 0
) -> ScoreRequest:
    """What asks for the likelihoods of the tokens at `places`, which ascend, of a text's `ids`."""
    first, last = int(places[0]), int(places[-1])
    tokens = ids.tolist()
    return ScoreRequest(identity, tokens[:first], tokens[first : last + 1], top_k=top_k)


def token_logps(
    score: Score, places: NDArray[np.int64], name: str, row: str
) -> NDArray[np.float32] | str:
    """The log-probability of each token at `places`, as `score_request` asked; or why not.

    Raises:
        ModelError: one is not a number. name, row: of the model and the text, for the message.
    """
    logps: NDArray[np.float32] = np.asarray(score.logprobs, np.float32)[places - places[0]]
    if np.isneginf(logps).any():  # as of a template that the model was never shown
        return IMPOSSIBLE
    bad = [logp for logp in logps.tolist() if not math.isfinite(logp)]
    if bad:
        raise ModelError(
            f"model '{name}' computes {bad[0]} for row '{row}'; try another dtype for it"
        )
    return logps
