"""A text in the form that a request holds its answer to."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

from llm_distill.engines.base import StructuredOutput
from llm_distill.errors import ConfigError


def held(form: StructuredOutput, write: Callable[[str], str], draw: random.Random) -> str:
    """One of the choices, or JSON with what `write` gives for the name of a text.

    Raises:
        ConfigError: the form is a regular expression.
    """
    if form.choice is not None:
        return draw.choice(form.choice)
    if form.json_schema is not None:
        return json.dumps(_instance(form.json_schema, "answer", write, draw))
    raise ConfigError(
        f"a rehearsal cannot write what fits structured_output.regex ({form.regex}); rehearse "
        "with json_schema or choice, or without structured_output"
    )


def _instance(
    schema: Mapping[str, Any], name: str, write: Callable[[str], str], draw: random.Random
) -> Any:
    """A value of a JSON Schema; what is not understood of it is a text."""
    if "enum" in schema:
        return draw.choice(schema["enum"])
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if kind == "object":
        inner = schema.get("properties", {})
        return {key: _instance(part, key, write, draw) for key, part in inner.items()}
    if kind == "array":
        length = max(schema.get("minItems", 1), 1)
        return [_instance(schema.get("items", {}), name, write, draw) for _ in range(length)]
    if kind in ("integer", "number"):
        text = write(name)
        return int(text) if text.isdigit() else schema.get("minimum", 0)
    if kind == "boolean":
        return draw.random() < 0.5
    return None if kind == "null" else write(name)
