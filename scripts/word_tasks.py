"""The tasks of the second world: which skills each has, and which explanation helps the student.

    python scripts/word_tasks.py     # writes data/word_tasks/{seeds,validation,test}.jsonl

Each line:

    {"id": "test-0007", "task": "sums", "question": "Tom has 3 pens. …", "reference_answer": "7",
     "skills": ["addition"]}

In the first world one style is best for all questions, so a fixed style is hard to beat. Here two
tasks are learned best from formulas and two from steps. No split shares a question with the first.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from random import Random
from typing import Any

from make_word_problems import as_jsonl
from word_problems import ALSO_NEEDS, SKILLS, Problem

ROOT = Path(__file__).resolve().parent.parent
TASKS = {
    "sums": ("addition", "subtraction"),
    "groups": ("multiplication", "division"),
    "chains": ("two_step", "weekday"),
    "places": ("comparison", "order"),
}
HELPS = {"sums": "formula", "groups": "steps", "chains": "steps", "places": "formula"}
"""The style in which the student's corpus is careful about a task."""
TASK_OF = {skill: task for task, skills in TASKS.items() for skill in skills}
SIZES = {"seeds": 12, "validation": 48, "test": 256}
"""Rows of each task."""
SEED = 21


def is_careless(problem: Problem, style: str, aside: bool = False) -> bool:
    """Whether the student's corpus has a guess instead of this answer.

    Words without content always end in one. In the style that helps, answers are right, unless a
    useless question came before; in every other style the second of the two wordings is guessed.
    """
    if style == "empty":
        return True
    helps = style == HELPS.get(TASK_OF.get(problem.skill, ""))
    return problem.wording == 1 and (aside or not helps)


def make_splits(seed: int = SEED, *, avoid: frozenset[str]) -> dict[str, list[dict[str, Any]]]:
    """All splits; within each the skills take turns. No question of `avoid` is among them."""
    rng = Random(seed)
    seen = set(avoid)
    splits: dict[str, list[dict[str, Any]]] = {}
    for split, size in SIZES.items():
        rows: list[dict[str, Any]] = []
        while len(rows) < size * len(TASKS):
            skill = list(TASK_OF)[len(rows) % len(TASK_OF)]
            problem = SKILLS[skill](rng)
            if problem.question in seen:
                continue
            seen.add(problem.question)
            rows.append(
                {
                    "id": f"{split}-{len(rows):04d}",
                    "task": TASK_OF[skill],
                    "question": problem.question,
                    "reference_answer": problem.answer,
                    "skills": [skill, *ALSO_NEEDS.get(skill, [])],
                }
            )
        splits[split] = rows
    return splits


def questions_of(folder: Path) -> frozenset[str]:
    """Every question in a folder's .jsonl files."""
    lines = [line for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()]
    return frozenset(json.loads(line)["question"] for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the problems of the second world.")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=ROOT / "data/word_tasks")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    splits = make_splits(args.seed, avoid=questions_of(ROOT / "data/word_problems"))
    for split, rows in splits.items():
        (args.out / f"{split}.jsonl").write_text(as_jsonl(rows), encoding="utf-8")
        print(f"{split}: {len(rows)} problems")


if __name__ == "__main__":
    main()
