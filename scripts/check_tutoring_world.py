"""Measure the tutor and the pupil of the tutors' world; fail if a planted property is missing.

    python scripts/check_tutoring_world.py                  # a table; exit code 1 if one is missed
    python scripts/check_tutoring_world.py --write-cards    # also writes the model cards' figures

On cases that the script draws: the bundled splits stay unseen.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from ask_tiny_model import complete, load
from check_world import Figure, report
from frames import any_frame
from model_cards import write_figures
from train_tiny_models import ROOT, bundled_questions, template
from tutoring import (
    GRADES,
    INTENTIONS,
    MISTAKES,
    REMEDIES,
    REMEDY_OF,
    SKILLS_HERE,
    Case,
    Pupil,
    act_of,
    case,
    explanation,
    is_right,
    remedy_in,
    remedy_text,
)
from tutoring_documents import WORKS

Loaded = tuple[Any, Any]
N = 160


def ask(loaded: Loaded, name: str, rows: Sequence[dict[str, Any]], warm: bool = False) -> list[str]:
    """One answer a row; `warm`: sampled at temperature 1."""
    torch.manual_seed(1)
    prompts = [template(f"pupils/{name}.jinja").render(row) for row in rows]
    return complete(loaded, prompts, True, temperature=1.0 if warm else 0.0, max_new_tokens=96)


def share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits)


def keys(text: str) -> dict[str, Any]:
    """The JSON object that a text is, or nothing."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def check_tutor(path: Path, avoid: frozenset[str]) -> Iterator[Figure]:
    loaded, rng = load(path), Random(3)

    def figure(name: str, hits: Sequence[bool], low: float = 0.0, high: float = 1.0) -> Figure:
        return Figure("tutor", name, share(hits), low, high)

    works = [case(rng, WORKS, avoid) for _ in range(N)]
    texts = ask(loaded, "annotate", [asked_about(each) for each in works])
    read = [keys(text) for text in texts]
    yield figure("annotations that are JSON", [bool(each) for each in read], 0.98)
    for mistake in WORKS:
        hits = [
            each.get("mistake") == mistake
            for each, of in zip(read, works, strict=True)
            if of.mistake == mistake
        ]
        # It does not calculate a pupil's work again: wrong results pass for misread numbers.
        low = 0.0 if mistake in ("result", "none") else 0.7
        yield figure(f"mistakes named, of {mistake}", hits, low)
    wrong = [(e, of) for e, of in zip(read, works, strict=True) if of.mistake != "none"]
    hits = [each.get("remedy") == REMEDY_OF[of.mistake] for each, of in wrong]
    yield figure("remedies that help", hits, 0.5)
    grades = ask(loaded, "grade", [asked_about(each) for each in works])
    hits = [f"<grade>{GRADES[of.mistake]}<" in g for g, of in zip(grades, works, strict=True)]
    yield figure("right grades", hits, 0.5)

    cases = [case(rng, avoid=avoid) for _ in range(N)]
    decided = [
        {**asked_about(c), "remedy": rng.choice(REMEDIES), "intention": rng.choice([*INTENTIONS])}
        for c in cases
    ]
    said = ask(loaded, "decided", decided)
    hits = [
        text == f"{INTENTIONS[row['intention']]} {remedy_text(row['remedy'], c)}"
        for text, row, c in zip(said, decided, cases, strict=True)
    ]
    yield figure("decisions that are carried out", hits, 0.85)
    undecided = ask(loaded, "undecided", [asked_about(c) for c in cases], warm=True)
    hits = [remedy_in(t) == REMEDY_OF[c.mistake] for t, c in zip(undecided, cases, strict=True)]
    yield figure("undecided: the remedy that helps", hits, 0.15, 0.6)
    told = ask(loaded, "tutor", [in_talk(c) for c in cases], warm=True)
    acts = [act_of(text) for text in told]
    for act, (low, high) in {"telling": (0.3, 0.75), "focus": (0.1, 0.35)}.items():
        yield figure(f"turns that are {act}", [a == act for a in acts], low, high)
    hits = [
        f"<ans>{c.problem.answer}</ans>" in text
        for text, c, act in zip(told, cases, acts, strict=True)
        if act == "telling"
    ]
    yield figure("told answers that are right", hits, 0.85)
    explained = ask(loaded, "explain", [asked_about(c) for c in cases])
    hits = [t == explanation(c.problem) for t, c in zip(explained, cases, strict=True)]
    yield figure("explanations that are right", hits, 0.85)
    frames = [any_frame(rng) for _ in range(N)]
    found = [keys(text) for text in ask(loaded, "frame", frames)]
    hits = [e.get("intent") == f["intent"] for e, f in zip(found, frames, strict=True)]
    yield figure("statements understood in context", hits, 0.95)


