"""What a run prints in a script or a notebook, and keeping the libraries below it quiet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, get_args

from rich.console import Console

from llm_distill.cli.display import QUIET, TerminalDisplay, console
from llm_distill.errors import ConfigError, nearest
from llm_distill.runtime.artifact import Artifact
from llm_distill.runtime.plan import Decision
from llm_distill.stage import Progress

ProgressShown = Literal["stages", "bars", "none"]


def display_for(progress: ProgressShown) -> TerminalDisplay:
    """What shows this much of a run.

    Raises:
        ConfigError: there is nothing of that name.
    """
    if progress not in get_args(ProgressShown):
        raise ConfigError(f"progress={progress!r}; {nearest(progress, get_args(ProgressShown))}")
    if progress == "bars":
        return TerminalDisplay(_plain() if Console().is_jupyter else console())
    return _StageLines(_plain(quiet=progress == "none"))


def _plain(quiet: bool = False) -> Console:
    """Prints text without colors, also where Rich would show HTML and bars: in a notebook."""
    return Console(
        quiet=quiet,
        highlight=False,
        color_system=None,
        force_terminal=False,
        force_jupyter=False,
        width=160,
        soft_wrap=True,
    )


class _NoBar:
    def advance(
        self, n: int = 1, tokens: int = 0, cost: float = 0.0, requests: int | None = None
    ) -> None: ...


class _StageLines(TerminalDisplay):
    """Lines when a stage begins and ends, its warnings, and what else the run says."""

    def begins(self, decision: Decision) -> None:
        self.begun.append(decision.name)
        self._console.print(f"▶ {decision.name}")  # a training takes long

    def ends(self, name: str, artifact: Artifact, state: str, seconds: float) -> None:
        if state == "reused":  # one look says which stages took the time
            self.ended.append(name)
        else:
            super().ends(name, artifact, state, seconds)

    def progress(
        self, description: str, total: int | None, unit: str, done: int
    ) -> AbstractContextManager[Progress]:
        return nullcontext(_NoBar())


@contextmanager
def quiet_environment() -> Iterator[None]:
    """Meanwhile libraries that are imported print and send less."""
    before = {name: os.environ.get(name) for name in QUIET}
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        for name, own in before.items():
            if own is None:
                os.environ.pop(name, None)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """The same, and no bars of datasets; afterwards all is as the program had it."""
    with quiet_environment():
        from datasets.utils import (
            are_progress_bars_disabled,
            disable_progress_bars,
            enable_progress_bars,
        )

        had_bars = not are_progress_bars_disabled()
        disable_progress_bars()
        try:
            yield
        finally:
            if had_bars:
                enable_progress_bars()
