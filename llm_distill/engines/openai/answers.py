"""Answers as OpenAI's protocol has them: completions, and what an error means. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NoReturn

from llm_distill.engines.base import Completion, FinishReason, Request
from llm_distill.rows.messages import read_calls, read_reasoning, savable, text_of_parts
from llm_distill.secrets import without_secrets

Verdict = Literal["retry", "bad row", "fatal"]

MOST_WORDS = 300
BUSY = {408, 409, 425, 429}
OF_THE_ROW = {400, 413, 422}
TOO_LONG = (
    "context length",
    "context_length",
    "context size",
    "context window",
    "context_window",
    "maximum model length",
    "max_model_len",
    "prompt is too long",
    "string_above_max_length",
)
STRUCTURE = ("schema", "response_format", "structured", "regex", "choice", "grammar", "guided")
PROMPT_FIELDS = {"messages", "prompt", "input"}
FLAGGED = ("flagged", "moderation", "content policy", "content_policy", "safety", "violat")
MOST_TOKENS = 2**31 - 1
CUT = {"length", "max_tokens", "max_length"}
"""Words of servers for an answer that `max_tokens` cut; all others are a stop."""
_NAMED = re.compile(
    r"(?:argument|parameter|field|setting)s?(?: supplied)?\W+(?P<field>[a-z_]+)"
    r"|['\"`](?P<quoted>[a-z_]+)['\"`]"
    r"|\b(?P<bare>thinking_token_budget)\b",  # as vLLM says it without a reasoning parser
    re.IGNORECASE,
)


class BadAnswerError(Exception):
    """An answer that is not a completion."""


class UnfitServerError(Exception):
    """An answer with status 200 that says that no other of this server is of use.

    Attributes:
        todo: what to do about it.
    """

    def __init__(self, reason: str, todo: str) -> None:
        super().__init__(reason)
        self.todo = todo


class PassingError(Exception):
    """An answer with status 200 that says that something failed: another attempt may not.

    Attributes:
        refusal: what the server says, if it says it as an error.
    """

    def __init__(self, reason: str, refusal: Refusal | None = None) -> None:
        super().__init__(reason)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is an error, in the server's words (one line, cut)."""

    status: int
    words: str
    code: str = ""
    field: str = ""


def read_answer(request: Request, body: bytes) -> tuple[Completion, bool]:
    """The completion in an answer with status 200, without its cost; and whether usage is known.

    What stands beside the text never decides over it: a usage that makes no sense is unknown, and a
    `finish_reason` that is not known is a stop. An answer without text is a completion with an
    error.

    Raises:
        BadAnswerError: it is not a JSON object.
        PassingError: it says that something failed.
    """
    answer = read_object(body)
    usage = read_usage(answer)
    try:
        completion = _read_choice(request, answer)
    except BadAnswerError as error:
        completion = Completion(request.id, "", "error", error=str(error))
    n_prompt, n_completion = usage or (0, 0)
    counted = replace(completion, n_prompt_tokens=n_prompt, n_completion_tokens=n_completion)
    return counted, usage is not None


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object of an answer.

    Raises:
        BadAnswerError: it is none.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadAnswerError(f"the answer is not JSON: {_shown(body)}") from error
    if not isinstance(answer, dict):
        raise BadAnswerError(f"the answer is not a JSON object: {_shown(body)}")
    return answer


def read_usage(answer: dict[str, Any]) -> tuple[int, int] | None:
    """Prompt tokens and completion tokens, if they are known."""
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return None
    counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
    for n in counts:
        if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n <= MOST_TOKENS:
            return None
    return counts  # type: ignore[return-value]


def _read_choice(request: Request, answer: dict[str, Any]) -> Completion:
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    for holder in (answer, choice):
        if isinstance(holder, dict) and holder.get("error"):
            _raise_passing(holder)
    if choices == []:
        raise PassingError("the answer has no choices")
    if choice is None:
        choice = _typed(answer, "choices", list)
    reason = str(choice.get("finish_reason") if isinstance(choice, dict) else "").casefold()
    if not request.is_chat:
        holder, field = choice, "text"
    else:
        holder, field = _typed(choice, "message", dict), "content"
        refusal = holder.get("refusal")
        if refusal:
            raise BadAnswerError(f"the model refused: {_line(str(refusal))}")
    if reason == "error":
        raise PassingError("the answer ends with finish_reason error")
    if reason == "content_filter":
        raise BadAnswerError("the server's content filter stopped the answer (content_filter)")
    text = _text_of(holder, field)
    calls = read_calls(holder)
    # A text may go on with nothing; a turn without a word and without a call is no answer, but
    # where its tokens are asked for, which are then that of the end alone.
    is_silent = text is None or (request.is_chat and not text.strip())
    if is_silent and not calls and not request.tokens:
        shown = choice.get("finish_reason") if isinstance(choice, dict) else None
        raise BadAnswerError(f"the answer has no text: {field} is empty (finish_reason {shown})")
    ended: FinishReason = "length" if reason in CUT else "stop"
    logprobs = _read_logprobs(request, choice) if request.wants_logprobs else None
    return Completion(
        request.id,
        savable(text or ""),
        ended,
        logprobs=logprobs,
        reasoning=savable(read_reasoning(holder) or "") or None,
        tool_calls=tuple(calls) or None,
        token_ids=_read_ids(choice, logprobs or ()) if request.tokens else None,
    )


