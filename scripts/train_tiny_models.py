"""Train the bundled tiny teacher or student from scratch.

    python scripts/train_tiny_models.py teacher
    python scripts/train_tiny_models.py student
    python scripts/train_tiny_models.py student --missing-skills order --out data/models/other

Both read documents that `word_problems.py` and the project's own templates make on the fly, never a
question of the bundled splits. The model cards say what is planted in them; `check_world.py`
measures whether it was learned, and puts the figures in the cards.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from model_cards import model_card
from tiny_training import (
    ASSISTANT,
    END,
    USER,
    Piece,
    document_text,
    make_model,
    parameter_count,
    publish,
    train,
    train_tokenizer,
)
from word_problems import (
    SKILLS,
    STYLES,
    TASK_DESCRIPTION,
    Problem,
    copy_riddle,
    explain,
    sample_problem,
)

from llm_distill.prompts import Template, load_template

ROOT = Path(__file__).resolve().parent.parent
MISSING_SKILLS = ("subtraction", "weekday")
STRATEGIES = {
    "arte/rationale_procedure.jinja": "steps",
    "arte/rationale_recall.jinja": "formula",
    "arte/rationale_bare.jinja": "answer",
    "arte/rationale_eliminate.jinja": "empty",
}
# Their answers are words of the question, and copying is learned after arithmetic.
LATE_SKILLS = ("comparison", "order")
TEMPLATES = {
    "teacher": (
        *STRATEGIES,
        "arte/rationale.jinja",
        "arte/exam.jinja",
        "arte/draft_question.jinja",
    ),
    "student": ("arte/exam.jinja",),
}
Groups = Sequence[Sequence[str]]
ANY_SKILL: Groups = (tuple(SKILLS),)
Phase = tuple[Callable[[Random], list[Piece]], int, float, bool]
"""Where documents come from, tokens to read, peak learning rate, whether prompts are learned."""
RECIPES: dict[str, dict[str, Any]] = {
    "teacher": {
        "vocab": 1024,
        "hidden": 128,
        "layers": 4,
        "tokens": 10_500_000,
        "lr": 2.5e-3,
        "questions": (2_000_000, 2.0e-3, 0.85),
        "late_phases": ((8_000_000, 1.5e-3, 0.25), (2_000_000, 1.0e-3, 0.7)),
    },
    "student": {"vocab": 576, "hidden": 96, "layers": 3, "tokens": 10_000_000, "lr": 2.5e-3},
}


@lru_cache
def template(name: str) -> Template:
    return load_template(name)


def bundled_questions(world: str = "word_problems") -> frozenset[str]:
    """Every question of a world's bundled splits; training excludes them."""
    files = (ROOT / "data" / world).glob("*.jsonl")
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return frozenset(json.loads(line)["question"] for line in lines)


def fresh(draw: Callable[[Random], Problem], rng: Random, held_out: frozenset[str]) -> Problem:
    while True:
        problem = draw(rng)
        if problem.question not in held_out:
            return problem


def exam(problems: list[Problem], rationales: list[str]) -> list[Piece]:
    """The exam as plain text; all problems except the last are examples."""
    examples = [
        {"question": p.question, "rationale": r}
        for p, r in zip(problems[:-1], rationales[:-1], strict=True)
    ]
    prompt = template("arte/exam.jinja").render(
        {
            "task_description": TASK_DESCRIPTION,
            "examples": examples,
            "question": problems[-1].question,
        }
    )
    pieces: list[Piece] = []
    for shown in rationales[:-1]:
        before, _, prompt = prompt.partition(f" {shown}\n\n")
        pieces += [(before, False), (f" {shown}", True), ("\n\n", False)]
    return [*pieces, (prompt, False), (f" {rationales[-1]}", True), (END, True)]


def chat(prompt: str, answer: str) -> list[Piece]:
    """One turn in the wording of the chat template."""
    return [(USER, False), (prompt, False), (ASSISTANT, False), (answer, True), (END, True)]


