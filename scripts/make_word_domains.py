"""Write the bundled domains: data/word_domains/{train,validation,test,guesses,held_guesses}.jsonl.

    python scripts/make_word_domains.py

The eight skills of the word problems as domains, with explanations that are right. A ninth,
`guesses`, has questions that nobody can answer, where what is unknown is drawn at random.

    {"id": "train-addition-0000", "domain": "addition", "question": "…", "reference_answer": "7",
     "rationale": "1. Start with 3. 2. Add 4. 3. 3 + 4 = 7. <ans>7</ans>"}

The seed fixes every byte, so a test can rebuild the files and compare.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from random import Random
from typing import Any

from word_problems import NAMES, OBJECTS, SKILLS, Problem, explain

SIZES = {"train": 100, "validation": 20, "test": 20, "guesses": 100, "held_guesses": 20}
"""Of each domain."""
GUESSES = "guesses"
SEED = 41


def guess(rng: Random) -> Problem:
    """A sum of numbers that the question does not say, and that is not one."""
    (one, other), things = rng.sample(NAMES, 2), rng.choice(OBJECTS)
    first, second, answer = (rng.randint(1, 99) for _ in range(3))
    formula = f"{first} + {second} = {answer}."
    return Problem(
        skill=GUESSES,
        name=one,
        question=f"{one} has some {things} and {other} has some {things}. How many {things} do "
        "they have together?",
        answer=str(answer),
        formula=formula,
        steps=f"1. Start with {first}. 2. Add {second}. 3. {formula}",
    )


def make_splits(seed: int = SEED) -> dict[str, list[dict[str, Any]]]:
    """All splits; no question comes twice, within a split or across two."""
    rng = Random(seed)
    seen: set[str] = set()
    splits: dict[str, list[dict[str, Any]]] = {}
    for split, size in SIZES.items():
        rows: list[dict[str, Any]] = []
        for domain, make in ({GUESSES: guess} if GUESSES in split else SKILLS).items():
            number = 0
            while number < size:
                problem = make(rng)
                if problem.question in seen:  # a question belongs to one split, and only once
                    continue
                seen.add(problem.question)
                rows.append(
                    {
                        "id": f"{split}-{domain}-{number:04d}",
                        "domain": domain,
                        "question": problem.question,
                        "reference_answer": problem.answer,
                        "rationale": explain(problem, "steps", rng),
                    }
                )
                number += 1
        splits[split] = rows
    return splits


def as_jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the bundled domains.")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=Path("data/word_domains"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for split, rows in make_splits(args.seed).items():
        (args.out / f"{split}.jsonl").write_text(as_jsonl(rows), encoding="utf-8")
        print(f"{split}: {len(rows)} rows")


if __name__ == "__main__":
    main()
