"""Whether the calls of tools that a model asks for are right: names, arguments, schemas. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llm_distill.rows.messages import read_calls

Call = tuple[str, Any]


def calls_in(text: str | None) -> list[Call] | None:
    """Names and arguments out of the JSON text of calls; None where it is none.

    No text, and an empty list, are no calls.
    """
    if text is None or not text.strip():
        return []
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    items = value if isinstance(value, list) else [value]
    calls = read_calls({"tool_calls": items})
    if len(calls) < len(items):
        return None
    return [(call["function"]["name"], call["function"]["arguments"]) for call in calls]


def equal_calls(answer: str | None, reference: str) -> bool | None:
    """Whether an answer's calls are the reference's, in any order.

    Numbers are equal by value (1 and 1.0), text but for white space around it. A key whose value is
    null is the same as none.

    Returns:
        None where either is not the JSON of calls, or the answer has none where some are wanted.
    """
    given, wanted = calls_in(answer), calls_in(reference)
    if given is None or wanted is None or (wanted and not given):
        return None
    left = [(name, _plain(arguments)) for name, arguments in wanted]
    for name, arguments in given:
        call = name, _plain(arguments)
        if call not in left:
            return False
        left.remove(call)
    return not left


def schema_problem(answer: str | None, tools: Sequence[dict[str, Any]]) -> str | None:
    """What is wrong with the calls by the tools' own schemas; None where nothing is.

    Args:
        answer: The JSON text of calls.
        tools: As `rows.messages.read_tools` gives them.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    calls = calls_in(answer)
    if calls is None:
        return "not the JSON of calls"
    schemas = {tool["function"]["name"]: tool["function"].get("parameters") for tool in tools}
    for name, arguments in calls:
        if name not in schemas:
            return f"no tool '{name}'"
        if not isinstance(arguments, dict):
            return f"the arguments of '{name}' are not a JSON object"
        schema = schemas[name]
        if not isinstance(schema, dict):
            continue
        try:
            Draft202012Validator.check_schema(schema)
            first = next(iter(Draft202012Validator(schema).iter_errors(arguments)), None)
        except SchemaError as error:
            return f"the schema of '{name}' is none: {error.message[:100]}"
        if first is not None:
            return f"the arguments of '{name}': {first.message[:100]}"
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bool):  # which Python takes for 0 and 1
        return ("bool", value)
    return value.strip() if isinstance(value, str) else value
