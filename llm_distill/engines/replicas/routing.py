"""Where a request goes, of several places that could answer it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from llm_distill.engines.base import Request, ScoreRequest

Place = TypeVar("Place")

BEGINNING = 256
"""Characters or tokens of a prompt that tell where it goes."""
SLACK = 8
"""How many requests more than another a place may have for the sake of a beginning."""
REMEMBERED = 10_000
"""Beginnings whose place is remembered."""


class Routing(Generic[Place]):
    """To where one with the same beginning went, which has computed that already.

    Unless that place has more to do than the one with the least.
    """

    def __init__(self) -> None:
        self._places: dict[Any, Place] = {}

    def choose(
        self,
        request: Request | ScoreRequest,
        free: Sequence[Place],
        load: Callable[[Place], int],
    ) -> Place:
        """One of `free`. load: how many requests a place has now."""
        key, least = _beginning(request), min(free, key=load)
        before = self._places.get(key)
        if before is not None and before in free and load(before) <= load(least) + SLACK:
            return before
        if len(self._places) >= REMEMBERED:
            self._places.clear()
        self._places[key] = least
        return least


def _beginning(request: Request | ScoreRequest) -> Any:
    prompt = request.prompt
    if isinstance(prompt, str):
        return prompt[:BEGINNING]
    if prompt and isinstance(prompt[0], int):
        return tuple(prompt[:BEGINNING])
    return str(prompt[0])[:BEGINNING] if prompt else ""
