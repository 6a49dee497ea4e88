"""Calls of tools in what a model wrote, in the forms that published chat templates teach."""

from __future__ import annotations

import json
import re
from typing import Any

from llm_distill.rows.messages import read_calls

CALL_MARKS = ("<tool_call>", "[TOOL_CALLS]")
_TAGGED = re.compile(r"<tool_call>\s*(?P<call>.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
_LISTED = re.compile(r"\A\s*(?:\[TOOL_CALLS\]|<\|python_tag\|>)?\s*(?P<calls>[\[{].*)\Z", re.DOTALL)


def split_calls(text: str) -> tuple[list[dict[str, Any]], str]:
    """(calls, the text without them) of an answer to a request with tools.

    `<tool_call>{…}</tool_call>` (Hermes, Qwen), `[TOOL_CALLS][{…}]` (Mistral), or nothing but a
    JSON object or a list of them with a name and arguments or parameters (Llama 3). What cannot be
    read as a call stays text.

    >>> split_calls('Let me see. <tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>')
    ([{'type': 'function', 'function': {'name': 'f', 'arguments': {'a': 1}}}], 'Let me see.')
    """
    found = [_read(match["call"]) for match in _TAGGED.finditer(text)]
    if found and all(found):
        return [call for calls in found for call in calls], _TAGGED.sub("", text).strip()
    whole = _LISTED.match(text)
    calls = _read(whole["calls"]) if whole else []
    return (calls, "") if calls else ([], text)


def _read(text: str) -> list[dict[str, Any]]:
    try:
        value, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return []
    if text[end:].strip():
        return []
    items = value if isinstance(value, list) else [value]
    has_arguments = all(
        isinstance(item, dict) and ("arguments" in item or "parameters" in item) for item in items
    )
    calls = read_calls({"tool_calls": items}) if has_arguments else []
    return calls if len(calls) == len(items) else []
