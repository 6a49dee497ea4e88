"""Conversations: the forms that people have, as one.

read: {"role": "assistant", "content": null, "reasoning": "A tool knows.",
       "tool_calls": [{"function": {"name": "weather", "arguments": "{\\"city\\": \\"Rome\\"}"}}]}
ours: {"role": "assistant", "content": "", "reasoning_content": "A tool knows.",
       "tool_calls": [{"type": "function",
                       "function": {"name": "weather", "arguments": {"city": "Rome"}}}]}

On disk `tool_calls` and the column `tools` are JSON text: Arrow would give each object the keys of
all others.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llm_distill.errors import DataError, nearest, quoted
from llm_distill.rows.columns import CONVERSATIONS
from llm_distill.rows.thoughts import leading_thought

if TYPE_CHECKING:
    from datasets import Features, List

Message = dict[str, Any]
"""A turn of a chat: `role` and `content`, and those of `KEYS` that it has."""

ROLES = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
    "function_response": "tool",
    "observation": "tool",
}
KEYS = {
    "role": "string",
    "content": "string",
    "reasoning_content": "string",
    "tool_calls": "string",
    "tool_call_id": "string",
    "name": "string",
    "weight": "float64",
}
"""What a message has on disk, and its type; all but the first two only where some row has it."""

REASONING = ("reasoning_content", "reasoning", "thinking")
_NAMES = ("role", "from")
_TEXTS = ("content", "value")
_IN_LOSS = ("train", "loss")  # other trainers' words for a weight of 0 or 1
_READ = {*KEYS, *REASONING, *_NAMES, *_TEXTS, "function_call"}
CALL_TAG = "<tool_call>"
_WORDS = ("text", "input_text", "output_text")
_THOUGHTS = ("thinking", "reasoning")


def is_conversation(value: Any) -> bool:
    """Whether a value is a list of turns, in any of the forms."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, dict) and ("role" in turn or "from" in turn) for turn in value)
    )


def speaker_of(turn: Mapping[str, Any]) -> str:
    """Who says it, for people: a speaker's name if there is one, else the role."""
    has_name = turn["role"] in ("user", "assistant") and turn.get("name")
    return str(turn["name"] if has_name else turn["role"])


def last_answer(messages: Sequence[Message]) -> str | None:
    """What the assistant said last, without its thoughts; None where it said nothing."""
    answers = [turn for turn in messages if ROLES.get(str(turn.get("role"))) == "assistant"]
    content = answers[-1].get("content") if answers else None
    return content if isinstance(content, str) else None


def read_messages(value: Any, place: str, lost: Counter[str] | None = None) -> list[Message]:
    """The turns of a conversation in our form; those that are in it already stay as they are.

    Args:
        value: A list of turns with `role` and `content`, or `from` and `value`; or its JSON text.
        place: What to name in a message, such as `train.jsonl:3`.
        lost: Counts, by name, keys with a value that cannot be kept.

    Raises:
        DataError: it is no conversation, or a turn has an unknown role, an image, or another part
            that is not text.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place}: a conversation as text should be JSON: {error}") from error
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, list) or not value:
        raise DataError(f"{place}: a conversation holds no turns: {quoted(value)}")
    return [
        _message(turn, f"{place}, turn {number}", lost if lost is not None else Counter())
        for number, turn in enumerate(value, 1)
    ]


def stored(message: Message) -> dict[str, Any]:
    """A message of ours as it is written to disk."""
    if "tool_calls" not in message:
        return message
    return {**message, "tool_calls": json_text(message["tool_calls"])}


def json_text(value: Any) -> str:
    """JSON that can be saved as text."""
    return savable(json.dumps(value, ensure_ascii=False))


def savable(text: str) -> str:
    """Without half of a character, such as \\ud83d, which JSON has but no file of text."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def message_type(keys: Iterable[str]) -> List:
    """The type of a column of conversations whose messages have these keys.

    Where there is neither a tool nor a thought, it is the field's usual {role, content}.
    """
    from datasets import List, Value

    there = {"role", "content", *keys}
    return List({name: Value(kind) for name, kind in KEYS.items() if name in there})


def as_objects(features: Features) -> Features:
    """The types of a dataset for others: what is JSON text on disk here are objects to a reader.

    As `datasets.Json`, which TRL reads, calls and `tools` are again the lists that they were.
    """
    from datasets import Features, Json, List

    found = dict(features)
    for name in CONVERSATIONS:
        inner = getattr(found.get(name), "feature", None)
        if isinstance(inner, dict) and "role" in inner and "tool_calls" in inner:
            found[name] = List({**inner, "tool_calls": Json()})
    if "tools" in found:
        found["tools"] = Json()
    return Features(found)