def _text_of(holder: Any, field: str) -> str | None:
    """The text, also in parts, of which thoughts are not the answer; None for null."""
    value = holder.get(field) if isinstance(holder, dict) else None
    if isinstance(value, list):
        return text_of_parts(value)
    if isinstance(holder, dict) and field in holder and value is None:
        return None
    text: str = _typed(holder, field, str)
    return text


def _raise_passing(holder: dict[str, Any]) -> NoReturn:
    error = holder["error"]
    code = error.get("code") if isinstance(error, dict) else None
    status = code if type(code) is int and 400 <= code < 600 else 500
    refusal = _refusal(status, holder)
    raise PassingError(f"with an error inside: {refusal.words}", refusal)


def _read_logprobs(request: Request, choice: Any) -> tuple[float, ...]:
    given = _typed(choice, "logprobs", dict)
    if not request.is_chat:
        values = _typed(given, "token_logprobs", list)
    else:
        values = [_typed(token, "logprob", float) for token in _typed(given, "content", list)]
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise BadAnswerError(f"the answer has no log-probabilities: got {value!r}")
    return tuple(map(float, values))


def _read_ids(choice: Any, logprobs: Sequence[float]) -> tuple[int, ...]:
    ids = _typed(choice, "token_ids", list)
    for value in ids:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_TOKENS:
            raise BadAnswerError(f"the answer's token_ids hold {value!r}")
    if len(ids) != len(logprobs):
        raise BadAnswerError(
            f"the answer has {len(ids)} token_ids and {len(logprobs)} log-probabilities"
        )
    return tuple(ids)


def _typed(holder: Any, field: str, kind: type) -> Any:
    if not isinstance(holder, dict):
        raise BadAnswerError(
            f"the answer has no {field}: expected an object, got {_line(repr(holder))}"
        )
    if field not in holder:
        raise BadAnswerError(f"the answer has no {field}")
    value = holder[field]
    is_number = kind is float and isinstance(value, int)
    if isinstance(value, bool) or not (isinstance(value, kind) or is_number):
        raise BadAnswerError(f"the answer's {field} is {_line(repr(value))}, not {kind.__name__}")
    return value


def read_refusal(status: int, body: bytes) -> Refusal:
    """What an answer with an error status says."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return Refusal(status, _shown(body))
    return _refusal(status, answer)


def _refusal(status: int, answer: Any) -> Refusal:
    """What an error in any of the forms that servers use says."""
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    if not isinstance(error, dict):
        return Refusal(status, _line(error if isinstance(error, str) else json.dumps(error)))
    words = error.get("message") or error.get("detail") or error
    said = words if isinstance(words, str) else json.dumps(words)
    code = error.get("code") if isinstance(error.get("code"), str) else error.get("type")
    field = error.get("param") or _place_in(error)
    return Refusal(status, _line(said), str(code or ""), str(field or ""))


def _place_in(error: Any) -> str:
    """The setting that an error is about: FastAPI's `loc`, Google's `fieldViolations`."""
    if isinstance(error, dict):
        place = error.get("loc")
        if isinstance(place, list):
            names = [each for each in place if isinstance(each, str) and each != "body"]
            return names[0] if names else ""
        if isinstance(error.get("field"), str):
            return str(error["field"])
    inner = error.values() if isinstance(error, dict) else error if isinstance(error, list) else ()
    return next(filter(None, map(_place_in, inner)), "")


def judge(refusal: Refusal, fields: Collection[str] | None, has_structure: bool) -> Verdict:
    """What an error means: another attempt, a bad row, or the end of the run.

    A prompt that is too long, or that was flagged, concerns its row. A structure or a setting that
    the server does not take concerns all rows: the answer names the setting, or speaks of it.

    fields: see `refused_setting`. has_structure: whether it asked for a structure.
    """
    if refusal.code == "insufficient_quota" or is_about_model(refusal):
        return "fatal"
    if refusal.status in BUSY or refusal.status >= 500:
        return "retry"
    said = f"{refusal.code} {refusal.words}".lower()
    if refusal.status == 403 and any(words in said for words in FLAGGED):
        return "bad row"
    if refusal.status not in OF_THE_ROW:
        return "fatal"
    if any(words in said for words in TOO_LONG):
        return "bad row"
    if refused_setting(refusal, fields):
        return "fatal"
    return "fatal" if has_structure and is_about_structure(refusal) else "bad row"


def refused_setting(refusal: Refusal, fields: Collection[str] | None) -> str:
    """The setting that a refusal is about; empty if it is about none.

    fields: of the request, which a user could leave out; None: it needs all of them.
    """
    if fields is None:
        return ""
    field = refusal.field.split("[")[0].split(".")[0]
    if field:
        return "" if field in PROMPT_FIELDS else field
    sent = {*fields} - {*PROMPT_FIELDS, "model"}
    named = (
        match["field"] or match["quoted"] or match["bare"]
        for match in _NAMED.finditer(refusal.words)
    )
    return next((name for name in named if name in sent), "")


def is_about_model(refusal: Refusal) -> bool:
    """Whether the server does not know the model."""
    return refusal.status == 404 or refusal.code == "model_not_found"


def is_about_structure(refusal: Refusal) -> bool:
    """Whether a refusal speaks of the structure of an answer."""
    said = f"{refusal.code} {refusal.field} {refusal.words}".lower()
    return any(words in said for words in STRUCTURE)


def _shown(body: bytes) -> str:
    return _line(body.decode("utf-8", "replace")) or "(nothing)"


def _line(text: str) -> str:
    """One line, cut, without the codes with which a server could write into the terminal."""
    text = without_secrets(text)  # before it is cut: of half a secret nothing can be told
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= MOST_WORDS else line[:MOST_WORDS] + "…"
