"""Measure the bundled teacher and student, and fail if a planted property is missing.

    python scripts/check_world.py                  # a table; exit code 1 if a threshold is missed
    python scripts/check_world.py --write-cards    # also writes the figures into the model cards

One figure:

    Figure("student", "zero-shot accuracy on test", 0.38, low=0.15, high=0.50)
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from ask_tiny_model import answer_of, complete, load
from make_word_problems import make_splits
from model_cards import write_figures
from solve_word_problems import solve
from train_tiny_models import MISSING_SKILLS, ROOT, STRATEGIES
from word_problems import (
    SKILLS,
    STYLES,
    TASK_DESCRIPTION,
    Problem,
    copy_riddle,
    explain,
    is_copy_riddle,
    sample_problem,
    style_of,
)

from llm_distill.prompts import load_template

Row = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """A measurement and the range that it has to be in."""

    model: str
    name: str
    value: float
    low: float = 0.0
    high: float = 1.0

    @property
    def good(self) -> bool:
        return self.low <= self.value <= self.high

    def cells(self) -> list[str]:
        band = "" if (self.low, self.high) == (0.0, 1.0) else f"{self.low:.0%}–{self.high:.0%}"
        return [self.name, f"{self.value:.1%}", band]


def render(template: str, question: str, examples: Sequence[Row] = ()) -> str:
    values = {"question": question, "examples": list(examples), "n_questions": 1}
    return load_template(template).render({"task_description": TASK_DESCRIPTION, **values})


def accuracy(rows: Sequence[Row], texts: Sequence[str]) -> float:
    right: int = sum(
        answer_of(t) == r["reference_answer"] for r, t in zip(rows, texts, strict=True)
    )
    return right / len(rows)


def style_share(texts: Sequence[str], style: str) -> float:
    return sum(style_of(text) == style for text in texts) / len(texts)


def by_skill(rows: Sequence[Row], texts: Sequence[str]) -> dict[str, float]:
    """Accuracy by a problem's first skill."""
    groups: dict[str, list[int]] = {skill: [] for skill in SKILLS}
    for i, row in enumerate(rows):
        groups[row["skills"][0]].append(i)
    return {
        skill: accuracy([rows[i] for i in chosen], [texts[i] for i in chosen])
        for skill, chosen in groups.items()
        if chosen
    }


def check_teacher(path: Path, splits: dict[str, list[Row]]) -> list[Figure]:
    loaded = load(path)
    test, some = splits["test"], splits["validation"][:80]
    figures = []
    naive = complete(loaded, [render("arte/rationale.jinja", r["question"]) for r in test], True)
    figures.append(Figure("teacher", "naive prompt, accuracy on test", accuracy(test, naive), 0.85))
    for skill, value in by_skill(test, naive).items():
        figures.append(Figure("teacher", f"naive prompt, accuracy on {skill}", value))
    for style in STYLES:
        share = style_share(naive, style)
        figures.append(Figure("teacher", f"naive prompt, share of {style}", share, 0.05, 0.45))
    exams = complete(loaded, [render("arte/exam.jinja", r["question"]) for r in test], True)
    figures.append(Figure("teacher", "exam, no example, accuracy", accuracy(test, exams), 0.85))
    for template, style in STRATEGIES.items():
        texts = complete(loaded, [render(template, r["question"]) for r in some], True)
        name = Path(template).stem
        follows = style_share(texts, style)
        figures.append(Figure("teacher", f"{name}, in style {style}", follows, 0.9))
        figures.append(Figure("teacher", f"{name}, accuracy", accuracy(some, texts), 0.8))
    return figures + check_drafts(loaded, splits["seeds"])


def check_drafts(loaded: tuple[Any, Any], seeds: list[Row], count: int = 240) -> list[Figure]:
    """Drafts at temperature 1 from three seeds each."""
    rng = Random(1)
    torch.manual_seed(1)
    prompts = [render("arte/draft_question.jinja", "", rng.sample(seeds, 3)) for _ in range(count)]
    texts = complete(loaded, prompts, True, temperature=1.0, max_new_tokens=128)
    pattern = r"<Question_1><input>(.+?)</input><target>(.+?)</target></Question_1>"
    drafts = [match.groups() for text in texts if (match := re.search(pattern, text))]
    solved = [(question, target, solve(question)) for question, target in drafts]
    formed = [(target, found) for _, target, found in solved if found]
    new = {question for question, _ in drafts} - {row["question"] for row in seeds}
    skills = Counter(found[0] for _, found in formed)
    for skill in SKILLS:
        print(f"  drafts of {skill}: {skills[skill]}")
    parsed = max(len(drafts), 1)
    return [
        Figure("teacher", "drafts that parse", len(drafts) / count, 0.9),
        Figure("teacher", "parsed drafts that can be solved", len(formed) / parsed, 0.8),
        Figure("teacher", "solvable drafts with the right target",
               sum(t == f[1] for t, f in formed) / max(len(formed), 1), 0.8),
        Figure("teacher", "parsed drafts that are new", len(new) / parsed, 0.6),
        Figure("teacher", "parsed drafts that are copy riddles",
               sum(is_copy_riddle(q) for q, _ in drafts) / parsed, 0.2, 0.42),
        Figure("teacher", "skills that drafts cover",
               sum(skills[skill] > 0 for skill in SKILLS) / len(SKILLS), 1.0),
    ]  # fmt: skip


