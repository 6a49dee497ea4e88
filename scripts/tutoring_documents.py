"""What the tutor and the pupil of the tutors' world read while they are trained.

Every document is worded by the project's own templates (`prompts/pupils/`); what is planted in them
is said in `tutoring.py` and on the models' cards.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from random import Random

from frames import any_frame
from tiny_training import END, Piece
from train_tiny_models import chat, template
from tutoring import (
    GRADES,
    INTENTIONS,
    MISTAKES,
    REMEDIES,
    REMEDY_OF,
    Case,
    case,
    explanation,
    pupil,
    pupil_reply,
    pupil_work,
    remedy_text,
    talk,
    turn_text,
)

WORKS = (*MISTAKES, "none")
LATE_WORKS = ("none", "none", "result", "result", "numbers", "numbers", "operation", "guess")
LATE_MISTAKES = ("result", "result", "numbers", "numbers", "operation", "guess")
KINDS = {
    "annotate": 0.17,
    "grade": 0.08,
    "act": 0.03,
    "turn": 0.14,
    "declared": 0.1,
    "decided": 0.1,
    "undecided": 0.08,
    "explain": 0.06,
    "frame": 0.06,
}
LATE_KINDS = KINDS | {
    "annotate": 0.35,
    "grade": 0.15,
    "turn": 0.06,
    "declared": 0.05,
    "explain": 0.02,
    "act": 0.02,
    "frame": 0.03,
}
"""How often the tutor's corpus has each task. To calculate a pupil's work again is learned late."""
SEES_RECOUNT = 0.3
"""How often the tutor's corpus names the remedy "recount" where another one would help."""


def asked(name: str, reply: str, **values: object) -> list[Piece]:
    """A chat turn: a template of this world, and the answer to it."""
    return chat(template(f"pupils/{name}.jinja").render(values), reply)


def annotation(found: Case, rng: Random) -> str:
    """The tutor's reading of a pupil's work, as JSON, after it has worked out the question.

    The mistake is right; the remedy leans to "recount", so its own decisions are worse than an
    expert's and better than chance.
    """
    remedy = REMEDY_OF.get(found.mistake, "none")
    if remedy != "none" and rng.random() < SEES_RECOUNT:
        remedy = "recount"
    intention = rng.choice(list(INTENTIONS))
    told = {"mistake": found.mistake, "remedy": remedy, "intention": intention}
    return json.dumps({"worked_out": found.problem.formula, **told})


def declared_turn(found: Case, n_tries: int, rng: Random, novice: bool = False) -> str:
    """What a tutor says and declares after `n_tries` wrong answers, as JSON.

    The rule: the remedy of the mistake as a hint, twice; then the solution. The novice evaluates
    by chance in three of ten cases and acts by chance.
    """
    evaluation = rng.choice(MISTAKES) if novice and rng.random() < 0.3 else found.mistake
    action = "hint" if n_tries < 3 else "solution"
    if novice:
        action = rng.choice(("hint", "solution"))
    if action == "hint":
        text = remedy_text(REMEDY_OF[evaluation], found)
    else:
        text = f"It is {found.problem.formula}"
    return json.dumps({"evaluation": evaluation, "action": action, "text": text})


def declared_case(rng: Random, found: Case) -> tuple[list[dict[str, object]], int]:
    """A dialogue with one to three wrong answers, and how many it has."""
    n_tries = rng.choice((1, 2, 3, 3))
    turns: list[dict[str, object]] = [{"speaker": "pupil", "text": found.work}]
    for _ in range(n_tries - 1):
        turns.append({"speaker": "tutor", "text": turn_text("focus", found, rng)})
        turns.append({"speaker": "pupil", "text": found.work})
    return turns, n_tries


def undecided_text(found: Case, rng: Random) -> str:
    """The tutor's sentence where nobody decided: the right remedy in four of ten."""
    kind = rng.choices(("right", "any", "generic", "probing"), (0.4, 0.2, 0.3, 0.1))[0]
    if kind == "right":
        return remedy_text(REMEDY_OF[found.mistake], found)
    return turn_text("focus" if kind == "any" else kind, found, rng)


def tutor_turn(found: Case, rng: Random) -> list[Piece]:
    """A novice's next turn in a dialogue, with its act declared in a tag."""
    turns = talk(found, rng, tutor="novice")
    at = rng.choice([i for i, turn in enumerate(turns) if turn["speaker"] == "tutor"])
    answer = f"<act>{turns[at]['act']}</act> {turns[at]['text']}"
    values = {"question": found.problem.question, "reference_answer": found.problem.answer}
    return asked("tutor", answer, turns=turns[:at], **values)


