from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from make_word_problems import SIZES, as_jsonl, make_splits
from solve_word_problems import solve
from word_problems import (
    SKILLS,
    STYLES,
    copy_riddle,
    explain,
    is_copy_riddle,
    sample_problem,
    style_of,
)

DATA = Path(__file__).resolve().parents[2] / "data/word_problems"


def read(split: str) -> list[dict[str, Any]]:
    lines = (DATA / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(("split", "size"), SIZES.items())
def test_each_split_has_its_size_and_every_skill(split: str, size: int) -> None:
    rows = read(split)
    assert len(rows) == size
    assert {row["skills"][0] for row in rows} == set(SKILLS)
    assert {tuple(row) for row in rows} == {
        ("id", "task", "question", "reference_answer", "skills")
    }


def test_ids_and_questions_are_unique_across_the_splits() -> None:
    rows = [row for split in SIZES for row in read(split)]
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({row["question"].casefold() for row in rows}) == len(rows)


@pytest.mark.parametrize("split", SIZES)
def test_the_generator_reproduces_the_committed_file(split: str) -> None:
    assert (DATA / f"{split}.jsonl").read_text(encoding="utf-8") == as_jsonl(make_splits()[split])


@pytest.mark.parametrize("split", SIZES)
def test_an_oracle_that_reads_the_question_agrees_with_the_reference(split: str) -> None:
    for row in read(split):
        assert solve(row["question"]) == (row["skills"][0], row["reference_answer"]), row


@pytest.mark.parametrize("style", STYLES)
def test_a_rationale_shows_its_style_and_ends_in_the_answer(style: str) -> None:
    rng = Random(4)
    for draw in (sample_problem, copy_riddle):
        for _ in range(200):
            problem = draw(rng)
            rationale = explain(problem, style, rng)
            assert style_of(rationale) == style
            assert rationale.endswith(f"<ans>{problem.answer}</ans>")
            assert "\n" not in rationale


def test_a_guess_is_never_right_and_a_formula_then_agrees_with_it() -> None:
    rng = Random(6)
    for style in STYLES:
        for _ in range(300):
            problem = sample_problem(rng)
            assert f"<ans>{problem.answer}</ans>" not in explain(problem, style, rng, guess=True)


def test_copy_riddles_are_told_from_problems() -> None:
    rng = Random(8)
    assert all(is_copy_riddle(copy_riddle(rng).question) for _ in range(200))
    assert not any(is_copy_riddle(sample_problem(rng).question) for _ in range(2000))


@pytest.mark.parametrize(
    "question",
    [
        "Tom packs 13 pens into 3 equal bags. How many pens are in each bag?",
        "Tom has 3 pens and Ann has 3 pens. Who has more pens?",
        "Tom makes a pile: the cup is on the hat and the pen is on the book. What is on top?",
        "Today is Mayday. Tom swims in 3 days. On what day is that?",
        "Tom has 3 pens and loses 2 of them. How many hats are left?",
    ],
)
def test_the_oracle_refuses_what_cannot_be_solved(question: str) -> None:
    assert solve(question) is None
