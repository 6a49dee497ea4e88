"""Requests and answers as OpenAI's protocol has them. Pure: nothing is sent here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from llm_distill.engines.base import Completion, FinishReason, Request, StructuredOutput

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


class BadAnswerError(Exception):
    """The server said something, but no completion."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is an error, in the server's words (one line, cut)."""

    status: int
    words: str
    code: str = ""
    field: str = ""


def endpoint(request: Request) -> str:
    """Where a request goes: text is continued, messages get a turn."""
    return "completions" if isinstance(request.prompt, str) else "chat/completions"


def request_body(request: Request, model: str) -> dict[str, Any]:
    """The JSON body of a request.

    What is at its default is sent too: servers have defaults of their own. `top_k` is the
    exception: not every server knows it.
    """
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": fold_seed(request.seed),
    }
    if isinstance(request.prompt, str):
        body["prompt"] = request.prompt
    else:
        body["messages"] = list(request.prompt)
    if sampling.top_k > 0:
        body["top_k"] = sampling.top_k
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if request.logprobs:
        body["logprobs"] = 1 if isinstance(request.prompt, str) else True
    if request.structure is not None:
        body.update(_structure(request.structure))
    return body


def _structure(structure: StructuredOutput) -> dict[str, Any]:
    if structure.json_schema is not None:
        schema = {"name": "answer", "schema": structure.json_schema, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    if structure.choice is not None:
        return {"structured_outputs": {"choice": list(structure.choice)}}
    return {"structured_outputs": {"regex": structure.regex}}


def fold_seed(seed: int) -> int:
    """31 bits that depend on all 64: many servers take no larger number."""
    return (seed ^ seed >> 31 ^ seed >> 62) & 0x7FFFFFFF


def most_prompt_tokens(request: Request) -> int:
    """More tokens than a prompt can have: one a byte, and what a chat template puts around it."""
    structure = request.structure
    n_extra = 64 + (len(structure.model_dump_json().encode()) if structure is not None else 0)
    if isinstance(request.prompt, str):
        return _n_bytes(request.prompt) + n_extra
    return n_extra + sum(
        16 + sum(_n_bytes(value) for value in message.values()) for message in request.prompt
    )


def _n_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def read_answer(request: Request, body: bytes) -> tuple[Completion, bool]:
    """The completion in an answer with status 200, without its cost; and whether usage is known.

    An answer that does not hold what was asked for is a completion with an error.

    Raises:
        BadAnswerError: it is not a JSON object.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadAnswerError(f"the answer is not JSON: {_shown(body)}") from error
    if not isinstance(answer, dict):
        raise BadAnswerError(f"the answer is not a JSON object: {_shown(body)}")
    usage = answer.get("usage")
    n_prompt, n_completion, is_known = 0, 0, False
    try:
        if usage is not None:
            n_prompt = _typed(usage, "prompt_tokens", int)
            n_completion = _typed(usage, "completion_tokens", int)
            if min(n_prompt, n_completion) < 0:
                raise BadAnswerError("usage counts fewer than no tokens")
            is_known = True
        text, reason, logprobs = _read_choice(request, answer)
    except BadAnswerError as error:
        bad = Completion(request.id, "", "error", n_prompt, n_completion, error=str(error))
        return bad, is_known
    completion = Completion(request.id, text, reason, n_prompt, n_completion, logprobs)
    return completion, is_known


def _read_choice(
    request: Request, answer: dict[str, Any]
) -> tuple[str, FinishReason, tuple[float, ...] | None]:
    if "error" in answer and not answer.get("choices"):
        raise BadAnswerError(f"the server answers with an error: {_refusal(200, answer).words}")
    choices = _typed(answer, "choices", list)
    choice = choices[0] if choices else None
    reason = _typed(choice, "finish_reason", str)
    if isinstance(request.prompt, str):
        holder, field = choice, "text"
    else:
        holder, field = _typed(choice, "message", dict), "content"
        refusal = holder.get("refusal")
        if refusal:
            raise BadAnswerError(f"the model refused: {_line(str(refusal))}")
    if reason == "content_filter":
        raise BadAnswerError("the server's content filter stopped the answer (content_filter)")
    if reason not in ("stop", "length"):
        raise BadAnswerError(f"finish_reason is {reason!r}; expected stop or length")
    if isinstance(holder, dict) and holder.get(field, "") is None:
        raise BadAnswerError(f"the answer has no text: {field} is null (finish_reason {reason})")
    text = _typed(holder, field, str)
    if not text.isascii():  # half a character, as \ud83d, is JSON, but no text that can be saved
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    logprobs = _read_logprobs(request, choice) if request.logprobs else None
    return text, "stop" if reason == "stop" else "length", logprobs


def _read_logprobs(request: Request, choice: Any) -> tuple[float, ...]:
    given = _typed(choice, "logprobs", dict)
    if isinstance(request.prompt, str):
        values = _typed(given, "token_logprobs", list)
    else:
        values = [_typed(token, "logprob", float) for token in _typed(given, "content", list)]
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise BadAnswerError(f"the answer has no log-probabilities: got {value!r}")
    return tuple(map(float, values))


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
        raise BadAnswerError(f"the answer's {field} is {_line(repr(value))}, no {kind.__name__}")
    return value


def read_refusal(status: int, body: bytes) -> Refusal:
    """What an answer with an error status says."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return Refusal(status, _shown(body))
    return _refusal(status, answer)


def _refusal(status: int, answer: Any) -> Refusal:
    """Servers have several forms for it."""
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    if not isinstance(error, dict):
        return Refusal(status, _line(str(error)))
    words = error.get("message") or error.get("detail") or json.dumps(error)
    code = error.get("code") if isinstance(error.get("code"), str) else error.get("type")
    return Refusal(status, _line(str(words)), str(code or ""), str(error.get("param") or ""))


def judge(refusal: Refusal, request: Request) -> Verdict:
    """What an error means: another attempt, this row, or every row.

    Of 400s, a prompt that is too long is the row's. A structure or a setting that the server does
    not take is every row's: it names the setting (`param`), or speaks of the structure.
    """
    if refusal.code == "insufficient_quota" or is_about_model(refusal):
        return "fatal"
    if refusal.status in BUSY or refusal.status >= 500:
        return "retry"
    if refusal.status not in OF_THE_ROW:
        return "fatal"
    said = f"{refusal.code} {refusal.words}".lower()
    if any(words in said for words in TOO_LONG):
        return "bad row"
    if refusal.field and refusal.field.split("[")[0].split(".")[0] not in PROMPT_FIELDS:
        return "fatal"
    return "fatal" if is_about_structure(refusal, request) else "bad row"


def is_about_model(refusal: Refusal) -> bool:
    """Whether the server does not know the model."""
    return refusal.status == 404 or refusal.code == "model_not_found"


def is_about_structure(refusal: Refusal, request: Request) -> bool:
    """Whether a refusal speaks of the structure that the request asks for."""
    said = f"{refusal.code} {refusal.field} {refusal.words}".lower()
    return request.structure is not None and any(words in said for words in STRUCTURE)


def _shown(body: bytes) -> str:
    return _line(body[: 4 * MOST_WORDS].decode("utf-8", "replace")) or "(nothing)"


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MOST_WORDS else line[:MOST_WORDS] + "…"
