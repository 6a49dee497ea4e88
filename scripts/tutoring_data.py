"""Write the splits of the tutors' world.

    python scripts/tutoring_data.py       # writes data/tutoring/*.jsonl

| file | a line |
| --- | --- |
| validation, test | a pupil's wrong work, its mistake and the remedy that helps |
| turns | the same, an expert's dialogue so far (`turns`), and its next turn (`completion`) |
| declared_{sft,align,test} | the expert's next turn after one to three wrong answers, as JSON |
| pairs | a right and a wrong work on a question, in either order, one of them wordy |
| work_{train,test} | a pupil's work, its true grade, two raters' grades, two people's labels |

SIZES counts the dialogues of `turns`. No question is in two files, nor in another world. What is
planted stands in `tutoring.py`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from make_word_problems import as_jsonl
from tutoring import (
    GRADES,
    INTENTIONS,
    MISTAKES,
    REMEDY_OF,
    Case,
    case,
    explanation,
    remedy_text,
    right_work,
    talk,
)
from tutoring_documents import declared_case, declared_turn
from tutoring_judges import JUDGES, pair_row, verdicts
from word_tasks import questions_of

ROOT = Path(__file__).resolve().parent.parent
SIZES = {
    "turns": 400,
    "validation": 80,
    "test": 200,
    "declared_sft": 200,
    "declared_align": 200,
    "declared_test": 150,
    "work_train": 300,
    "work_test": 300,
    "pairs": 200,
}
WORKS = ("none", "none", *MISTAKES)
INTENTION_FOR = dict(zip(MISTAKES, INTENTIONS, strict=True))
NOISE = 0.1
PERSON_ERRS = {"none": 0.02, "operation": 0.02, "numbers": 0.02, "result": 0.02, "guess": 0.25}
"""How often a person names another mistake than the pupil's. An answer without a calculation is a
guess to one and a wrong result to another; elsewhere people slip, and name any other."""
PEOPLE = ("first_person", "second_person")
KIND_OF = {"none": "right", "result": "wrong by calculation"}
SEED = 31


def case_row(found: Case) -> dict[str, Any]:
    return {
        "skills": [found.problem.skill],
        "question": found.problem.question,
        "reference_answer": found.problem.answer,
        "misconception": found.mistake,
    }


def wrong_row(found: Case) -> dict[str, Any]:
    """What is true of the pupil (misconception), and what an expert decides about it."""
    more = {
        "mistake": found.mistake,
        "remedy": REMEDY_OF[found.mistake],
        "intention": INTENTION_FOR[found.mistake],
        "wrong_solution": found.work,
        "right_work": right_work(found.problem),
        "misleading_explanation": explanation(found.problem, "misleading"),
    }
    return {**case_row(found), **more}


def talk_rows(identity: str, found: Case, rng: Random) -> Iterator[dict[str, Any]]:
    """A row for each of the expert's turns in one dialogue; it declares its act in a tag."""
    whole = talk(found, rng)
    for place, turn in enumerate(whole):
        if turn["speaker"] == "tutor":
            yield {
                "id": f"{identity}-{place // 2}",
                "dialogue": identity,
                **wrong_row(found),
                "turns": whole[:place],
                "completion": f"<act>{turn['act']}</act> {turn['text']}",
            }


def declared_row(found: Case, rng: Random) -> dict[str, Any]:
    turns, n_tries = declared_case(rng, found)
    completion = declared_turn(found, n_tries, rng)
    declared = json.loads(completion)
    return {
        **case_row(found),
        "turns": turns,
        "n_tries": n_tries,
        "evaluation": declared["evaluation"],
        "action": declared["action"],
        "is_hint": float(declared["action"] == "hint"),
        "completion": completion,
        "preferred": json.dumps(declared | _hint(found)),
        "other": json.dumps(declared | _solution(found)),
    }


def _hint(found: Case) -> dict[str, str]:
    return {"action": "hint", "text": remedy_text(REMEDY_OF[found.mistake], found)}


def _solution(found: Case) -> dict[str, str]:
    return {"action": "solution", "text": f"It is {found.problem.formula}"}


def rated(grade: int, rng: Random, lenient: bool) -> int:
    """A rater's grade: one more where it is lenient, and any grade in one of ten cases."""
    if rng.random() < NOISE:
        return rng.randint(0, 4)
    return min(grade + lenient, 4)


def named(mistake: str, rng: Random) -> str:
    """The mistake that a person names, which is another one as often as PERSON_ERRS says."""
    others = ["result"] if mistake == "guess" else [e for e in PERSON_ERRS if e != mistake]
    return rng.choice(others) if rng.random() < PERSON_ERRS[mistake] else mistake


def annotated(identity: str, mistake: str) -> dict[str, str]:
    """Two people's labels of a work, each drawn by itself, and the first one's as JSON."""
    labels = {who: named(mistake, Random(f"{identity} {who}")) for who in PEOPLE}
    return {**labels, "annotation": json.dumps({"mistake": labels[PEOPLE[0]]})}


def work_row(found: Case, rng: Random) -> dict[str, Any]:
    grade = GRADES[found.mistake]
    lenient = rated(grade, rng, lenient=True)
    return {
        **case_row(found),
        "kind_of_work": KIND_OF.get(found.mistake, "wrong by method"),
        "answer": found.work,
        "true_grade": grade,
        "lenient_grade": lenient,
        "fair_grade": rated(grade, rng, lenient=False),
        "completion": f"<grade>{lenient}</grade>",
    }


def rows_of(split: str, rng: Random, seen: set[str]) -> Iterator[dict[str, Any]]:
    mistakes = WORKS if split.startswith("work") else MISTAKES
    for number in range(SIZES[split]):
        found = case(rng, [mistakes[number % len(mistakes)]], seen)
        seen.add(found.problem.question)
        row = {"id": f"{split.replace('_', '-')}-{number:04d}"}
        if split.startswith("declared"):
            yield {**row, **declared_row(found, rng)}
        elif split.startswith("work"):
            yield {**row, **work_row(found, rng), **annotated(row["id"], found.mistake)}
        elif split == "pairs":
            yield {**row, **pair_row(found, number)}
        elif split == "turns":
            yield from talk_rows(row["id"], found, rng)
        else:
            yield {**row, **wrong_row(found)}


def make_splits(seed: int, avoid: frozenset[str]) -> dict[str, list[dict[str, Any]]]:
    """All splits; within each the mistakes take turns, and no question is there twice."""
    rng = Random(seed)
    seen = set(avoid)
    return {split: list(rows_of(split, rng, seen)) for split in SIZES}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the splits of the tutors' world.")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=ROOT / "data/tutoring")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    avoid = questions_of(ROOT / "data/word_problems") | questions_of(ROOT / "data/word_tasks")
    for split, rows in make_splits(args.seed, avoid).items():
        (args.out / f"{split}.jsonl").write_text(as_jsonl(rows), encoding="utf-8")
        print(f"{split}: {len(rows)} rows")
        for judge in JUDGES if split == "pairs" else ():
            said = as_jsonl(list(verdicts(rows, judge)))
            (args.out / f"verdicts_{judge}.jsonl").write_text(said, encoding="utf-8")


if __name__ == "__main__":
    main()
