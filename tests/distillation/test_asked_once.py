"""Processes that share a training: the first asks for all, and each is given its own answers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from llm_distill.distillation import asked_once as module
from llm_distill.distillation.asked_once import asked_once

EACH = {0: ["a"], 1: ["b", "c"], 2: []}


def test_one_process_asks_for_itself() -> None:
    assert asked_once(["a", "b"], lambda every: [text.upper() for text in every]) == ["A", "B"]


@pytest.mark.parametrize("own", EACH)
def test_the_first_of_several_processes_asks_for_all(
    own: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def ask(every: list[str]) -> list[str]:
        asked.append(every)
        return [text.upper() for text in every]

    answers = {rank: [text.upper() for text in texts] for rank, texts in EACH.items()}
    monkeypatch.setattr(module, "world_size", lambda: 3)
    monkeypatch.setattr(module, "is_main", lambda: own == 0)
    monkeypatch.setattr("accelerate.PartialState", lambda: SimpleNamespace(process_index=own))
    monkeypatch.setattr("accelerate.utils.gather_object", lambda mine: list(EACH.items()))
    monkeypatch.setattr(
        "accelerate.utils.broadcast_object_list", lambda sent: sent if own == 0 else [answers]
    )
    assert asked_once(EACH[own], ask) == answers[own]
    assert asked == ([["a", "b", "c"]] if own == 0 else [])