def tutor_document(rng: Random, avoid: Collection[str], late: bool = False) -> list[Piece]:
    """One of the tutor's tasks; `late` has more of those that are learned last."""
    kinds = LATE_KINDS if late else KINDS
    (kind,) = rng.choices(list(kinds), list(kinds.values()))
    if kind == "frame":
        found_frame = any_frame(rng)
        told = {name: found_frame[name] for name in ("intent", "implication", "reaction")}
        shown = {name: found_frame[name] for name in ("context", "statement")}
        return asked("frame", json.dumps(told), **shown)
    works = LATE_WORKS if late else WORKS
    found = case(rng, works if kind in ("annotate", "grade") else MISTAKES, avoid)
    question, work = found.problem.question, found.work
    if kind == "annotate":
        return asked(kind, annotation(found, rng), question=question, wrong_solution=work)
    if kind == "grade":
        grade = f"{found.problem.formula} <grade>{GRADES[found.mistake]}</grade>"
        return asked(kind, grade, question=question, answer=work)
    if kind == "act":
        act = rng.choice(("focus", "probing", "telling", "generic"))
        return asked(kind, json.dumps({"act": act}), sentence=turn_text(act, found, rng))
    if kind == "turn":
        return tutor_turn(found, rng)
    if kind == "declared":
        turns, n_tries = declared_case(rng, found)
        answer = declared_turn(found, n_tries, rng, novice=True)
        values = {"question": question, "reference_answer": found.problem.answer}
        return asked(kind, answer, turns=turns, **values)
    if kind == "decided":
        remedy, intention = rng.choice(REMEDIES), rng.choice(list(INTENTIONS))
        sentence = f"{INTENTIONS[intention]} {remedy_text(remedy, found)}"
        values = {"mistake": rng.choice(MISTAKES), "remedy": remedy, "intention": intention}
        return asked(kind, sentence, question=question, wrong_solution=work, **values)
    if kind == "undecided":
        text = undecided_text(found, rng)
        return asked(kind, text, question=question, wrong_solution=work)
    return asked("explain", explanation(found.problem), question=question)


def pupil_document(rng: Random, avoid: Collection[str], late: bool = False) -> list[Piece]:
    """A reply to a tutor, an exam of a pupil with gaps, alone or with help, or a statement.

    `late` has more of what is learned last: which remedy helps, and whom help helps.
    """
    weights = (0.5, 0.1, 0.37, 0.03) if late else (0.45, 0.2, 0.3, 0.05)
    kind = rng.choices(("reply", "exam", "helped", "statement"), weights)[0]
    if kind == "statement":
        found_frame = any_frame(rng)
        return [(f"{found_frame['context']}\n{found_frame['statement']}", True), (END, True)]
    found = case(rng, avoid=avoid)
    if kind == "reply":
        return reply_document(case(rng, LATE_MISTAKES, avoid) if late else found, rng, late)
    who = pupil(rng)
    values = {"profile": who.profile, "question": found.problem.question}
    if kind == "exam":
        return asked(kind, pupil_work(who, found.problem, None, rng), **values)
    how = rng.choices(("true", "misleading", "irrelevant"), (0.6, 0.2, 0.2))[0]
    other = case(rng, avoid=avoid).problem if how == "irrelevant" else found.problem
    values["explanation"] = explanation(other, "misleading" if how == "misleading" else "true")
    return asked("exam_helped", pupil_work(who, found.problem, how, rng), **values)


def reply_document(found: Case, rng: Random, late: bool = False) -> list[Piece]:
    """A pupil's reply to the last of one to four turns of a tutor, remedies more than others."""
    turns: list[dict[str, object]] = [{"speaker": "pupil", "text": found.work}]
    for _ in range(rng.choice((0, 0, 1, 2, 3))):
        act = rng.choice(("focus", "probing", "generic"))
        turns.append({"speaker": "tutor", "text": turn_text(act, found, rng)})
        turns.append({"speaker": "pupil", "text": found.work})
    weights = (0.88, 0.03, 0.04, 0.05) if late else (0.65, 0.08, 0.15, 0.12)
    act = rng.choices(("focus", "probing", "telling", "generic"), weights)[0]
    helps = REMEDY_OF[found.mistake] if rng.random() < 0.35 else None
    text = turn_text(act, found, rng, helps)
    if act == "focus" and rng.random() < 0.4:
        text = f"{rng.choice(list(INTENTIONS.values()))} {text}"
    turns.append({"speaker": "tutor", "text": text})
    values = {"misconception": found.mistake, "question": found.problem.question}
    return asked("pupil", pupil_reply(text, found, rng), turns=turns, **values)
