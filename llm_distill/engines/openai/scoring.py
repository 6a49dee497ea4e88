"""Likelihoods of given texts from vLLM's server, and whether a server gives them as they are.

Of a text's tokens all but the last are the prompt, whose log-probabilities are asked for, and the
last is the only one that may be written, so that a text which fills the context can be scored too.
Ids are sent, which a server takes as they are; for a text it would use a tokenizer of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llm_distill.engines.base import Score, ScoreRequest
from llm_distill.engines.codec import ScoredTokens
from llm_distill.engines.openai.answers import (
    BadAnswerError,
    UnfitServerError,
    read_object,
    read_usage,
)
from llm_distill.engines.openai.exchange import Usage
from llm_distill.engines.scored import MOST_ABOVE_ZERO, Place, n_likeliest, score_of

if TYPE_CHECKING:
    from llm_distill.engines.openai.settings import OpenAISettings

IMPOSSIBLE = -9999.0
"""What vLLM writes for minus infinity, which JSON has not."""
MOST_APART = 1.0
"""In nats, what one token may have as the last that is read and as the first that is written."""
RAW = "start it with --logprobs-mode raw_logprobs"
WHOLE = (
    "start it with a --max-model-len that holds them, and without a setting that truncates "
    "(truncate_prompt_tokens)"
)
ID = "token_id:"
PROBE = "The probe 1 + 1 = 2, naïve “quotes”, 你好,\n\tABC def? End."
"""What tells one tokenizer from another: digits, white space, marks, letters of several scripts."""


class _Asking:
    """What is common to both kinds of request.

    asked: for its id and for where it goes. own: fields of the body. at: see `Exchange`.
    """

    endpoint = "completions"
    max_tokens = 1
    has_structure = False

    def __init__(
        self, asked: ScoreRequest, most_prompt_tokens: int, own: dict[str, Any], at: str | None
    ) -> None:
        self.asked, self.most_prompt_tokens, self._own = asked, most_prompt_tokens, own
        self.at = at

    def body(self, model: str, settings: OpenAISettings) -> dict[str, Any]:
        sent = {"model": model, "max_tokens": 1, "temperature": 0, **self._own}
        sent |= settings.extra_body
        return {name: value for name, value in sent.items() if name not in settings.leave_out}

    def fields(self) -> None:
        return None  # a server that does not take one of them is told apart by `Probe`

    def failed(self, why: str, *, is_passing: bool = False) -> Score:
        return Score(self.asked.id, error=why, is_passing=is_passing)


class Scoring(_Asking):
    """The likelihoods of a completion's tokens, whose ids are sent.

    n_likeliest: how many of the likeliest tokens are asked for at each place.
    """

    def __init__(self, row: ScoredTokens, at: str | None = None) -> None:
        n_top, tokens = n_likeliest(row), row.tokens
        own: dict[str, Any] = {
            "prompt": tokens[:-1],
            "allowed_token_ids": tokens[-1:],
            "logprobs": n_top,
            "return_tokens_as_token_ids": True,
        }
        if row.start < len(tokens) - 1:
            own["prompt_logprobs"] = n_top
        super().__init__(row.request, len(tokens) - 1, own, at)
        self._row, self.n_likeliest = row, n_top

    def read(self, content: bytes) -> tuple[Score, Usage | None]:
        answer = read_object(content)
        row, usage = self._row, read_usage(answer)
        try:
            places = [*self._places_of_prompt(answer), _written(answer)]
            score = _checked(row, places)
        except BadAnswerError as error:
            return self.failed(str(error)), usage
        n_sent = len(row.tokens) - 1
        if usage is not None and usage[0] < n_sent:  # all that tells it where one token is scored
            raise _cuts(n_sent, usage[0])
        return score, usage

    def _places_of_prompt(self, answer: dict[str, Any]) -> list[Place]:
        """Those of the completion, but for the last."""
        row = self._row
        if row.start == len(row.tokens) - 1:
            return []
        given = _prompt_logprobs(answer)
        if len(given) < len(row.tokens) - 1:
            raise _cuts(len(row.tokens) - 1, len(given))
        if len(given) > len(row.tokens) - 1:
            raise BadAnswerError(
                f"the answer is about {len(given)} tokens: {len(row.tokens) - 1} were sent"
            )
        return [_place(each) for each in given[row.start :]]


class Reading(_Asking):
    """The token ids that a server makes of a text, without its special tokens.

    The score's ids are those after the first, which has no log-probability.
    """

    def __init__(self, text: str = PROBE, at: str | None = None) -> None:
        own = {"prompt": text, "add_special_tokens": False, "prompt_logprobs": 0}
        super().__init__(ScoreRequest("probe", text, ""), len(text.encode()), own, at)

    def read(self, content: bytes) -> tuple[Score, Usage | None]:
        answer = read_object(content)
        usage = read_usage(answer)
        try:
            places = [_place(each) for each in _prompt_logprobs(answer)[1:]]
        except BadAnswerError as error:
            return self.failed(str(error)), usage
        ids = tuple(next(iter(place)) for place in places)
        logprobs = tuple(place[id_] for place, id_ in zip(places, ids, strict=True))
        return Score("probe", ids, logprobs, 1), usage


@dataclass(frozen=True)
class Probe:
    """What a server has to answer before anything is scored there.

    place: of the model's tokenizer, for messages. ids: of `PROBE`, by that.
    """

    place: str
    ids: Sequence[int]

    def forced(self, ranks: int, top_k: int, at: str | None = None) -> Scoring:
        """The same text as its rows will be asked."""
        request = ScoreRequest("probe", self.ids[:1], self.ids[1:], ranks, top_k)
        return Scoring(ScoredTokens(request, [*self.ids], 1), at)

    def why_not(self, read: Score, forced: Score, n_likeliest: int) -> str | None:
        """Why its likelihoods cannot be used, and what to do; None: they can.

        n_likeliest: how many of the likeliest tokens were asked for at each place.
        """
        passing = next((each.error for each in (read, forced) if each.is_passing), None)
        if passing is not None:
            return f"its server did not answer what it was asked first: {passing}; run it again"
        if read.error is not None:
            return (
                f"its server gives no log-probabilities of given texts (prompt_logprobs), as "
                f"vLLM's does: {read.error}; score with kind: transformers or vllm"
            )
        n_read, n_sent = len(read.token_ids) + 1, len(self.ids)
        if n_read < n_sent and read.token_ids == tuple(self.ids[1 - n_read :]):
            cut = _cuts(n_sent, n_read)
            return f"{cut}; {cut.todo}"
        if read.token_ids != tuple(self.ids[1:]):
            return (
                f"its server has another tokenizer than {self.place}: it reads a text as "
                f"{_some(read.token_ids)}, and that as {_some(self.ids[1:])}; let "
                "model_name_or_path name the model that is served (its revision too), and "
                "engine.model what the server calls it"
            )
        if forced.error is not None:
            todo = "score with kind: transformers or vllm"
            if n_likeliest:
                todo = f"start it with --max-logprobs {n_likeliest}, or more, or {todo}"
            return f"its server does not score token ids as they are needed: {forced.error}; {todo}"
        last, same = forced.logprobs[-1], read.logprobs[-1]
        if (last == 0.0 and abs(same) > 0.01) or abs(last - same) > MOST_APART:
            return (
                f"its server gives a token {last:.3g} where it writes it and {same:.3g} where it "
                f"reads it, so one of them is no log-probability of the model's own; {RAW}"
            )
        return None


def _cuts(n_sent: int, n_read: int) -> UnfitServerError:
    said = f"of {n_sent} tokens of a text its server read {n_read}: it cuts texts"
    return UnfitServerError(said, WHOLE)


def _some(ids: Sequence[int]) -> str:
    return f"{list(ids[:8])}…"


def _prompt_logprobs(answer: dict[str, Any]) -> list[Any]:
    choice = _choice(answer)
    given = choice.get("prompt_logprobs", answer.get("prompt_logprobs"))
    if not isinstance(given, list):
        raise BadAnswerError("the answer has no prompt_logprobs")
    return given


def _choice(answer: dict[str, Any]) -> dict[str, Any]:
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        raise BadAnswerError("the answer has no choices")
    return choice


def _place(given: Any) -> Place:
    try:
        found = {int(token): _logprob(entry["logprob"]) for token, entry in given.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadAnswerError("the answer's prompt_logprobs are not vLLM's") from error
    if not found:
        raise BadAnswerError("the answer's prompt_logprobs are empty")
    return found


def _written(answer: dict[str, Any]) -> Place:
    """Of the one token that may be written, and the likeliest in its place."""
    given: Any = _choice(answer).get("logprobs")
    try:
        found = {_id(given["tokens"][0]): _logprob(given["token_logprobs"][0])}
        top = (given.get("top_logprobs") or [None])[0] or {}
        return {_id(token): _logprob(value) for token, value in top.items()} | found
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise BadAnswerError("the answer's logprobs are not vLLM's, with ids as tokens") from error


def _id(token: str) -> int:
    if not token.startswith(ID):
        raise ValueError(token)
    return int(token.removeprefix(ID))


def _logprob(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(value)
    if value > MOST_ABOVE_ZERO:
        raise UnfitServerError(f"it gives {value:g} as a log-probability, which is above 0", RAW)
    return -math.inf if value <= IMPOSSIBLE else float(value)


def _checked(row: ScoredTokens, places: Sequence[Place]) -> Score:
    """Raises:
    BadAnswerError: what was asked for is not there.
    """
    for token, place in zip(row.tokens[row.start :], places, strict=True):
        if token not in place:
            raise BadAnswerError(f"the answer is about other tokens: {token} was sent")
        if len(place) < row.request.top_k:
            raise BadAnswerError(f"the answer has fewer than {row.request.top_k} tokens at a place")
    return score_of(row, places)