def read_tools(value: Any, place: str) -> list[dict[str, Any]]:
    """Schemas of tools, as chat templates and servers take them.

    Args:
        value: A list of `{"type": "function", "function": …}`, or of what is inside; or its JSON
            text. None for no tools.
        place: What to name in a message.

    Raises:
        DataError: it is none of these.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place}: 'tools' as text should be JSON: {error}") from error
    if value is None:
        return []
    if not isinstance(value, list):
        raise DataError(f"{place}: 'tools' should be a list of tools, but is {quoted(value)}")
    found = []
    for tool in value:
        inner = (tool.get("function") or tool) if isinstance(tool, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            raise DataError(f"{place}: a tool has no name: {quoted(tool)}")
        found.append({"type": "function", "function": inner})
    return found


def read_calls(message: Any) -> list[dict[str, Any]]:
    """The calls of a message or of a server's answer; nothing where it has none.

    Arguments that are not a JSON object stay the text that they are: whoever uses them says so.
    """
    if not isinstance(message, Mapping):
        return []
    calls = message.get("tool_calls")
    if isinstance(calls, str):
        try:
            calls = json.loads(calls)
        except (ValueError, RecursionError):
            return []
    if isinstance(calls, dict):
        calls = [calls]
    if not calls and message.get("function_call"):
        calls = [message["function_call"]]
    return [call for call in map(_call, calls if isinstance(calls, list) else ()) if call]


def read_reasoning(message: Any) -> str | None:
    """What a message or an answer says that was thought, in any of the fields in use."""
    if not isinstance(message, Mapping):
        return None
    for name in REASONING:
        value = message.get(name)
        if isinstance(value, str) and value.strip():
            return value.strip()
        if isinstance(value, list | dict):
            found = text_of_parts(value if isinstance(value, list) else [value], None).strip()
            if found:
                return found
    content = message.get("content")
    if isinstance(content, list):
        return text_of_parts(content, _THOUGHTS).strip() or None
    return None


def text_of_parts(parts: Sequence[Any], kinds: Sequence[str] | None = _WORDS) -> str:
    """The joined text of content parts. kinds: of which types; None for any."""
    found = []
    for part in parts:
        if isinstance(part, str):
            found.append(part)
        elif isinstance(part, dict) and (kinds is None or part.get("type") in kinds):
            inner = next((part[k] for k in ("text", "thinking", "reasoning") if part.get(k)), "")
            found.append(text_of_parts(inner, None) if isinstance(inner, list) else str(inner))
    return "".join(found)


def _message(turn: Any, place: str, lost: Counter[str]) -> Message:
    if not isinstance(turn, dict):
        raise DataError(f"{place}: it is not an object: {quoted(turn)}")
    theirs = next((turn[name] for name in _NAMES if turn.get(name) is not None), None)
    role = ROLES.get(theirs) if isinstance(theirs, str) else None
    if role is None:
        raise DataError(f"{place}: unknown role {quoted(theirs)}; {nearest(str(theirs), ROLES)}")
    content = next((turn[name] for name in _TEXTS if turn.get(name) is not None), None)
    reasoning = read_reasoning(turn)
    if theirs == "function_call":
        if isinstance(content, str) and content.startswith("<think>"):
            thought, content = leading_thought(content)  # as LLaMA-Factory has it before the call
            reasoning = reasoning or thought
        calls, text = _written_calls(content, place), ""
    else:
        calls = _calls(turn, place)
        text = _text(content, place, may_be_none=bool(calls or reasoning))
    if role == "assistant":
        if reasoning is None:
            reasoning, text = leading_thought(text)
        if not calls and CALL_TAG in text:  # as Hermes writes them
            from llm_distill.rows.tool_calls import split_calls

            calls, text = split_calls(text)
    message: Message = {"role": role, "content": text}
    if reasoning is not None:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls
    for name in ("tool_call_id", "name"):
        if turn.get(name) not in (None, ""):
            message[name] = str(turn[name])
    weight = _weight(turn, place)
    if weight is not None:
        message["weight"] = weight
    for name, value in turn.items():
        is_read = isinstance(value, bool) if name in _IN_LOSS else name in _READ
        if not is_read and value not in (None, "", [], {}):
            lost[name] += 1
    return message


def _calls(turn: Mapping[str, Any], place: str) -> list[dict[str, Any]]:
    """The calls of a turn, all of them.

    Raises:
        DataError: one cannot be read: without it the turn would announce a call and stop.
    """
    calls = read_calls(turn)
    stated = turn.get("tool_calls")
    if isinstance(stated, str) and stated.strip():
        try:
            stated = json.loads(stated)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place}: tool_calls as text should be JSON: {error}") from error
    wanted = len(stated) if isinstance(stated, list) else 1 if stated else 0
    if len(calls) < wanted:
        raise DataError(f"{place}: a call of a tool has no name: {quoted(turn['tool_calls'])}")
    return calls


def _text(content: Any, place: str, may_be_none: bool) -> str:
    if isinstance(content, str):
        return content
    if content is None and may_be_none:
        return ""
    if isinstance(content, list):
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else None
            if not isinstance(part, str) and kind not in (*_WORDS, *_THOUGHTS):
                raise DataError(
                    f"{place}: content of type {quoted(kind)} cannot be kept; parts of text can"
                )
        return text_of_parts(content)
    raise DataError(f"{place}: content should be text, but is {quoted(content)}")


def _written_calls(content: Any, place: str) -> list[dict[str, Any]]:
    """The calls of ShareGPT's function_call, whose value is their JSON text."""
    try:
        found = json.loads(content) if isinstance(content, str) else content
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: a function_call should be JSON: {error}") from error
    calls = read_calls({"tool_calls": found})
    if not calls:
        raise DataError(f"{place}: a function_call has no name: {quoted(content)}")
    return calls


def _call(call: Any) -> dict[str, Any] | None:
    if not isinstance(call, dict):
        return None
    inner = call.get("function") or call
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        return None
    given = (inner.get(name) for name in ("arguments", "parameters"))
    arguments = next((value for value in given if value is not None), None)
    if isinstance(arguments, str):
        try:
            read = json.loads(arguments) if arguments.strip() else {}
        except (ValueError, RecursionError):
            read = None
        arguments = read if isinstance(read, dict) else arguments
    function = {"name": inner["name"], "arguments": {} if arguments is None else arguments}
    identity = {"id": str(call["id"])} if call.get("id") not in (None, "") else {}
    return {**identity, "type": "function", "function": function}


def _weight(turn: dict[str, Any], place: str) -> float | None:
    for name in _IN_LOSS:
        if isinstance(turn.get(name), bool):
            return 1.0 if turn[name] else 0.0
    value = turn.get("weight")
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < 0:
        raise DataError(f"{place}: weight should be a number from 0, but is {quoted(value)}")
    return float(value)
