"""A training that is cut off, as Ctrl-C does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from llm_distill.training.loop import WholeHistory


class Cut(BaseException):
    """Stands for Ctrl-C."""


@contextmanager
def cut_after(step: int) -> Iterator[None]:
    """The training within ends when this step has been made, and must come so far."""
    original = WholeHistory.on_step_end

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        original(self, args, state, control, **more)
        if state.global_step == step:
            raise Cut

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WholeHistory, "on_step_end", on_step_end)
        with pytest.raises(Cut):
            yield
