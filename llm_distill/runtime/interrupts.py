"""Ctrl-C in places where it would be lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interrupts_after() -> Iterator[None]:
    """What would interrupt the block does so after it. For a moment's work, in the main thread.

    For calls of a library that catch everything, KeyboardInterrupt as well: `datasets` does so
    where it computes the fingerprint of a dataset, and a run would go on as if nothing was said.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in STOPPING}
    handlers = {number: handler for number, handler in before.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        handlers[signal.Signals(came[0])](came[0], None)
