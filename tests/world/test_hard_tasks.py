"""The hard tasks: what the script writes, with exact halves and planted mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from hard_tasks import PLANTED, SIZES, hard_task, make_files
from make_word_problems import as_jsonl
from solve_word_problems import solve
from train_tiny_models import bundled_questions

from llm_distill.methods.calculations import wrong_steps
from llm_distill.methods.parsing import read_blocks, read_tag
from llm_distill.methods.subtasks import subtask_problem

DATA = Path(__file__).resolve().parents[2] / "data/hard_tasks"


def test_the_files_are_what_the_script_writes() -> None:
    files = make_files()
    for name, rows in files.items():
        assert (DATA / f"{name}.jsonl").read_text(encoding="utf-8") == as_jsonl(rows)
    assert {split: len(files[split]) for split in SIZES} == SIZES
    asked = [row["question"] for split in SIZES for row in files[split]]
    assert len(set(asked)) == len(asked)
    assert not set(asked) & (bundled_questions() | bundled_questions("word_tasks"))


def test_halves_are_problems_of_the_world_and_their_steps_are_those_of_the_task() -> None:
    rng = Random(1)
    for _ in range(200):
        task = hard_task(rng)
        assert wrong_steps(task.rationale) == (0, 2)
        for half in task.halves:
            assert solve(half.question) == (half.skill, half.answer)
            assert wrong_steps(half.steps) == (0, 1)
            assert half.formula in task.rationale
        assert task.halves[1].answer == str(task.answer)


def test_all_that_is_planted_is_found_and_nothing_else() -> None:
    names = {
        "whole": "nearly the whole task",
        "pointing": "not self-contained",
        "unsaid": "not self-contained",
        "no step": "too few steps",
    }
    tasks = [json.loads(line) for line in (DATA / "train.jsonl").read_text().splitlines()]
    said = [json.loads(line) for line in (DATA / "decompositions.jsonl").read_text().splitlines()]
    for number, (task, row) in enumerate(zip(tasks, said, strict=True)):
        found = [
            subtask_problem(
                read_tag(block, "question") or "",
                read_tag(block, "solution") or "",
                task["rationale"],
                least_steps=1,
                most_share=0.75,
            )
            for block in read_blocks(row["completion"], r"Subtask_\d+")
        ]
        planted = [names[PLANTED[number % 8]]] if number % 8 in PLANTED else []
        assert found == [None, None, *planted]
