"""Train the teacher and the student of the second world, where each task has its own best style.

    python scripts/train_task_models.py teacher
    python scripts/train_task_models.py student

As the first world's models (`train_tiny_models.py`), except that the teacher's drafts keep to the
task of the examples that it is shown, and that the student knows all skills and is careful about
each task in one style only.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from random import Random

import torch
from model_cards import task_card
from tiny_training import Piece, make_model, parameter_count, publish, train_tokenizer
from train_tiny_models import (
    RECIPES,
    ROOT,
    TEMPLATES,
    Phase,
    bundled_questions,
    exam,
    fresh,
    teacher_document,
    teacher_phases,
    template,
    tokenizer_texts,
    train_phases,
)
from word_problems import STYLES, copy_riddle, explain, sample_problem
from word_tasks import TASKS, is_careless

GROUPS = tuple(TASKS.values())
PRACTICE = {"sums": 1.0, "groups": 0.8, "chains": 1.1, "places": 1.5}
"""How often the student's corpus has each task: copying is learned late, products soon."""


def student_document(rng: Random, held_out: frozenset[str]) -> list[Piece]:
    """An exam of one to four problems of a task, in one style, as plain text."""
    size = rng.choice((1, 2, 2, 3, 4))
    # Bare answers are the most frequent, so they win if there is no example to imitate.
    style = rng.choice(("answer", "answer", *STYLES))
    (task,) = rng.choices(list(PRACTICE), list(PRACTICE.values()))
    skills = TASKS[task]
    problems = [fresh(lambda r: sample_problem(r, skills), rng, held_out) for _ in range(size)]
    aside = size > 1 and rng.random() < 0.2
    if aside:
        # Answers after an aside are careless, so a useless question makes a poor example.
        problems[0] = fresh(copy_riddle, rng, held_out)
    return exam(
        problems, [explain(p, style, rng, guess=is_careless(p, style, aside)) for p in problems]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a model of the second world from scratch.")
    parser.add_argument("kind", choices=("teacher", "student"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="CPU threads; all cores by default")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    out = args.out or ROOT / f"data/models/tiny-task-{args.kind}"
    held_out = bundled_questions("word_problems") | bundled_questions("word_tasks")
    recipe = RECIPES[args.kind] | ({"tokens": 12_000_000} if args.kind == "student" else {})
    phases: list[Phase]
    if args.kind == "teacher":
        document = partial(teacher_document, held_out=held_out, groups=GROUPS)
        phases = teacher_phases(recipe, held_out, GROUPS)
    else:
        document = partial(student_document, held_out=held_out)
        phases = [(document, recipe["tokens"], recipe["lr"], True)]
    tokenizer = train_tokenizer(tokenizer_texts(args.kind, document), recipe["vocab"])
    model = make_model(tokenizer, recipe["hidden"], recipe["layers"], args.seed)
    print(f"{args.kind}: {parameter_count(model):,} parameters")
    seconds = train_phases(model, tokenizer, phases, args.seed, args.device)
    command = f"python scripts/train_task_models.py {args.kind} --seed {args.seed}"
    digests = {name: template(name).digest for name in TEMPLATES[args.kind]}
    publish(model, tokenizer, out, task_card(args.kind, command, recipe, digests, seconds))
    print(f"wrote {out} after {seconds / 60:.1f} minutes")


if __name__ == "__main__":
    main()