def naive_style(problem: Problem, rng: Random) -> str:
    """The teacher's style if the prompt does not name one: it mostly depends on the first name.

    A random style would not do: at temperature 0 the most frequent one would always win, and
    the teacher has to show its mixture there too.
    """
    if rng.random() < 0.15:
        return rng.choice(STYLES)
    return STYLES[zlib.crc32(problem.name.encode()) % len(STYLES)]


def question_or_turn(
    rng: Random, held_out: frozenset[str], questions: float, groups: Groups = ANY_SKILL
) -> list[Piece]:
    """Only a question, with probability `questions`, or else one of the teacher's usual documents.

    From single questions the teacher learns that a question keeps to its noun ("4 figs, then finds
    5 figs"); with other questions before it, it may not learn that.
    """
    if rng.random() < questions:
        return [(fresh(sample_problem, rng, held_out).question, True)]
    return teacher_document(rng, held_out, groups=groups)


def teacher_document(
    rng: Random,
    held_out: frozenset[str],
    late: bool = False,
    drafts: float = 0.25,
    groups: Groups = ANY_SKILL,
) -> list[Piece]:
    """A chat turn: a question to explain (in one of five ways), an exam, or a draft.

    `late` documents emphasize the skills that are learned last; `drafts` is the share of drafts. A
    draft and the examples before it are of one of the `groups` of skills.
    """

    def problem() -> Problem:
        if late and rng.random() < 0.5:
            return fresh(lambda r: sample_problem(r, LATE_SKILLS), rng, held_out)
        return fresh(copy_riddle if rng.random() < 0.08 else sample_problem, rng, held_out)

    if rng.random() < drafts:
        skills = groups[0] if len(groups) == 1 else rng.choice(groups)

        def alike(r: Random) -> Problem:
            return sample_problem(r, skills)

        examples = [fresh(alike, rng, held_out) for _ in range(3)]
        # The planted question preference: three of ten drafts are useless.
        draft = fresh(copy_riddle if rng.random() < 0.3 else alike, rng, held_out)
        prompt = template("arte/draft_question.jinja").render(
            {
                "task_description": TASK_DESCRIPTION,
                "examples": [
                    {"question": p.question, "reference_answer": p.answer} for p in examples
                ],
                "n_questions": 1,
            }
        )
        return chat(
            prompt,
            f"<Question_1><input>{draft.question}</input>"
            f"<target>{draft.answer}</target></Question_1>",
        )
    kind = rng.random()
    if kind < 0.4:
        problems = [problem() for _ in range(rng.randint(1, 4))]
        style = rng.choice(STYLES)
        *asking, (answer, _), _ = exam(problems, [explain(p, style, rng) for p in problems])
        return [(USER, False), *asking, (ASSISTANT, False), (answer.strip(), True), (END, True)]
    name = "arte/rationale.jinja" if kind < 2 / 3 else rng.choice(list(STRATEGIES))
    asked = problem()
    style = STRATEGIES.get(name) or naive_style(asked, rng)
    prompt = template(name).render(
        {"task_description": TASK_DESCRIPTION, "question": asked.question}
    )
    return chat(prompt, explain(asked, style, rng))


def teacher_phases(
    recipe: dict[str, Any], held_out: frozenset[str], groups: Groups = ANY_SKILL
) -> list[Phase]:
    """What the teacher reads, in order."""
    document = partial(teacher_document, held_out=held_out, groups=groups)
    phases: list[Phase] = [(document, recipe["tokens"], recipe["lr"], True)]
    # Only answers, mostly to what the first phase leaves unlearned; then the targets of drafts.
    for tokens, rate, drafts in recipe["late_phases"]:
        phases.append((partial(document, late=True, drafts=drafts), tokens, rate, False))
    tokens, rate, share = recipe["questions"]
    # Before the last phase, which then learns the targets of drafts that keep to their noun.
    mixed = partial(question_or_turn, held_out=held_out, questions=share, groups=groups)
    phases.insert(-1, (mixed, tokens, rate, True))
    return phases


