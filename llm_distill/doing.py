"""Work that takes a while where nobody holds a bar: reading large files, loading, saving.

Whoever shows progress says so with `shown_by`; without one, nothing is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advances(Protocol):
    """What is told of units that are done."""

    def advance(self, n: int = 1) -> None: ...


Show = Callable[[str, int | None, str, int], AbstractContextManager[Advances]]
"""From a description, a total, its unit, and how many were done before."""


class _Nothing:
    def advance(self, n: int = 1) -> None: ...


_show: list[Show] = []


@contextmanager
def shown_by(show: Show) -> Iterator[None]:
    """In this process, until then, `show` is told of such work."""
    _show.append(show)
    try:
        yield
    finally:
        _show.remove(show)


@contextmanager
def doing(what: str, total: int | None = None, unit: str = "") -> Iterator[Advances]:
    """Show what is being done, such as `load teacher`."""
    if not _show:
        yield _Nothing()
        return
    with _show[-1](what, total, unit, 0) as bar:
        yield bar
