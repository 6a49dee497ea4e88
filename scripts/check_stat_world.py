"""Measure the bundled models of STAT, and fail if a planted property is missing.

python scripts/check_stat_world.py                  # a table; exit code 1 if a threshold is missed
python scripts/check_stat_world.py --write-cards    # also writes the figures into the model cards
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from ask_tiny_model import answer_of, complete, load
from check_world import Figure, Row, accuracy, by_skill, render, report
from make_word_problems import make_splits
from model_cards import write_figures
from solve_word_problems import solve
from stat_documents import (
    STEP_BOUNDARY,
    mistaken_steps,
    right_steps,
    template,
    wrong_result,
)
from tiny_training import ASSISTANT, USER
from train_tiny_models import MISSING_SKILLS, ROOT
from word_problems import SKILLS, TASK_DESCRIPTION, Problem

from llm_distill.engines.process_reward.format import conversation
from llm_distill.methods.difficulty import by_rewards
from llm_distill.methods.parsing import read_blocks, read_tag, split_steps
from llm_distill.methods.skills import canonical

Loaded = tuple[Any, Any]
CHECK = "check_stat_world"


def ask(loaded: Loaded, name: str, values: Sequence[Row], **settings: Any) -> list[str]:
    prompts = [template(name).render({"task_description": TASK_DESCRIPTION, **v}) for v in values]
    return complete(loaded, prompts, True, **settings)


def named(text: str) -> list[str]:
    return [name.strip() for name in (read_tag(text, "skill") or "").split(",") if name.strip()]


def share(flags: Sequence[bool]) -> float:
    return sum(flags) / max(len(flags), 1)


def problems_of(skills: Sequence[str], each: int, seed: int) -> list[Problem]:
    """New problems, drawn with a seed that is not used in training."""
    rng = Random(f"{CHECK}-{seed}")
    return [SKILLS[skill](rng) for skill in skills for _ in range(each)]


def check_labels(loaded: Loaded, test: Sequence[Row]) -> list[Figure]:
    rng = Random(1)
    values = [
        {"skills": rng.sample(list(SKILLS), 8), "question": r["question"], "max_skills": 5}
        for r in test
    ]
    labels = [named(text) for text in ask(loaded, "label_skills", values)]
    exact = [set(label) == set(row["skills"]) for label, row in zip(labels, test, strict=True)]
    off = [not set(label) <= set(SKILLS) for label in labels]
    figures = [
        Figure("teacher", "labels that are the planted skills", share(exact), 0.95),
        Figure("teacher", "labels off the list", share(off), 0.0, 0.02),
    ]
    shuffled = rng.sample(list(test), len(test))
    batches = [shuffled[i : i + 8] for i in range(0, len(test), 8)]
    listed = [{"questions": [row["question"] for row in batch]} for batch in batches]
    texts = ask(loaded, "discover_skills", listed, max_new_tokens=160)
    named_there, there, right = 0, 0, 0
    every: set[str] = set()
    for batch, text in zip(batches, texts, strict=True):
        found = {canonical(name).removesuffix("s") for name in read_blocks(text, "skill")}
        skills = {row["skills"][0] for row in batch}
        named_there, there = named_there + len(found), there + len(skills)
        right += len(found & skills)
        every |= found
    return [
        *figures,
        Figure("teacher", "listed skills that questions need", right / max(named_there, 1), 0.9),
        Figure("teacher", "needed skills that are listed, of 8 questions", right / there, 0.6),
        Figure(
            "teacher",
            "skills in the lists of all questions",
            share([s in every for s in SKILLS]),
            1.0,
        ),
        Figure(
            "teacher", "other names in these lists", len(every - set(SKILLS)) / len(every), 0.0, 0.0
        ),
    ]


def check_judgements(loaded: Loaded) -> list[Figure]:
    rng = Random(2)
    problems = problems_of(list(SKILLS), 15, 2)
    figures = []
    kinds: dict[str, Callable[[Problem], list[str]]] = {
        "right answers": lambda problem: right_steps(problem, rng),
        "wrong answers": lambda problem: [step for step, _ in mistaken_steps(problem, rng)],
        "wrong results by the right method": lambda problem: wrong_result(
            problem, right_steps(problem, rng), rng
        ),
    }
    for kind, write in kinds.items():
        values = []
        for problem in problems:
            steps = write(problem)
            while kind == "wrong answers" and answer_of(" ".join(steps)) == problem.answer:
                steps = write(problem)
            values.append(
                {
                    "skills": rng.sample(list(SKILLS), 8),
                    "question": problem.question,
                    "completion": " ".join(steps),
                    "max_skills": 3,
                }
            )
        texts = ask(loaded, "find_missing_skills", values, max_new_tokens=112)
        verdict = "correct" if kind == "right answers" else "incorrect"
        agree = [read_tag(text, "judge") == verdict for text in texts]
        figures.append(Figure("teacher", f"{kind} judged so", share(agree), 0.85))
        if kind != "right answers":
            judged = [(t, p) for t, p, ok in zip(texts, problems, agree, strict=True) if ok]
            hit = [named(text) == [problem.skill] for text, problem in judged]
            figures.append(
                Figure("teacher", "skills named for them that are the question's", share(hit), 0.95)
            )
    return figures


def check_synthesis(loaded: Loaded, train: Sequence[Row]) -> list[Figure]:
    rng = Random(3)
    torch.manual_seed(3)
    values, wanted = [], []
    for skill in SKILLS:
        for _ in range(12):
            shown = [SKILLS[skill](rng) for _ in range(3)]
            examples = [
                {"question": p.question, "rationale": " ".join(right_steps(p, rng))} for p in shown
            ]
            values.append({"skill": skill, "examples": examples, "n_questions": 2})
            wanted.append(skill)
    texts = ask(loaded, "synthesise", values, temperature=1.0, max_new_tokens=200)
    drafts = [
        (skill, question, solve(question.strip()))
        for skill, text in zip(wanted, texts, strict=True)
        for question in read_blocks(text, "question")
    ]
    solved = [(skill, found[0]) for skill, _, found in drafts if found]
    old = {row["question"] for row in train}
    return [
        Figure("teacher", "new questions that parse", len(drafts) / (2 * len(values)), 0.9),
        Figure("teacher", "of these, that can be solved", share([bool(d[2]) for d in drafts]), 0.8),
        Figure("teacher", "of these, of the skill", share([a == b for a, b in solved]), 0.9),
        Figure("teacher", "new questions not in train", share([d[1] not in old for d in drafts])),
    ]


def check_teacher(path: Path, splits: dict[str, list[Row]]) -> list[Figure]:
    loaded = load(path)
    figures = check_labels(loaded, splits["test"]) + check_judgements(loaded)
    figures += check_synthesis(loaded, splits["train"])
    rows = splits["train"]
    texts = complete(
        loaded, [render("arte/rationale_procedure.jinja", r["question"]) for r in rows], True
    )
    figures.append(Figure("teacher", "solutions in steps, right", accuracy(rows, texts), 0.9))
    for skill, value in by_skill(rows, texts).items():
        figures.append(Figure("teacher", f"solutions in steps, right, {skill}", value, 0.75))
    return figures


def answers(path: Path, rows: Sequence[Row]) -> list[str]:
    prompts = [
        template("exam").render({"task_description": TASK_DESCRIPTION, "question": r["question"]})
        for r in rows
    ]
    return complete(load(path), prompts, False)


def check_student(
    path: Path, splits: dict[str, list[Row]], missing: Sequence[str] = MISSING_SKILLS
) -> list[Figure]:
    test = splits["test"]
    texts = answers(path, test)
    stepped = [len(split_steps(text, STEP_BOUNDARY)) == 3 for text in texts]
    figures = [
        Figure("student", "accuracy on test", accuracy(test, texts)),
        Figure("student", "answers in three steps", share(stepped), 0.95),
    ]
    for skill, value in by_skill(test, texts).items():
        low, high = (0.0, 0.1) if skill in missing else (0.8, 1.0)
        figures.append(Figure("student", f"accuracy on {skill}", value, low, high))
    return figures


def step_scores(loaded: Loaded, judged: Sequence[tuple[str, list[str]]]) -> list[list[float]]:
    """The probability of + relative to + and - after each step, computed answer by answer."""
    model, tokenizer = loaded
    good, bad = tokenizer.convert_tokens_to_ids(["+", "-"])
    marker = tokenizer.convert_tokens_to_ids(ASSISTANT)
    scores = []
    for question, steps in judged:
        text = tokenizer.apply_chat_template(conversation(question, steps), tokenize=False)
        assert text.startswith(USER)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0]
        marked = logits[ids[0] == marker][:, [good, bad]]
        scores.append(marked.softmax(-1)[:, 0].tolist())
    return scores


def check_reward(path: Path, student: Path, splits: dict[str, list[Row]]) -> list[Figure]:
    loaded = load(path)
    rng = Random(4)
    judged: list[tuple[str, list[tuple[str, bool]]]] = []
    for problem in problems_of(list(SKILLS), 40, 4):
        steps = [(step, True) for step in right_steps(problem, rng)]
        if rng.random() < 0.5:
            steps = mistaken_steps(problem, rng)
        judged.append((problem.question, steps))
    scores = step_scores(loaded, [(q, [step for step, _ in steps]) for q, steps in judged])
    hits = [
        (score > 0.5) == is_right
        for found, (_, steps) in zip(scores, judged, strict=True)
        for score, (_, is_right) in zip(found, steps, strict=True)
    ]
    rows = splits["test"]
    texts = answers(student, rows)
    cut = [split_steps(text, STEP_BOUNDARY) for text in texts]
    own = step_scores(loaded, [(r["question"], c) for r, c in zip(rows, cut, strict=True)])
    right = [
        (found[-1] > 0.5) == (answer_of(text) == row["reference_answer"])
        for found, text, row in zip(own, texts, rows, strict=True)
    ]
    slips = [
        (p.question, wrong_result(p, right_steps(p, rng), rng))
        for p in problems_of(list(SKILLS), 40, 5)
    ]
    # With the paper's thresholds, which are the defaults of `assess`.
    found = [
        by_rewards("?", scores, 0.85, 0.7) is not None for scores in step_scores(loaded, slips)
    ]
    return [
        Figure("reward", "held-out steps judged rightly", share(hits), 0.95),
        Figure("reward", "wrong results by the right method, doubted", share(found), 0.9),
        Figure("reward", "student's answers judged rightly by the last step", share(right), 0.9),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the bundled models of STAT.")
    folder = ROOT / "data/models"
    parser.add_argument("--teacher", type=Path, default=folder / "tiny-stat-teacher")
    parser.add_argument("--student", type=Path, default=folder / "tiny-stat-student")
    parser.add_argument("--reward", type=Path, default=folder / "tiny-stat-reward")
    parser.add_argument("--only", choices=("teacher", "student", "reward"))
    parser.add_argument("--missing-skills", nargs="*", default=MISSING_SKILLS, choices=SKILLS)
    parser.add_argument("--write-cards", action="store_true")
    args = parser.parse_args()
    splits = make_splits()
    checks: dict[str, Callable[[], list[Figure]]] = {
        "teacher": lambda: check_teacher(args.teacher, splits),
        "student": lambda: check_student(args.student, splits, args.missing_skills),
        "reward": lambda: check_reward(args.reward, args.student, splits),
    }
    figures: list[Figure] = []
    for kind, check in checks.items():
        if args.only in (None, kind):
            found = check()
            figures += found
            if args.write_cards:
                write_figures(getattr(args, kind), [figure.cells() for figure in found], CHECK)
    return report(figures)


if __name__ == "__main__":
    sys.exit(main())
