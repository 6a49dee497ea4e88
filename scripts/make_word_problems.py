"""Write the bundled word problems: data/word_problems/{seeds,train,validation,test}.jsonl.

    python scripts/make_word_problems.py

Each line:

    {"id": "test-0007", "task": "word_problems", "question": "Tom has 3 pens. …",
     "reference_answer": "7", "skills": ["addition"]}

The seed fixes every byte, so a test can rebuild the files and compare.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from random import Random
from typing import Any

from word_problems import ALSO_NEEDS, SKILLS

SIZES = {"seeds": 24, "train": 400, "validation": 120, "test": 200}
SEED = 20


def make_splits(seed: int = SEED, n_test: int = SIZES["test"]) -> dict[str, list[dict[str, Any]]]:
    """All splits; within each the skills alternate, so that they are equally frequent."""
    rng = Random(seed)
    skills = list(SKILLS)
    seen: set[str] = set()
    splits: dict[str, list[dict[str, Any]]] = {}
    for split, size in {**SIZES, "test": n_test}.items():
        rows: list[dict[str, Any]] = []
        while len(rows) < size:
            skill = skills[len(rows) % len(skills)]
            problem = SKILLS[skill](rng)
            if problem.question in seen:  # a question belongs to one split, and only once
                continue
            seen.add(problem.question)
            rows.append(
                {
                    "id": f"{split}-{len(rows):04d}",
                    "task": "word_problems",
                    "question": problem.question,
                    "reference_answer": problem.answer,
                    "skills": [skill, *ALSO_NEEDS.get(skill, [])],
                }
            )
        splits[split] = rows
    return splits


def as_jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the bundled word problems.")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=Path("data/word_problems"))
    parser.add_argument("--n-test", type=int, default=SIZES["test"], help="questions of an exam")
    args = parser.parse_args()
    splits = make_splits(args.seed, args.n_test)
    questions = [row["question"] for rows in splits.values() for row in rows]
    assert len(set(questions)) == len(questions), "the splits share a question"
    args.out.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        (args.out / f"{split}.jsonl").write_text(as_jsonl(rows), encoding="utf-8")
        print(f"{split}: {len(rows)} problems")


if __name__ == "__main__":
    main()