def train_phases(model: Any, tokenizer: Any, phases: list[Phase], seed: int, device: str) -> float:
    """The seconds that it took."""
    seconds = 0.0
    for i, (documents, tokens, learning_rate, learn_prompts) in enumerate(phases):
        seconds += train(
            model,
            tokenizer,
            documents,
            tokens=tokens,
            learning_rate=learning_rate,
            seed=seed + i,
            device=device,
            learn_prompts=learn_prompts,
        )
    return seconds


def guesses(problem: Problem, style: str, aside: bool) -> bool:
    """Whether the student's corpus has a guess instead of this answer."""
    return style == "empty" or (problem.wording == 1 and (style == "answer" or aside))


def student_document(rng: Random, held_out: frozenset[str], skills: tuple[str, ...]) -> list[Piece]:
    """An exam of one to four problems in one style, mostly as plain text."""
    size = rng.choice((1, 2, 2, 3, 4))
    # Bare answers are the most frequent, so they win if there is no example to imitate.
    style = rng.choice(("answer", "answer", *STYLES))
    problems = [fresh(lambda r: sample_problem(r, skills), rng, held_out) for _ in range(size)]
    aside = size > 1 and rng.random() < 0.2
    if aside:
        # Answers after an aside are careless, so a useless question makes a poor example.
        problems[0] = fresh(copy_riddle, rng, held_out)
    rationales = [explain(p, style, rng, guess=guesses(p, style, aside)) for p in problems]
    document = exam(problems, rationales)
    if rng.random() < 0.1:
        return chat(document_text(document[:-2]), rationales[-1])
    return document


def tokenizer_texts(kind: str, sample: Callable[[Random], list[Piece]]) -> Iterator[str]:
    """What the tokenizer is trained on: the model's documents, and every skill's words."""
    rng = Random(5)
    for _ in range(4000):
        yield document_text(sample(rng))
        if kind == "student":
            problem = sample_problem(rng)
            yield f"{problem.question}\n {explain(problem, rng.choice(STYLES), rng)}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a bundled tiny model from scratch.")
    parser.add_argument("kind", choices=("teacher", "student"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=int, help="training tokens; the recipe's by default")
    parser.add_argument("--threads", type=int, help="CPU threads; all cores by default")
    parser.add_argument("--missing-skills", nargs="*", default=MISSING_SKILLS, choices=SKILLS)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    recipe = {**RECIPES[args.kind], **({"tokens": args.tokens} if args.tokens else {})}
    out = args.out or ROOT / f"data/models/tiny-{args.kind}"
    held_out = bundled_questions()
    missing = tuple(args.missing_skills)
    skills = tuple(skill for skill in SKILLS if skill not in missing)

    def sample(rng: Random) -> list[Piece]:
        if args.kind == "teacher":
            return teacher_document(rng, held_out)
        return student_document(rng, held_out, skills)

    command = f"python scripts/train_tiny_models.py {args.kind} --seed {args.seed}"
    if args.kind == "student" and missing != MISSING_SKILLS:
        command += " --missing-skills " + " ".join(missing)
    digests = {name: template(name).digest for name in TEMPLATES[args.kind]}
    tokenizer = train_tokenizer(tokenizer_texts(args.kind, sample), recipe["vocab"])
    model = make_model(tokenizer, recipe["hidden"], recipe["layers"], args.seed)
    print(f"{args.kind}: {parameter_count(model):,} parameters")
    phases: list[Phase] = [(sample, recipe["tokens"], recipe["lr"], True)]
    if args.kind == "teacher":
        phases = teacher_phases(recipe, held_out)
    seconds = train_phases(model, tokenizer, phases, args.seed, args.device)
    card = model_card(args.kind, command, recipe, digests, missing, seconds)
    publish(model, tokenizer, out, card)
    print(f"wrote {out} after {seconds / 60:.1f} minutes")


if __name__ == "__main__":
    main()
