"""Values at a place of settings, as the file has them or read: ("models", 1), ("rows",)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from llm_distill.pipeline.problems import Path as Place


def at_place(value: Any, place: Place) -> Any:
    """What stands there."""
    for part in place:
        value = getattr(value, str(part)) if isinstance(value, BaseModel) else value[part]
    return value


def with_at_place(value: Any, place: Place, new: Any) -> Any:
    """A copy with another value there; unchanged where there is no such place."""
    if not place:
        return new
    first, rest = place[0], place[1:]
    if isinstance(value, BaseModel):
        inner = with_at_place(getattr(value, str(first)), rest, new)
        return value.model_copy(update={str(first): inner})
    if isinstance(value, Mapping):
        if first not in value:
            return value
        return {**value, first: with_at_place(value[first], rest, new)}
    if isinstance(value, list | tuple):
        return type(value)(
            with_at_place(item, rest, new) if index == first else item
            for index, item in enumerate(value)
        )
    return value
