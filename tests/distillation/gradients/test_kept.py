"""Numbers that are kept: as they were, and without what a kill cut short."""

from __future__ import annotations

import math
from pathlib import Path

from llm_distill.distillation.gradients.kept import Kept


def test_numbers_come_back_as_they_were(tmp_path: Path) -> None:
    numbers = {"a": [0.1, 1 / 3, 1e-300, -0.0], "b": [math.inf]}
    kept = Kept(tmp_path / "new" / "kept.jsonl")
    kept.add(numbers)
    kept.add({"c": [2.0]})
    again = Kept(tmp_path / "new" / "kept.jsonl")
    for found in (kept, again):
        assert found.get("a") == numbers["a"]
        assert found.get("b") == [math.inf]
        assert found.get("d") is None
    again.add({"n": [math.nan]})
    assert math.isnan(Kept(tmp_path / "new" / "kept.jsonl").get("n")[0])


def test_what_was_cut_short_is_taken_off(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    kept = Kept(path)
    kept.add({"a": [1.0]})
    kept.add({"b": [2.0], "c": [3.0]})
    path.write_bytes(path.read_bytes()[:-4])
    again = Kept(path)
    assert again.get("a") == [1.0]
    assert again.get("b") is None
    again.add({"b": [4.0]})
    assert Kept(path).get("a") == [1.0]
    assert Kept(path).get("b") == [4.0]
