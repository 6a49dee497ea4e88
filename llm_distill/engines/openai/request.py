"""Requests as OpenAI's protocol has them. Pure: nothing is sent here."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from llm_distill.engines.base import Request, StructuredOutput
from llm_distill.rows.messages import Message

AS_IT_IS = {
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""Of vLLM's settings, those that leave a distribution alone: tokens that are kept were drawn
from what their log-probabilities are of."""


def endpoint(request: Request) -> str:
    """Where a request goes: text and tokens are continued, messages are answered."""
    return "chat/completions" if request.is_chat else "completions"


def request_body(
    request: Request,
    model: str,
    leave_out: Collection[str] = (),
    max_tokens_name: str = "max_tokens",
    extra: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """The JSON body of a request.

    Defaults are sent too, since servers have their own. `top_k` and `thinking_token_budget` are the
    exceptions: not every server knows them.
    """
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": fold_seed(request.seed),
    }
    if request.is_chat:
        body["messages"] = sent_messages(request.messages)
    else:
        body["prompt"] = request.prompt
    if request.tools:
        body["tools"] = list(request.tools)
    if sampling.top_k > 0:
        body["top_k"] = sampling.top_k
    if sampling.thinking_token_budget is not None:
        body["thinking_token_budget"] = sampling.thinking_token_budget
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if request.wants_logprobs:
        body["logprobs"] = True if request.is_chat else 1
    if request.tokens:  # which vLLM alone gives; it would draw as the model's files say
        body |= {"return_token_ids": True, "top_k": sampling.top_k, **AS_IT_IS}
    if request.structure is not None:
        body.update(_structure(request.structure))
    kept = {name: value for name, value in {**body, **extra}.items() if name not in leave_out}
    if "max_tokens" in kept:
        kept[max_tokens_name] = kept.pop("max_tokens")
    return kept


def sent_messages(messages: Sequence[Message]) -> list[Message]:
    """Messages as the protocol has them, in which each call has an id and each result names one."""
    found: list[Message] = []
    waiting: list[str] = []
    n_calls = 0
    for message in map(_sent, messages):
        for call in message.get("tool_calls", ()):
            call.setdefault("id", f"call_{n_calls}")
            n_calls += 1
            waiting.append(call["id"])
        if message["role"] == "tool":
            if message.get("tool_call_id") in waiting:
                waiting.remove(message["tool_call_id"])
            elif "tool_call_id" not in message and waiting:
                message["tool_call_id"] = waiting.pop(0)
        found.append(message)
    return found


def _sent(message: Message) -> Message:
    """A message as the protocol has it. Thoughts of earlier turns are not sent: servers refuse."""
    kept = ("role", "content", "tool_call_id", "name")
    sent: Message = {name: message[name] for name in kept if name in message}
    if "tool_calls" not in message:
        return sent
    calls = [
        {**call, "function": {**call["function"], "arguments": _spelled(call)}}
        for call in message["tool_calls"]
    ]
    return {**sent, "tool_calls": calls}


def _spelled(call: dict[str, Any]) -> str:
    arguments = call["function"]["arguments"]
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


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
    """An upper bound on a prompt's tokens: one a byte, and those of a chat template."""
    structure = request.structure
    n_extra = 64 + (len(structure.model_dump_json().encode()) if structure is not None else 0)
    if isinstance(request.prompt, str):
        return _n_bytes(request.prompt) + n_extra
    if not request.is_chat:
        return len(request.prompt)
    n_extra += _n_bytes(json.dumps(request.tools)) if request.tools else 0
    return n_extra + sum(
        16 + sum(_n_bytes(v if isinstance(v, str) else json.dumps(v)) for v in message.values())
        for message in map(_sent, request.messages)
    )


def _n_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
