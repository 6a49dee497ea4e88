"""Worked examples for a prompt, drawn at random from the row's task."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from llm_distill.errors import DataError
from llm_distill.rows.columns import Row, by_task, task_of


def question_key(text: Any) -> str:
    """A question without its case and spacing: equal keys are the same question."""
    return " ".join(str(text or "").split()).casefold()


def usable(row: Row, columns: Iterable[str]) -> bool:
    """Whether a row can be an example: no error, and text in each of these columns it has."""
    if row.get("error"):
        return False
    return all(str(row[name] or "").strip() for name in columns if name in row)


def worked_examples(rows: Sequence[Row], warn: Callable[[str], None]) -> dict[str, list[Row]]:
    """By task, the rows that show a way to an answer (`question`, `rationale`); warns of others."""
    good = [row for row in rows if usable(row, ("question", "rationale"))]
    if len(good) < len(rows):
        unusable = len(rows) - len(good)
        warn(f"{unusable} of {len(rows)} worked examples have no rationale; left out")
    return by_task(good)


def draw_examples(
    row: Row, pools: Mapping[str, Sequence[Row]], n: int, seed: int, *, may_be_itself: bool = False
) -> list[Row]:
    """`n` different examples of the row's task, the same for the same seed.

    A smaller `n` gives a prefix of what a larger one gives, so that results with more and fewer
    examples are comparable. The row itself, what was made from it (but see `may_be_itself`), and a
    second example with the same question are skipped.

    Raises:
        DataError: the task has fewer than `n` suitable examples.
    """
    pool = pools.get(task_of(row), ())
    apart = not may_be_itself
    used = {question_key(row["question"])} if apart and row.get("question") else set()
    drawn: list[Row] = []
    for index in _random_order(len(pool), random.Random(seed)):
        if len(drawn) == n:
            break
        example = pool[index]
        if apart and row["id"] in (example["id"], example.get("parent_id")):
            continue
        key = question_key(example.get("question"))
        if key and key in used:
            continue
        used.add(key)
        drawn.append(example)
    if len(drawn) < n:
        raise DataError(
            f"row {row['id']}: {n} examples of task '{task_of(row)}' are wanted and "
            f"{len(drawn)} of {len(pool)} fit; lower the number or add examples"
        )
    return drawn


def _random_order(n: int, rng: random.Random) -> Iterator[int]:
    """0 … n-1 shuffled (Fisher-Yates), lazily: the cost grows with what is read, not with n."""
    moved: dict[int, int] = {}
    for place in range(n):
        other = rng.randrange(place, n)
        yield moved.get(other, other)
        moved[other] = moved.get(place, place)
