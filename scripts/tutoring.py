"""The world of the tutors: pupils with a planted mistake, and what helps against each.

A case is a word problem of the first world with a pupil's wrong work. Every mistake has one remedy
that works, so what a tutor's turn is worth is known without a judge:

    Case(problem=…, mistake="operation", work="12 + 5 = 17. <ans>17</ans>")
    REMEDY_OF["operation"] == "story"; remedy_text("story", case) asks what happens in the story

Everything here is a pure function of the `random.Random` that it is given.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from word_problems import OBJECTS, SKILLS, Problem

SKILLS_HERE = ("addition", "subtraction", "multiplication", "division", "two_step")
MISTAKES = ("operation", "numbers", "result", "guess")
REMEDY_OF = {"operation": "story", "numbers": "reread", "result": "recount", "guess": "plan"}
REMEDIES = tuple(REMEDY_OF.values())
INTENTIONS = {
    "encourage": "Good try.",
    "diagnose": "Let us see.",
    "hand_over": "Your turn.",
    "focus": "One hint.",
}
ACTS = ("focus", "probing", "telling", "generic")
HELPED, UNHELPED, GENERIC, PROBED = 0.9, 0.05, 0.1, 0.05
"""How often a pupil is right after the remedy of its mistake, another one, mere encouragement, and
a question about its work. After it is told the answer it says it."""
GRADES = {"none": 4, "result": 3, "numbers": 2, "operation": 1, "guess": 0}
WRONG_SIGN = {"+": "*", "-": "+", "*": "+", "/": "-"}


@dataclass(frozen=True)
class Case:
    """A pupil's work on a problem; `mistake` is "none" where it is right."""

    problem: Problem
    mistake: str
    work: str


