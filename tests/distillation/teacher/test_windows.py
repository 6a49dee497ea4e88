"""Windows of scores: kept as they are done, used once, never believed where they do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm_distill.distillation.alignment.encoding import Content, EncodedRow, in_loss
from llm_distill.distillation.teacher import windows
from llm_distill.distillation.teacher.windows import scored_rows


class Scorer:
    """Scores a token by its id; notes which rows it was given, and fails at one of them."""

    def __init__(self, fails: str | None = None, top_k: int | None = None) -> None:
        self.given: list[list[str]] = []
        self._fails, self._top_k = fails, top_k

    def score(self, rows: Any, names: Any, note: Any) -> list[dict[str, Any]]:
        self.given.append(list(names))
        if self._fails in names:
            raise RuntimeError("killed")
        note(len(rows), sum(len(in_loss(row)) for row in rows))
        found = [{"teacher_logps": -row.ids[in_loss(row)].astype(np.float32)} for row in rows]
        if self._top_k:
            for scores in found:
                scores["teacher_top_ids"] = np.repeat(scores["teacher_logps"], self._top_k)
        return found


def row(index: int) -> tuple[dict[str, Any], EncodedRow]:
    """Of 10 tokens, index % 4 + 1 of which are in the loss, in two contents where there are 2."""
    n = index % 4 + 1
    spans = [(9, 9), (3, 3)][: 1 if n == 1 else 2]
    contents = [Content(a, a + (n - 1 if a == 3 else 1), b"", np.zeros(0), False) for a, _ in spans]
    ids = np.arange(10 * index, 10 * index + 10, dtype=np.int32)
    return {"id": f"r{index}"}, EncodedRow(ids, tuple(reversed(contents)))


def run(scorer: Scorer, folder: Path, n: int = 10) -> tuple[list[Any], list[tuple[int, int]]]:
    notes: list[tuple[int, int]] = []
    pairs = (row(index) for index in range(n))
    opened: list[Scorer] = []

    def open_scorer() -> Any:
        opened.append(scorer)
        return scorer.score

    note = lambda rows, tokens: notes.append((rows, tokens))  # noqa: E731
    n_scores = lambda encoded: len(in_loss(encoded))  # noqa: E731
    found = list(scored_rows(pairs, open_scorer, n_scores, folder, note))
    assert len(opened) == bool(scorer.given)  # a model is loaded once, if anything is to be scored
    return [(r["id"], {k: v.tolist() for k, v in s.items()}) for r, _, s in found], notes


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOW_TOKENS", 30)  # three rows


@pytest.mark.parametrize("top_k", [None, 3])
def test_a_killed_run_goes_on_and_gives_the_same(tmp_path: Path, top_k: int | None) -> None:
    whole, notes = run(Scorer(top_k=top_k), tmp_path / "whole")
    assert [identity for identity, _ in whole] == [f"r{i}" for i in range(10)]
    expected = [row(i)[1] for i in range(10)]
    assert [s["teacher_logps"] for _, s in whole] == [
        (-r.ids[in_loss(r)]).tolist() for r in expected
    ]
    assert [len(s.get("teacher_top_ids", ())) for _, s in whole] == [
        (top_k or 0) * len(in_loss(r)) for r in expected
    ]
    assert sum(rows for rows, _ in notes) == 10
    killed = Scorer(fails="r7", top_k=top_k)
    with pytest.raises(RuntimeError, match="killed"):
        run(killed, tmp_path / "cut")
    going_on = Scorer(top_k=top_k)
    again, notes = run(going_on, tmp_path / "cut")
    assert again == whole
    assert killed.given == [["r0", "r1", "r2"], ["r3", "r4", "r5"], ["r6", "r7", "r8"]]
    assert going_on.given == [["r6", "r7", "r8"], ["r9"]]
    assert [rows for rows, _ in notes] == [3, 3, 3, 1]
    assert [tokens for _, tokens in notes][:2] == [0, 0]
    idle = Scorer()
    assert run(idle, tmp_path / "cut")[0] == whole
    assert idle.given == []


def test_what_is_cut_short_or_of_other_rows_is_scored_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, _ = run(Scorer(), tmp_path)
    first, second = sorted(tmp_path.iterdir())[:2]
    content = first.read_bytes()
    first.write_bytes(content[: len(content) // 2])
    second.write_bytes(content)  # r0 to r2 have other numbers of tokens in the loss
    scorer = Scorer()
    assert run(scorer, tmp_path)[0] == whole
    assert scorer.given == [["r0", "r1", "r2"], ["r3", "r4", "r5"]]
    assert caplog.text.count("are scored again") == 2
    assert first.read_bytes() == content
