"""What is told of processes that ended badly, without any: they are played by this one."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from llm_distill.errors import DataError, ModelError
from llm_distill.runtime.ranks import Ranks, RanksFailedError, to_worker
from llm_distill.stage import Launch


def told(done: dict[tuple[int, str | None], Any]) -> BaseException:
    """done: by rank and machine what each raised, in the order of coming."""
    nothing: Any = None
    with TemporaryDirectory(prefix="llm-distill-") as folder:
        ranks = Ranks(str(Path(folder) / "worker"), nothing, nothing, nothing)
        for of, raised in done.items():
            os.environ.update(ranks.variables())
            worker = to_worker()
            worker.send(of)
            worker.recv()
            worker.send(("done", raised))
            worker.close()
            ranks._following[-1].join(5)
        ranks.close()
    failed = RanksFailedError({rank: 1 for rank, _ in done}, "they ended")
    return ranks.why_ended(
        failed, Launch(len(done), (), on_cpu=True, advice="lower it", machines=2)
    )


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("LLM_DISTILL_WORKER", "LLM_DISTILL_WORKER_KEY"):
        monkeypatch.setenv(name, "")


def test_a_file_that_is_missing_on_one_machine():
    """The others wait for it in vain, and what they say follows from that."""
    missing = ModelError("there is no model at models/student")
    found = told({(0, "10.0.0.1"): RuntimeError("reset by peer"), (1, "10.0.0.2"): missing})
    assert isinstance(found, ModelError)
    assert str(found) == "on machine 10.0.0.2: there is no model at models/student"


def test_one_machine_is_not_named():
    found = told({(1, None): DataError("row q1 has no prompt")})
    assert isinstance(found, DataError)
    assert str(found) == "row q1 has no prompt"
