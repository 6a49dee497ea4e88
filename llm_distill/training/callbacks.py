"""What is hooked into transformers' training loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from transformers import TrainerCallback

from llm_distill.stage import Progress


class ShowProgress(TrainerCallback):  # type: ignore[misc]
    """A bar over the optimizer steps. It is opened once the loop knows how many there are.

    open_bar: from the number of steps to a bar. stack: closes it, however training ends.
    """

    def __init__(
        self, open_bar: Callable[[int], AbstractContextManager[Progress]], stack: ExitStack
    ) -> None:
        self._open_bar, self._stack = open_bar, stack
        self._bar: Progress | None = None
        self._tokens = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar = self._stack.enter_context(self._open_bar(state.max_steps))
        if state.global_step:
            self._bar.advance(state.global_step)  # done before the kill
        self._tokens = state.num_input_tokens_seen

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        seen = int(state.num_input_tokens_seen)
        if self._bar is not None:
            self._bar.advance(1, seen - self._tokens)
        self._tokens = seen


class WholeHistory(TrainerCallback):  # type: ignore[misc]
    """Makes the loss history cover every step, and the same after a kill as without one.

    transformers forgets the losses since the last point of the history when it resumes, and those
    after the last point when it ends. So there is a point at each checkpoint and at the end.
    """

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        at_end = state.global_step >= state.max_steps
        if at_end:
            control.should_save = False  # the model itself is saved next
        if at_end or control.should_save:
            control.should_log = True
