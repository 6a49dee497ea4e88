"""Train the models of the tutors' world, from bundled ones that can calculate.

    python scripts/train_tutoring_models.py tutor
    python scripts/train_tutoring_models.py pupil

What they read is made by `tutoring_documents.py`, never about a question of a bundled split.
`check_tutoring_world.py` measures what they learned, and puts the figures in the cards.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import torch
from model_cards import tutoring_card
from tiny_training import parameter_count, publish, train
from train_tiny_models import ROOT, bundled_questions, template
from transformers import AutoModelForCausalLM, AutoTokenizer
from tutoring_documents import pupil_document, tutor_document

late_pupil_document = partial(pupil_document, late=True)
late_tutor_document = partial(tutor_document, late=True)

RECIPES: dict[str, dict[str, Any]] = {
    "tutor": {
        "start": "tiny-task-teacher",
        "phases": (
            (8_000_000, 1.5e-3, tutor_document),
            (8_000_000, 1.2e-3, late_tutor_document),
            (8_000_000, 1.5e-3, late_tutor_document),
        ),
    },
    "pupil": {
        "start": "tiny-task-student",
        "phases": ((6_000_000, 2.0e-3, pupil_document), (8_000_000, 2.0e-3, late_pupil_document)),
    },
}
TEMPLATES = {
    "tutor": (
        *("act", "annotate", "decided", "declared", "explain", "frame", "grade"),
        *("tutor", "undecided"),
    ),
    "pupil": ("exam", "exam_helped", "pupil"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a model of the tutors' world.")
    parser.add_argument("kind", choices=tuple(RECIPES))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="CPU threads; all cores by default")
    parser.add_argument(
        "--after", type=int, default=0, help="phases that the model at --out has behind it"
    )
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    recipe = RECIPES[args.kind]
    out = args.out or ROOT / f"data/models/tiny-{args.kind}"
    start = out if args.after else ROOT / "data/models" / recipe["start"]
    tokenizer = AutoTokenizer.from_pretrained(start)
    model = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
    print(f"{args.kind}: {parameter_count(model):,} parameters")
    worlds = ("word_problems", "word_tasks", "tutoring")
    held_out = frozenset[str]().union(*map(bundled_questions, worlds))
    seconds = 0.0
    for place, (tokens, rate, document) in enumerate(recipe["phases"]):
        if place >= args.after:
            seconds += train(
                model,
                tokenizer,
                partial(document, avoid=held_out),
                tokens=tokens,
                learning_rate=rate,
                seed=args.seed + place,
                device=args.device,
                learn_prompts=False,
            )
    command = f"python scripts/train_tutoring_models.py {args.kind} --seed {args.seed}"
    digests = {
        f"pupils/{name}.jinja": template(f"pupils/{name}.jinja").digest
        for name in TEMPLATES[args.kind]
    }
    publish(model, tokenizer, out, tutoring_card(args.kind, command, recipe, digests, seconds))
    print(f"wrote {out} after {seconds / 60:.1f} minutes")


if __name__ == "__main__":
    main()
