"""data/notices_labels, data/notices_several: the files are what the program makes, and as said."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import notices_labels
import pytest

DATA = Path(__file__).parents[2] / "data"


def lines(folder: str, split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / folder / f"{split}.jsonl").open()]


def test_the_files_are_what_the_program_makes() -> None:
    for folder, make, sizes in (
        ("notices_labels", notices_labels.labelled, notices_labels.LABELLED),
        ("notices_several", notices_labels.several, notices_labels.SEVERAL),
    ):
        for split, n in sizes.items():
            there = lines(folder, split)
            assert len(there) == n
            assert there[:5] == list(make(split, 5))


def test_the_annotator_is_wrong_without_a_system() -> None:
    rows = lines("notices_labels", "train")
    wrong = [row for row in rows if row["annotator"] != row["reference_answer"]]
    assert len(wrong) / len(rows) == pytest.approx(notices_labels.ANNOTATOR_WRONG, abs=0.03)
    assert max(Counter(row["annotator"] for row in wrong).values()) < len(wrong) / 4
    for row in rows[:50]:
        assert sorted(row["shuffled"]) == sorted(row["probabilities"])
        at = row["choices"].index(row["label"])
        assert row["shuffled"][at] == row["probabilities"][at]


def test_the_teacher_of_several_misses_more_than_it_makes_up() -> None:
    rows = lines("notices_several", "train")
    assert Counter(len(row["reference_labels"]) for row in rows)[0] > 70
    missed = sum(len({*row["reference_labels"]} - {*row["labels"]}) for row in rows)
    made_up = sum(len({*row["labels"]} - {*row["reference_labels"]}) for row in rows)
    there = sum(len(row["reference_labels"]) for row in rows)
    assert 0.2 < missed / there < 0.3
    assert 0.1 < made_up / there < 0.2
