"""Train the bundled models of STAT: its teacher, its student and its reward model.

    python scripts/train_stat_models.py teacher
    python scripts/train_stat_models.py student
    python scripts/train_stat_models.py reward
    python scripts/train_stat_models.py student --seed 1 --missing-skills multiplication order \
        --out data/models/other-student

The teacher and the reward model continue from the weights of ARTE's tiny teacher, which already
solves the problems. The student starts from scratch, learns all skills, and then the habit of
getting the results of some of them wrong. Unlike ARTE's it is careful and always works in steps, so
that its mistakes show the skills that it lacks.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import torch
from model_cards import stat_card
from stat_documents import (
    discovery_document,
    habitual_answer,
    judging_document,
    label_document,
    reward_document,
    synthesis_document,
)
from tiny_training import (
    END,
    Piece,
    document_text,
    make_model,
    parameter_count,
    publish,
    train,
    train_tokenizer,
)
from train_tiny_models import (
    LATE_SKILLS,
    MISSING_SKILLS,
    ROOT,
    bundled_questions,
    chat,
    exam,
    fresh,
    teacher_document,
    template,
)
from transformers import AutoModelForCausalLM, AutoTokenizer
from word_problems import (
    SKILLS,
    TASK_DESCRIPTION,
    Problem,
    copy_riddle,
    explain,
    sample_problem,
)

Sample = Callable[[Random], list[Piece]]
START = ROOT / "data/models/tiny-teacher"
TEMPLATES = {
    "teacher": (
        "stat/discover_skills.jinja",
        "stat/label_skills.jinja",
        "stat/find_missing_skills.jinja",
        "stat/synthesise.jinja",
        "arte/rationale_procedure.jinja",
    ),
    "student": ("stat/exam.jinja",),
    "reward": (),
}
PHASES = {
    "teacher": ((7_000_000, 1.5e-3), (6_000_000, 1.2e-3)),
    "student": (
        (9_000_000, 2.5e-3),
        (3_000_000, 2.0e-3),
        (3_000_000, 2.0e-3),
        (1_500_000, 1.5e-3),
    ),
    "reward": (
        (5_000_000, 1.0e-3),
        (8_000_000, 1.5e-3),
        (4_000_000, 1.2e-3),
        (5_000_000, 1.8e-3),
        (2_500_000, 1.0e-3),
    ),
}
"""Of each model: tokens to read and the peak learning rate, one pair a phase."""
VOCABULARY, HIDDEN, LAYERS = 576, 96, 4  # of the student
RIGHT_ANYWAY = 0.1
"""Of the student's exams about what it lacks, those in which the result is right."""


def teacher_sample(held_out: frozenset[str], phase: int) -> Sample:
    """Labels, lists, judgements and new questions, and a third of the teacher's earlier documents.

    The second phase emphasizes what is learned last: judging, keeping to a skill, and comparing.
    """
    label, listing, judging, synthesis, comparing = (
        (0.04, 0.16, 0.55, 0.74, 0.87) if phase else (0.1, 0.2, 0.5, 0.65, 0.7)
    )

    def sample(rng: Random) -> list[Piece]:
        def problem(skills: tuple[str, ...] = tuple(SKILLS)) -> Problem:
            return fresh(lambda r: sample_problem(r, skills), rng, held_out)

        kind = rng.random()
        if kind < label:
            return label_document(problem(), rng)
        if kind < listing:
            return discovery_document([problem() for _ in range(8)], rng)
        if kind < judging:
            return judging_document(problem(), rng)
        if kind < synthesis:
            one = (rng.choice(list(SKILLS)),)
            shown = [problem(one) for _ in range(rng.choice((1, 2, 3, 3, 3)))]
            return synthesis_document(shown, [problem(one) for _ in range(2)], rng)
        if kind < comparing:
            return solution_document(problem(("comparison",)), rng)
        return teacher_document(rng, held_out, late=True, drafts=0)

    return sample


def solution_document(problem: Problem, rng: Random) -> list[Piece]:
    values = {"task_description": TASK_DESCRIPTION, "question": problem.question}
    prompt = template("arte/rationale_procedure.jinja").render(values)
    return chat(prompt, explain(problem, "steps", rng))


