"""Hard tasks with two steps, and their subtasks: data/hard_tasks/{train,test,decompositions}.jsonl.

    python scripts/hard_tasks.py

Each line of a split, and of what a teacher is made to say of the training split:

    {"id": "train-0007", "question": "Tom has 9 pens, then loses 3 pens and buys 4 pens. …",
     "rationale": "1. Start with 9. 2. 9 - 3 = 6. 3. 6 + 4 = 10. <ans>10</ans>",
     "reference_answer": "10", "one_more": "11", "two_more": "12"}
    {"contains": "Tom has 9 pens, then loses …", "completion": "<Subtask_1>…"}

The halves are problems of the world (`word_problems.py`), with another solution for each; the whole
is not. What no subtask is, is planted, so that it is known what a check has to find.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from make_word_problems import as_jsonl
from word_problems import NAMES, OBJECTS, Problem

ROOT = Path(__file__).resolve().parent.parent
SIZES = {"train": 256, "test": 400}
SEED = 45
PLANTED = {0: "whole", 1: "pointing", 2: "unsaid", 3: "no step"}
"""In every eighth decomposition from each of these on there is one subtask that is none."""


@dataclass(frozen=True)
class HardTask:
    """A problem of two steps, `a - b + c`, and its halves."""

    question: str
    rationale: str
    answer: int
    halves: tuple[Problem, Problem]


def hard_task(rng: Random) -> HardTask:
    """One task: something is lost, and then something found."""
    name, other = rng.sample(NAMES, 2)
    thing = rng.choice(OBJECTS)
    a = rng.randint(4, 12)
    b, c = rng.randint(2, a - 1), rng.randint(2, 9)
    left, end = a - b, a - b + c
    wording = rng.randrange(2)
    question = (
        f"{name} has {a} {thing}, then loses {b} {thing} and buys {c} {thing}. "
        f"How many {thing} does {name} have at the end?",
        f"{name} has {a} {thing}. {name} gives {b} {thing} to {other} and finds {c} {thing}. "
        f"How many {thing} does {name} have now?",
    )[wording]
    first, second = f"{a} - {b} = {left}.", f"{left} + {c} = {end}."
    losing = (
        f"{name} has {a} {thing} and loses {b} of them. How many {thing} are left?",
        f"{name} has {a} {thing}. {name} gives {b} {thing} to {other}. "
        f"How many {thing} does {name} have left?",
    )[wording]
    finding = (
        f"{name} has {left} {thing} and {other} has {c} {thing}. "
        f"How many {thing} do they have together?",
        f"{name} has {left} {thing}. {other} gives {name} {c} more {thing}. "
        f"How many {thing} does {name} have now?",
    )[wording]
    halves = (
        Problem(
            "subtraction", name, losing, str(left), first,
            f"1. Start with {a}. 2. Take away {b}. 3. {first}", wording,
        ),
        Problem(
            "addition", name, finding, str(end), second,
            f"1. Start with {left}. 2. Add {c}. 3. {second}", wording,
        ),
    )  # fmt: skip
    rationale = f"1. Start with {a}. 2. {first} 3. {second} <ans>{end}</ans>"
    return HardTask(question, rationale, end, halves)


def decomposition(task: HardTask, number: int) -> str:
    """What a teacher says who is asked for subtasks: two halves, and sometimes what is none."""
    said = [(half.question, half.steps, half.answer) for half in task.halves]
    planted = PLANTED.get(number % 8)
    losing, finding = task.halves
    if planted == "whole":
        steps = task.rationale.partition(" <ans>")[0]
        said.append((task.question, steps, str(task.answer)))
    elif planted == "pointing":
        told = f"Take the result of the previous subtask. {finding.question.partition('. ')[2]}"
        said.append((told, finding.steps, finding.answer))
    elif planted == "unsaid":
        asked = losing.question.rpartition(". ")[2]
        said.append((f"{losing.name} loses some things. {asked}", losing.steps, losing.answer))
    elif planted == "no step":
        counted = losing.steps.partition(". ")[2].partition(" with ")[2].partition(".")[0]
        asked = f"{losing.question.partition('.')[0]}. What is the first number?"
        said.append((asked, f"1. Read {counted}.", counted))
    return "".join(
        f"<Subtask_{index}><question>{question}</question>"
        f"<solution>{steps} <ans>{answer}</ans></solution>"
        f"<answer>{answer}</answer></Subtask_{index}>"
        for index, (question, steps, answer) in enumerate(said, 1)
    )


def make_files(seed: int = SEED) -> dict[str, list[dict[str, Any]]]:
    """The rows of all files, by name; no question is in two of them."""
    rng = Random(seed)
    seen: set[str] = set()
    files: dict[str, list[dict[str, Any]]] = {split: [] for split in SIZES}
    said: list[dict[str, Any]] = []
    for split, size in SIZES.items():
        while len(files[split]) < size:
            task = hard_task(rng)
            if task.question in seen:
                continue
            seen.add(task.question)
            number = len(files[split])
            files[split].append(
                {
                    "id": f"{split}-{number:04d}",
                    "question": task.question,
                    "rationale": task.rationale,
                    "reference_answer": str(task.answer),
                    "one_more": str(task.answer + 1),
                    "two_more": str(task.answer + 2),
                }
            )
            if split == "train":
                completion = decomposition(task, number)
                said.append({"contains": task.question, "completion": completion})
    return {**files, "decompositions": said}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the hard tasks.")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=ROOT / "data/hard_tasks")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, rows in make_files(args.seed).items():
        (args.out / f"{name}.jsonl").write_text(as_jsonl(rows), encoding="utf-8")
        print(f"{name}: {len(rows)}")


if __name__ == "__main__":
    main()
