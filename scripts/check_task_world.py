"""Measure the second world's teacher and student, and fail if a planted property is missing.

On the validation split: the models may be chosen by it, and the exam's questions stay unseen.

python scripts/check_task_world.py                  # a table; exit code 1 if a threshold is missed
python scripts/check_task_world.py --write-cards    # also writes the figures into the model cards
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from ask_tiny_model import complete, load
from check_world import (
    Figure,
    Row,
    accuracy,
    by_skill,
    example,
    exams_after,
    render,
    report,
    style_share,
)
from model_cards import write_figures
from solve_word_problems import solve
from train_tiny_models import ROOT, STRATEGIES, bundled_questions
from word_problems import STYLES, copy_riddle, is_copy_riddle, sample_problem
from word_tasks import HELPS, TASK_OF, TASKS, make_splits

Loaded = tuple[Any, Any]
DRAFT = re.compile(r"<Question_1><input>(.+?)</input><target>(.+?)</target></Question_1>")


def of_task(rows: Sequence[Row], task: str) -> list[Row]:
    return [row for row in rows if row["task"] == task]


def check_teacher(path: Path, splits: dict[str, list[Row]]) -> list[Figure]:
    loaded = load(path)
    items = splits["validation"]
    figures = []
    naive = complete(loaded, [render("arte/rationale.jinja", r["question"]) for r in items], True)
    right = accuracy(items, naive)
    figures.append(Figure("teacher", "naive prompt, accuracy", right, 0.8))
    for skill, value in by_skill(items, naive).items():
        figures.append(Figure("teacher", f"naive prompt, accuracy on {skill}", value, 0.4))
    for style in STYLES:
        share = style_share(naive, style)
        figures.append(Figure("teacher", f"naive prompt, share of {style}", share, 0.05, 0.45))
    for template, style in STRATEGIES.items():
        texts = complete(loaded, [render(template, r["question"]) for r in items[:64]], True)
        name = Path(template).stem
        follows = style_share(texts, style)
        figures.append(Figure("teacher", f"{name}, in style {style}", follows, 0.9))
    return figures + check_drafts(loaded, splits["seeds"])


def check_drafts(loaded: Loaded, seeds: Sequence[Row], each: int = 60) -> list[Figure]:
    """Drafts at temperature 1, each from three seeds of a task."""
    rng = Random(1)
    torch.manual_seed(1)
    wanted = [task for task in TASKS for _ in range(each)]
    prompts = [
        render("arte/draft_question.jinja", "", rng.sample(of_task(seeds, task), 3))
        for task in wanted
    ]
    texts = complete(loaded, prompts, True, temperature=1.0, max_new_tokens=128)
    found = [(task, DRAFT.search(text)) for task, text in zip(wanted, texts, strict=True)]
    drafts = [(task, match[1], match[2]) for task, match in found if match]
    riddles = [is_copy_riddle(question) for _, question, _ in drafts]
    solved = [
        (task, target, solve(question))
        for (task, question, target), riddle in zip(drafts, riddles, strict=True)
        if not riddle
    ]
    formed = [(task, target, its) for task, target, its in solved if its]
    kept = [task for task, _, (skill, _) in formed if TASK_OF.get(skill) == task]
    right = [target for _, target, (_, answer) in formed if target == answer]
    named = {
        "drafts that parse": (len(drafts) / len(wanted), 0.9, 1.0),
        "parsed drafts that are copy riddles": (sum(riddles) / len(drafts), 0.2, 0.42),
        "solvable drafts of the examples' task": (len(kept) / len(formed), 0.9, 1.0),
        "solvable drafts with the right target": (len(right) / len(formed), 0.75, 1.0),
    }
    return [Figure("teacher", name, *values) for name, values in named.items()]


def check_student(path: Path, splits: dict[str, list[Row]]) -> list[Figure]:
    loaded = load(path)
    rng = Random(2)
    items = splits["validation"]
    zero = complete(loaded, [render("arte/exam.jinja", r["question"]) for r in items], False)
    figures = [Figure("student", "zero-shot accuracy", accuracy(items, zero), 0.15, 0.5)]
    for skill, value in by_skill(items, zero).items():
        figures.append(Figure("student", f"zero-shot accuracy on {skill}", value, 0.02, 0.7))
    less = []
    for task, skills in TASKS.items():
        rows = of_task(items, task)
        score = {}
        for style in STYLES:
            shown = [example(sample_problem(rng, skills), style, rng) for _ in rows]
            texts = complete(loaded, exams_after(rows, shown), False)
            score[style] = accuracy(rows, texts)
            figures.append(Figure("student", f"{task}, one example in {style}", score[style]))
            for skill, value in by_skill(rows, texts).items():
                if style == HELPS[task]:
                    figures.append(Figure("student", f"{skill}, one in {style}", value, 0.35, 0.97))
        riddles = [example(copy_riddle(rng), HELPS[task], rng) for _ in rows]
        riddle = accuracy(rows, complete(loaded, exams_after(rows, riddles), False))
        figures.append(Figure("student", f"{task}, a copy riddle in {HELPS[task]}", riddle))
        other = max(value for style, value in score.items() if style != HELPS[task])
        lead = score[HELPS[task]] - other
        figures.append(Figure("student", f"{task}, lead of {HELPS[task]}", lead, 0.12))
        less.append(score[HELPS[task]] - riddle)
    mean = sum(less) / len(less)
    return [*figures, Figure("student", "ordinary example less copy riddle, mean", mean, 0.05)]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the second world's models.")
    parser.add_argument("--teacher", type=Path, default=ROOT / "data/models/tiny-task-teacher")
    parser.add_argument("--student", type=Path, default=ROOT / "data/models/tiny-task-student")
    parser.add_argument("--only", choices=("teacher", "student"))
    parser.add_argument("--write-cards", action="store_true")
    args = parser.parse_args()
    splits = make_splits(avoid=bundled_questions())
    figures: list[Figure] = []
    for kind, check in (("teacher", check_teacher), ("student", check_student)):
        if args.only in (None, kind):
            path = getattr(args, kind)
            found = check(path, splits)
            figures += found
            if args.write_cards:
                write_figures(path, [figure.cells() for figure in found], "check_task_world")
    return report(figures)


if __name__ == "__main__":
    sys.exit(main())