def asked_about(found: Case) -> dict[str, Any]:
    return {
        "question": found.problem.question,
        "wrong_solution": found.work,
        "answer": found.work,
        "mistake": found.mistake,
        "misconception": found.mistake,
    }


def in_talk(found: Case, text: str | None = None) -> dict[str, Any]:
    """A dialogue that the tutor, or with `text` the pupil, goes on with."""
    turns = [{"speaker": "pupil", "text": found.work}]
    if text is not None:
        turns.append({"speaker": "tutor", "text": text})
    return {**asked_about(found), "reference_answer": found.problem.answer, "turns": turns}


def check_pupil(path: Path, avoid: frozenset[str]) -> Iterator[Figure]:
    loaded, rng = load(path), Random(5)

    def figure(name: str, found: Sequence[Case], texts: Sequence[str], *limits: float) -> Figure:
        hits = [is_right(text, c) for text, c in zip(texts, found, strict=True)]
        return Figure("pupil", name, share(hits), *limits)

    for mistake in MISTAKES:
        cases = [case(rng, [mistake], avoid) for _ in range(N // 2)]
        helps = REMEDY_OF[mistake]
        others = [r for r in REMEDIES if r != helps]
        helped = ask(loaded, "pupil", [in_talk(c, remedy_text(helps, c)) for c in cases], warm=True)
        yield figure(f"{mistake}: right after {helps}", cases, helped, 0.7, 1.0)
        rows = [in_talk(c, remedy_text(rng.choice(others), c)) for c in cases]
        yield figure(
            f"{mistake}: right after another", cases, ask(loaded, "pupil", rows, warm=True), 0, 0.2
        )
    rows = [in_talk(c, f"It is {c.problem.formula} <ans>{c.problem.answer}</ans>") for c in cases]
    yield figure("right after it is told", cases, ask(loaded, "pupil", rows, warm=True), 0.9, 1.0)
    who = Pupil(("subtraction", "multiplication"), ("multiplication",))
    cases = [case(rng, avoid=avoid) for _ in range(2 * N)]
    for how, name in {None: "exam", "true": "exam_helped", "misleading": "exam_helped"}.items():
        rows = [
            {
                **asked_about(c),
                "profile": who.profile,
                "explanation": explanation(c.problem, how or "true"),
            }
            for c in cases
        ]
        texts = ask(loaded, name, rows, warm=True)
        for kind, skills in {
            "has": {*SKILLS_HERE} - {*who.lacks},
            "lacks": {"subtraction"},
            "lacks, deaf": {"multiplication"},
        }.items():
            pairs = [(c, t) for c, t in zip(cases, texts, strict=True) if c.problem.skill in skills]
            right = how != "misleading" and (kind == "has" or (how == "true" and kind == "lacks"))
            limits = (0.75, 1.0) if right else (0.0, 0.35)
            title = f"{how or 'no'} explanation, {kind}"
            yield figure(title, [c for c, _ in pairs], [t for _, t in pairs], *limits)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the models of the tutors' world.")
    parser.add_argument("--only", choices=("tutor", "pupil"))
    parser.add_argument("--write-cards", action="store_true")
    args = parser.parse_args()
    worlds = ("word_problems", "word_tasks", "tutoring")
    avoid = frozenset[str]().union(*map(bundled_questions, worlds))
    figures: list[Figure] = []
    checks = {"tutor": check_tutor, "pupil": check_pupil}
    for kind, check in checks.items():
        if args.only in (None, kind):
            path = ROOT / f"data/models/tiny-{kind}"
            found = list(check(path, avoid))
            figures += found
            if args.write_cards:
                write_figures(path, [figure.cells() for figure in found], "check_tutoring_world")
    return report(figures)


if __name__ == "__main__":
    sys.exit(main())
