"""What is hooked into transformers' training loop."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from llm_distill.stage import Context, Progress
from llm_distill.training.checkpoints import seal


class ShowProgress(TrainerCallback):  # type: ignore[misc]
    """A bar over the optimizer steps. It is opened once the loop knows how many there are.

    stack: closes it, however training ends.
    """

    def __init__(self, context: Context, stack: ExitStack) -> None:
        self._context, self._stack = context, stack
        self._bar: Progress | None = None
        self._tokens = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        bar = self._context.progress("train", state.max_steps, "steps", state.global_step)
        self._bar = self._stack.enter_context(bar)
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


class SealCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Notes what each checkpoint's files hold, once all of them are written."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")