def calculate(a: int, sign: str, b: int) -> int:
    return {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[sign]


def last_sum(problem: Problem) -> tuple[str, int, str, int]:
    """What stands before the last calculation of a problem, and that calculation.

    "3 + 4 = 7. 7 + 2 = 9." → ("3 + 4 = 7. ", 7, "+", 2)
    """
    found = re.fullmatch(r"(.*?)(\d+) ([-+*/]) (\d+) = \d+\.", problem.formula)
    assert found is not None
    return found[1], int(found[2]), found[3], int(found[4])


def wrong_work(problem: Problem, mistake: str, rng: Random) -> str:
    """What a pupil writes who makes this mistake; its answer is never the right one."""
    before, a, sign, b = last_sum(problem)
    right = int(problem.answer)
    off = rng.choice([n for n in (-3, -2, -1, 1, 2, 3) if right + n > 0])
    if mistake == "guess":
        return f"<ans>{right + off}</ans>"
    if mistake == "operation":
        sign = WRONG_SIGN[sign]
        if calculate(a, sign, b) == right:  # 2 + 2 and 2 * 2
            sign = "-" if a > b else "/"
        answer = max(calculate(a, sign, b), 0)
    elif mistake == "numbers":
        a, b = _misread(a, sign, b, rng)
        answer = calculate(a, sign, b)
    else:
        answer = right + off
    return f"{before}{a} {sign} {b} = {answer}. <ans>{answer}</ans>"


def _misread(a: int, sign: str, b: int, rng: Random) -> tuple[int, int]:
    """One of the two numbers is another one; a quotient stays whole."""
    if sign == "/":
        return a + rng.choice([b, 2 * b]), b
    return a, b + rng.choice(
        [n for n in (-2, -1, 1, 2) if b + n > 0 and (sign != "-" or a > b + n)] or [1]
    )


def case(rng: Random, mistakes: Sequence[str] = MISTAKES, avoid: Collection[str] = ()) -> Case:
    """A problem that is not in `avoid`, with a mistake drawn evenly from `mistakes`."""
    while True:
        problem = SKILLS[rng.choice(SKILLS_HERE)](rng)
        if problem.question in avoid:
            continue
        mistake = rng.choice(list(mistakes))
        if mistake == "none":
            return Case(problem, mistake, right_work(problem))
        work = wrong_work(problem, mistake, rng)
        if f"<ans>{problem.answer}</ans>" not in work:
            return Case(problem, mistake, work)


def right_work(problem: Problem) -> str:
    return f"{problem.formula} <ans>{problem.answer}</ans>"


def thing_of(problem: Problem) -> str:
    words: list[str] = re.findall(r"[a-z]+", problem.question)
    return next(word for word in words if word in OBJECTS)


def remedy_text(remedy: str, found: Case) -> str:
    """A tutor's sentence that carries out a remedy; it never says the answer."""
    _, a, sign, b = last_sum(found.problem)
    thing = thing_of(found.problem)
    return {
        "story": f"What happens to the {thing} in the story?",
        "reread": f"Read the numbers of {thing} again.",
        "recount": f"Work out {a} {sign} {b} once more.",
        "plan": "Write down what you calculate.",
    }[remedy]


def remedy_in(text: str) -> str | None:
    """The remedy that a tutor's sentence carries out.

    "Good try. Work out 3 + 4 once more." → "recount"
    """
    signs = {
        "story": "in the story",
        "reread": "Read the numbers",
        "recount": "once more",
        "plan": "Write down",
    }
    return next((remedy for remedy, sign in signs.items() if sign in text), None)


def turn_text(act: str, found: Case, rng: Random, remedy: str | None = None) -> str:
    """A tutor's sentence of an act; focus is one of the remedies, drawn if it is not given."""
    if act == "focus":
        return remedy_text(remedy or rng.choice(REMEDIES), found)
    if act == "probing":
        return "How did you find that?"
    if act == "telling":
        return f"It is {found.problem.formula} <ans>{found.problem.answer}</ans>"
    return "Think again."


def act_of(text: str) -> str:
    if remedy_in(text):
        return "focus"
    if "<ans>" in text:
        return "telling"
    return "probing" if "How did you" in text else "generic"


def chance_of_right(text: str, mistake: str) -> float:
    """How likely a pupil with this mistake is right after a tutor's sentence."""
    remedy = remedy_in(text)
    if remedy:
        return HELPED if remedy == REMEDY_OF[mistake] else UNHELPED
    return {"telling": 1.0, "probing": PROBED, "generic": GENERIC}[act_of(text)]


def pupil_reply(text: str, found: Case, rng: Random) -> str:
    """What the pupil says: the right work, or its own once more."""
    if act_of(text) == "telling":
        return f"It is {found.problem.answer}. <ans>{found.problem.answer}</ans>"
    right = rng.random() < chance_of_right(text, found.mistake)
    return right_work(found.problem) if right else found.work


def is_right(work: str, found: Case) -> bool:
    return f"<ans>{found.problem.answer}</ans>" in work


def expert_act(n_before: int, rng: Random) -> str:
    """What the expert does after `n_before` turns of its own: it tells only at the fourth."""
    if n_before >= 3:
        return "telling"
    return "probing" if n_before == 0 and rng.random() < 0.15 else "focus"


def talk(found: Case, rng: Random, tutor: str = "expert", n_most: int = 4) -> list[dict[str, Any]]:
    """A dialogue after the pupil's work, turn by turn: speaker, text, act.

    The expert names the remedy of the mistake in four of five of its hints. The "novice", which
    is what the tutor's corpus has, tells in nearly half of its turns and hints at random.
    """
    turns = [{"speaker": "pupil", "text": found.work, "act": None}]
    for n_before in range(n_most):
        if tutor == "expert":
            act = expert_act(n_before, rng)
            remedy = REMEDY_OF[found.mistake] if rng.random() < 0.8 else None
        else:
            act, remedy = rng.choices(ACTS, (0.2, 0.15, 0.45, 0.2))[0], None
        text = turn_text(act, found, rng, remedy)
        turns.append({"speaker": "tutor", "text": text, "act": act})
        reply = pupil_reply(text, found, rng)
        turns.append({"speaker": "pupil", "text": reply, "act": None})
        if is_right(reply, found):
            break
    return turns


def explanation(problem: Problem, how: str = "true") -> str:
    """What a tutor says about a question in advance; "misleading" has the wrong operation.

    "Start with 12. Take away 5."
    """
    _, a, sign, b = last_sum(problem)
    if how == "misleading":
        sign = WRONG_SIGN[sign]
    verb = {"+": "Add", "-": "Take away", "*": "Multiply by", "/": "Divide by"}[sign]
    if problem.skill == "two_step":
        first, second = re.findall(r"\d+", problem.formula)[:2]
        return f"Start with {first}. Add {second}. {verb} {b}."
    return f"Start with {a}. {verb} {b}."


P_KNOWN, P_LACKING, P_EXPLAINED, P_MISLED = 0.95, 0.1, 0.9, 0.1
"""How often a pupil is right: a skill that it has; one that it lacks; one that it lacks and that
was explained to it; any after a misleading explanation."""


@dataclass(frozen=True)
class Pupil:
    """`lacks`: skills that it has not learned. `deaf`: those of them where help does not help."""

    lacks: tuple[str, ...]
    deaf: tuple[str, ...]

    @property
    def profile(self) -> str:
        """As its template reads it: "lacks subtraction, division; no help with division"."""
        if not self.lacks:
            return "lacks nothing"
        deaf = f"; no help with {', '.join(self.deaf)}" if self.deaf else ""
        return f"lacks {', '.join(self.lacks)}{deaf}"


def pupil(rng: Random) -> Pupil:
    lacks = tuple(s for s in SKILLS_HERE if rng.random() < 0.45)
    return Pupil(lacks, tuple(s for s in lacks if rng.random() < 0.4))


def chance_of_answer(who: Pupil, problem: Problem, how: str | None) -> float:
    """The chance that the pupil is right; `how` is the explanation it saw, or None."""
    if how == "misleading":
        return P_MISLED
    if problem.skill not in who.lacks:
        return P_KNOWN
    helped = how == "true" and problem.skill not in who.deaf
    return P_EXPLAINED if helped else P_LACKING


def pupil_work(who: Pupil, problem: Problem, how: str | None, rng: Random) -> str:
    """The pupil's work on a question: right, or with the wrong operation."""
    if rng.random() < chance_of_answer(who, problem, how):
        return right_work(problem)
    return wrong_work(problem, "operation", rng)


def answer_in(work: str) -> str:
    return work.split("<ans>")[1].split("</ans>")[0]
