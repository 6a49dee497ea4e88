"""Pairs of works, and what three planted judges say of them, for `data/tutoring`.

    pair_row(case, 0)   # the right work is first and the wordy one
    verdicts(rows, "first")   # of each pair what it says in both orders, for a scripted engine

| judge | what it does |
| --- | --- |
| fair | errs in one of ten replies |
| first | takes what stands first in three of ten, and else errs in one of ten |
| longer | takes the longer one in three of ten, and else errs in one of ten |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from tutoring import MISTAKES, Case, right_work

JUDGES = {"fair": "", "first": "first", "longer": "longer"}
"""By name what each leans to."""
LEANS, ERRS = 0.3, 0.1
WORDY = "I read the question twice, and then I worked it out with care."


def pair_row(found: Case, number: int) -> dict[str, Any]:
    """The right work is first and second, wordy and not, equally often after each mistake."""
    better, wordy = ("aa", "ab", "ba", "bb")[number // len(MISTAKES) % 4]
    works = {better: right_work(found.problem), "ab".replace(better, ""): found.work}
    works[wordy] = f"{WORDY} {works[wordy]}"
    return {
        "question": found.problem.question,
        "misconception": found.mistake,
        "answer_a": works["a"],
        "answer_b": works["b"],
        "better": better,
    }


def verdicts(rows: Sequence[dict[str, Any]], judge: str) -> Iterator[dict[str, str]]:
    """What a judge replies about each pair, in both orders; `contains` is of judge/pair.jinja."""
    for row in rows:
        for order in ("ab", "ba"):
            first, second = (row[f"answer_{name}"] for name in order)
            rng = Random(f"{row['id']} {judge} {order}")
            is_first = (order[0] == row["better"]) != (rng.random() < ERRS)
            if rng.random() < LEANS and JUDGES[judge]:
                is_first = judge == "first" or len(first) > len(second)
            yield {
                "contains": f"Answer A:\n\n{first}\n\nAnswer B:\n\n{second}\n",
                "completion": f"<winner>{'A' if is_first else 'B'}</winner>",
            }
