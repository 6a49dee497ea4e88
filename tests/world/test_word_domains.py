"""The bundled domains: made again byte by byte, and what is in them."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from make_word_domains import GUESSES, SIZES, as_jsonl, make_splits
from solve_word_problems import solve
from word_problems import SKILLS, style_of

DATA = Path(__file__).resolve().parents[2] / "data/word_domains"


def read(split: str) -> list[dict[str, Any]]:
    lines = (DATA / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_files_are_those_that_the_script_makes() -> None:
    for split, rows in make_splits().items():
        assert (DATA / f"{split}.jsonl").read_text(encoding="utf-8") == as_jsonl(rows)


@pytest.mark.parametrize(("split", "size"), SIZES.items())
def test_each_domain_has_its_size(split: str, size: int) -> None:
    domains = [GUESSES] if GUESSES in split else list(SKILLS)
    assert Counter(row["domain"] for row in read(split)) == dict.fromkeys(domains, size)


def test_no_question_comes_twice() -> None:
    questions = [row["question"] for split in SIZES for row in read(split)]
    assert len(set(questions)) == len(questions)


def test_texts_are_right_and_guesses_are_not_known() -> None:
    for split in ("train", "validation", "test"):
        for row in read(split):
            assert solve(row["question"]) == (row["domain"], row["reference_answer"])
            assert style_of(row["rationale"]) == "steps"
            assert row["rationale"].endswith(f"<ans>{row['reference_answer']}</ans>")
    for row in read("guesses"):
        assert not re.search(r"\d", row["question"])