def example(problem: Problem, style: str, rng: Random) -> Row:
    return {"question": problem.question, "rationale": explain(problem, style, rng)}


def exams_after(items: Sequence[Row], examples: Sequence[Row]) -> list[str]:
    """An exam of each item after its only example."""
    return [
        render("arte/exam.jinja", item["question"], [shown])
        for item, shown in zip(items, examples, strict=True)
    ]


def check_student(
    path: Path, splits: dict[str, list[Row]], missing: Sequence[str] = MISSING_SKILLS
) -> list[Figure]:
    loaded = load(path)
    test, items = splits["test"], splits["validation"]
    rng = Random(2)
    zero = complete(loaded, [render("arte/exam.jinja", r["question"]) for r in test], False)
    figures = [Figure("student", "zero-shot accuracy on test", accuracy(test, zero), 0.15, 0.5)]
    for skill, value in by_skill(test, zero).items():
        high = 0.1 if skill in missing else 1.0
        figures.append(Figure("student", f"zero-shot accuracy on {skill}", value, 0.0, high))
    aside_total = ordinary_total = 0.0
    scores: dict[str, float] = {}
    for style in STYLES:
        ordinary = [example(sample_problem(rng), style, rng) for _ in items]
        texts = complete(loaded, exams_after(items, ordinary), False)
        scores[style] = accuracy(items, texts)
        ordinary_total += scores[style] / len(STYLES)
        figures.append(Figure("student", f"one example in {style}, accuracy", scores[style]))
        follows = style_share(texts, style)
        figures.append(Figure("student", f"one example in {style}, keeps it", follows, 0.75))
        for skill, value in by_skill(items, texts).items():
            if skill in missing:
                name = f"one example in {style}, accuracy on {skill}"
                figures.append(Figure("student", name, value, 0.0, 0.15))
        riddles = [example(copy_riddle(rng), style, rng) for _ in items]
        texts = complete(loaded, exams_after(items, riddles), False)
        aside_total += accuracy(items, texts) / len(STYLES)
    best = max(scores["steps"], scores["formula"])
    return [
        *figures,
        Figure("student", "best style less bare answers", best - scores["answer"], 0.08),
        Figure("student", "best style less empty words", best - scores["empty"], 0.3),
        Figure("student", "an ordinary example, mean over styles", ordinary_total),
        Figure("student", "a copy riddle as example, mean over styles", aside_total),
        Figure("student", "ordinary example less copy riddle", ordinary_total - aside_total, 0.05),
    ]


def report(figures: Sequence[Figure]) -> int:
    """Print them; the exit code is 1 if one is out of its range."""
    for figure in figures:
        name, value, band = figure.cells()
        print(f"{'ok  ' if figure.good else 'MISS'} {figure.model}: {name:52} {value:>7}  {band}")
    return 0 if all(figure.good for figure in figures) else 1


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the bundled teacher and student.")
    parser.add_argument("--teacher", type=Path, default=ROOT / "data/models/tiny-teacher")
    parser.add_argument("--student", type=Path, default=ROOT / "data/models/tiny-student")
    parser.add_argument("--only", choices=("teacher", "student"))
    parser.add_argument("--missing-skills", nargs="*", default=MISSING_SKILLS, choices=SKILLS)
    parser.add_argument("--write-cards", action="store_true")
    args = parser.parse_args()
    splits = make_splits()
    figures: list[Figure] = []
    if args.only != "student":
        found = check_teacher(args.teacher, splits)
        figures += found
        if args.write_cards:
            write_figures(args.teacher, [figure.cells() for figure in found])
    if args.only != "teacher":
        found = check_student(args.student, splits, args.missing_skills)
        figures += found
        if args.write_cards:
            write_figures(args.student, [figure.cells() for figure in found])
    return report(figures)


if __name__ == "__main__":
    sys.exit(main())
