"""Write seeds to choose among, one in ten of which nobody can answer: data/word_seeds.

    python scripts/word_seeds.py

Each line:

    {"id": "seed-0009", "task": "word_problems", "question": "Ann has some pens and …",
     "reference_answer": "7", "rationale": "1. Start with 3. … <ans>7</ans>",
     "skills": ["addition"], "state": "unanswerable"}

train.jsonl has them all, whole.jsonl those that can be answered. The seed fixes every byte, so a
test can rebuild the files and compare.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from random import Random
from typing import Any

from make_word_problems import as_jsonl
from word_problems import ALSO_NEEDS, SKILLS, explain

SIZE = 160
SEED = 46
UNANSWERABLE = ("addition", "multiplication", "division", "two_step")
"""Skills that the students of the bundled world have: what is made from such a seed is of no use
to them, so that a choice which falls for it can be seen in the exam too."""
EVERY = 10


def make_seeds(used: set[str], seed: int = SEED) -> list[dict[str, Any]]:
    """The rows; the skills take turns, and every tenth question has lost its numbers.

    Its reference answer and its rationale are those of the whole question: right, and beyond
    anyone's guess.

    Args:
        used: questions that may not be asked again.
        seed: of the draws.
    """
    rng = Random(seed)
    skills, seen = list(SKILLS), set(used)
    rows: list[dict[str, Any]] = []
    n_whole = 0
    while len(rows) < SIZE:
        is_lost = len(rows) % EVERY == EVERY - 1
        turn = len(rows) // EVERY if is_lost else n_whole
        skill = (UNANSWERABLE if is_lost else skills)[turn % (len(UNANSWERABLE) if is_lost else 8)]
        problem = SKILLS[skill](rng)
        question = re.sub(r"\d+", "some", problem.question) if is_lost else problem.question
        if question in seen:
            continue
        seen.add(question)
        n_whole += not is_lost
        rows.append(
            {
                "id": f"seed-{len(rows):04d}",
                "task": "word_problems",
                "question": question,
                "reference_answer": problem.answer,
                "rationale": explain(problem, "steps", rng),
                "skills": [skill, *ALSO_NEEDS.get(skill, [])],
                "state": "unanswerable" if is_lost else "answerable",
            }
        )
    return rows


def splits(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    return {"train": rows, "whole": [row for row in rows if row["state"] == "answerable"]}


def asked_elsewhere(data: Path) -> set[str]:
    """The questions of the world's other files."""
    lines = [
        line
        for name in ("word_problems", "word_tasks")
        for path in sorted((data / name).glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return {json.loads(line)["question"] for line in lines}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the bundled seeds.")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=Path("data/word_seeds"))
    args = parser.parse_args()
    rows = make_seeds(asked_elsewhere(Path("data")), args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    for split, own in splits(rows).items():
        (args.out / f"{split}.jsonl").write_text(as_jsonl(own), encoding="utf-8")
        print(f"{split}: {len(own)} seeds")


if __name__ == "__main__":
    main()