def student_sample(held_out: frozenset[str], skills: tuple[str, ...], phase: int) -> Sample:
    """Exams in steps: of `skills`, then of all skills, and finally the others with a habit.

    One problem in five is a copy riddle: comparing and ordering need words copied from the
    question, which is learned sooner if nothing else is asked. The second phase has questions of
    the other skills without an answer and solutions without a question, so that the third learns
    them soon. Nearly half of the fourth is about them, with results that are mostly wrong by habit:
    the student knows all that these skills need, and does not use it.
    """
    lacking = tuple(skill for skill in SKILLS if skill not in skills)
    slow = tuple(skill for skill in skills if skill in LATE_SKILLS)
    about_lacking = (0.0, 0.35, 0.0, 0.45)[phase] if lacking else 0.0

    def problem(r: Random) -> Problem:
        if phase == 2 and lacking and r.random() < 0.6:
            return sample_problem(r, lacking)
        if r.random() < 0.2:
            return copy_riddle(r)
        return sample_problem(r, slow if slow and r.random() < 0.4 else skills)

    def sample(rng: Random) -> list[Piece]:
        kind = rng.random() if about_lacking else 1.0
        if kind < about_lacking:
            lacked = fresh(lambda r: sample_problem(r, lacking), rng, held_out)
            if phase == 1 and kind < 0.1:
                return [(lacked.question, True)]
            if phase == 1:
                return [(rng.choice((lacked.formula, lacked.steps)), True), (END, True)]
            is_right = rng.random() < RIGHT_ANYWAY
            said = explain(lacked, "steps", rng) if is_right else habitual_answer(lacked)
            return exam([lacked], [said])
        problems = [fresh(problem, rng, held_out) for _ in range(rng.choice((1, 1, 2, 3)))]
        return exam(problems, [explain(p, "steps", rng) for p in problems])

    return sample


def reward_sample(held_out: frozenset[str], phase: int) -> Sample:
    """Judged answers. Wrong words are more frequent at first, and wrong results come last.

    Both are hard to see: they need reading every word, and doing the sum.
    """
    slips, results = (
        (0.4, 0.0),
        (0.3, 0.0),
        (0.25, 0.45),
        (0.25, 0.5),
        (0.3, 0.3),
    )[phase]
    return lambda rng: reward_document(fresh(sample_problem, rng, held_out), rng, slips, results)


def student_texts(sample: Sample) -> list[str]:
    """What the student's tokenizer is trained on: its first documents, and every skill's words."""
    rng = Random(5)
    texts = []
    for _ in range(4000):
        problem = sample_problem(rng)
        words = f"{problem.question}\n {explain(problem, 'steps', rng)}"
        texts += [document_text(sample(rng)), words]
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a bundled model of STAT.")
    parser.add_argument("kind", choices=tuple(TEMPLATES))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="CPU threads; all cores by default")
    parser.add_argument("--missing-skills", nargs="*", default=MISSING_SKILLS, choices=SKILLS)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    out = args.out or ROOT / f"data/models/tiny-stat-{args.kind}"
    held_out = bundled_questions()
    missing = tuple(args.missing_skills)
    samples: dict[str, Callable[..., Sample]] = {"teacher": teacher_sample, "reward": reward_sample}
    if args.kind == "student":
        skills = tuple(skill for skill in SKILLS if skill not in missing)
        samples["student"] = partial(student_sample, skills=skills)
        texts = student_texts(student_sample(held_out, skills, 0))
        tokenizer = train_tokenizer(texts, VOCABULARY)
        model = make_model(tokenizer, HIDDEN, LAYERS, args.seed)
    else:
        tokenizer = AutoTokenizer.from_pretrained(START)
        model = AutoModelForCausalLM.from_pretrained(START, dtype=torch.float32)
    print(f"{args.kind}: {parameter_count(model):,} parameters")
    seconds = 0.0
    for phase, (tokens, rate) in enumerate(PHASES[args.kind]):
        seconds += train(
            model,
            tokenizer,
            samples[args.kind](held_out, phase=phase),
            tokens=tokens,
            learning_rate=rate,
            seed=args.seed + phase,
            device=args.device,
            learn_prompts=args.kind == "student",
        )
    command = f"python scripts/train_stat_models.py {args.kind} --seed {args.seed}"
    if args.kind == "student" and missing != MISSING_SKILLS:
        command += " --missing-skills " + " ".join(missing)
    digests = {name: template(name).digest for name in TEMPLATES[args.kind]}
    phases = (
        f"{tokens / 1e6:g}M tokens at a peak rate of {rate:g}" for tokens, rate in PHASES[args.kind]
    )
    recipe = ", then ".join(phases)
    card = stat_card(args.kind, command, recipe, digests, missing, seconds)
    publish(model, tokenizer, out, card)
    print(f"wrote {out} after {seconds / 60:.1f} minutes")


if __name__ == "__main__":
    main()
