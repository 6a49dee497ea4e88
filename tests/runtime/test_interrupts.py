"""A Ctrl-C that comes while a library catches everything still stops the run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from datasets import fingerprint

from llm_distill.rows.columns import features
from llm_distill.runtime.writer import interrupts_after, write_rows
from llm_distill.stage import RowsOutput


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """What a shell starts in the background inherits an ignored SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_it_comes_behind_the_block() -> None:
    done = []

    def block() -> None:
        with interrupts_after():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("the rest")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == ["the rest"]
    handler = signal.getsignal(signal.SIGINT)
    with interrupts_after():
        pass
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_error_in_the_block_is_what_is_said() -> None:
    def block() -> None:
        with interrupts_after():
            os.kill(os.getpid(), signal.SIGINT)
            raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        block()


def test_it_is_not_lost_where_datasets_computes_a_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = fingerprint.Hasher.update

    def interrupted(self: fingerprint.Hasher, value: object) -> None:
        if not isinstance(value, str):  # a setting; the names of settings are not in a `try`
            os.kill(os.getpid(), signal.SIGINT)
        update(self, value)

    monkeypatch.setattr(fingerprint.Hasher, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_rows(RowsOutput(iter([{"id": "a"}]), features(["id"])), tmp_path / "out")
