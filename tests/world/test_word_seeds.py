"""The seeds of data/word_seeds: what is planted in them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from make_word_problems import as_jsonl
from solve_word_problems import solve
from word_problems import SKILLS
from word_seeds import UNANSWERABLE, asked_elsewhere, make_seeds, splits

DATA = Path(__file__).resolve().parents[2] / "data"
FILE = DATA / "word_seeds/train.jsonl"
SPLITS = splits(make_seeds(asked_elsewhere(DATA)))


def read() -> list[dict[str, Any]]:
    return [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("split", SPLITS)
def test_the_generator_reproduces_the_committed_file(split: str) -> None:
    file = FILE.with_name(f"{split}.jsonl")
    assert file.read_text(encoding="utf-8") == as_jsonl(SPLITS[split])


def test_no_question_is_asked_twice_or_in_another_file() -> None:
    questions = [row["question"] for row in read()]
    assert len(set(questions)) == len(questions)
    assert not asked_elsewhere(DATA).intersection(questions)


def test_one_in_ten_cannot_be_answered_and_the_others_are_spread_evenly() -> None:
    rows = read()
    of = Counter((row["state"], row["skills"][0]) for row in rows)
    assert {of["answerable", skill] for skill in SKILLS} == {18}
    assert {skill: of["unanswerable", skill] for skill in UNANSWERABLE} == dict.fromkeys(
        UNANSWERABLE, 4
    )
    assert len(rows) == 160 == of.total()


def test_an_oracle_answers_what_can_be_answered_and_nothing_else() -> None:
    for row in read():
        assert row["rationale"].endswith(f"<ans>{row['reference_answer']}</ans>")
        if row["state"] == "answerable":
            assert solve(row["question"]) == (row["skills"][0], row["reference_answer"])
        else:
            assert not any(c.isdigit() for c in row["question"])
            assert solve(row["question"]) is None
