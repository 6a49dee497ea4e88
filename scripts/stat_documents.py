"""Documents for the bundled models of STAT: labels, judged answers, new questions, judged steps.

One document of the reward model, a conversation in which only the marks are learned:

    <user>Ann has 7 pens and loses 3 of them. How many pens are left? 1. Start with 7.<assistant>+
    <user>2. Add 3.<assistant>-<user>3. 7 + 3 = 10. <ans>10</ans><assistant>-

Everything here is a pure function of the `random.Random` that it is given.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from random import Random
from typing import Any

from tiny_training import ASSISTANT, END, USER, Piece
from word_problems import (
    ALSO_NEEDS,
    NAMES,
    OBJECTS,
    SKILLS,
    STYLES,
    TASK_DESCRIPTION,
    WEEKDAYS,
    Problem,
    explain,
    sample_problem,
)

from llm_distill.engines.process_reward.format import conversation
from llm_distill.methods.parsing import read_tag, split_steps
from llm_distill.prompts import Template, load_template

STEP_BOUNDARY = r"(?<=\.) (?=\d+\. )"
"""Between "3 pens." and " 2. Add 4.": a number alone can also be a sum at a sentence's end."""
REASONS = {
    "addition": "Two amounts are put together.",
    "subtraction": "A part is taken away.",
    "multiplication": "Equal groups are counted.",
    "division": "An amount is shared equally.",
    "two_step": "One sum builds on another.",
    "comparison": "Two amounts are compared.",
    "weekday": "Days of the week are counted.",
    "order": "Things lie on each other.",
}
SPELLINGS = ("{}", "{}", "{}", "{}s")
"""How a skill is named when nobody has given a list: mostly, but not always, the same way."""


@lru_cache
def template(name: str) -> Template:
    return load_template(f"stat/{name}.jinja")


def turn(name: str, values: dict[str, Any], answer: str) -> list[Piece]:
    """A chat turn whose prompt is a template of STAT."""
    prompt = template(name).render({"task_description": TASK_DESCRIPTION, **values})
    return [(USER, False), (prompt, False), (ASSISTANT, False), (answer, True), (END, True)]


def skill_list(needed: Sequence[str], rng: Random) -> list[str]:
    """The skills in any order; sometimes without some that are not needed."""
    others = [skill for skill in SKILLS if skill not in needed]
    kept = others if rng.random() < 0.7 else rng.sample(others, rng.randint(1, len(others)))
    return rng.sample([*needed, *kept], len(needed) + len(kept))


def needs(problem: Problem) -> list[str]:
    return [problem.skill, *ALSO_NEEDS.get(problem.skill, [])]


def label_document(problem: Problem, rng: Random) -> list[Piece]:
    needed = needs(problem)
    values = {
        "skills": skill_list(needed, rng),
        "question": problem.question,
        "max_skills": rng.choice((3, 5)),
    }
    answer = f"<skill>{', '.join(needed)}</skill> <reason>{REASONS[problem.skill]}</reason>"
    return turn("label_skills", values, answer)


def discovery_document(problems: Sequence[Problem], rng: Random) -> list[Piece]:
    named = dict.fromkeys(problem.skill for problem in problems)  # each once, as they come
    spelled = [rng.choice(SPELLINGS).format(skill) for skill in named]
    spelled = [name.replace("_", rng.choice("_ -")).capitalize() for name in spelled]
    values = {"questions": [problem.question for problem in problems]}
    return turn("discover_skills", values, " ".join(f"<skill>{name}</skill>" for name in spelled))


def judging_document(problem: Problem, rng: Random) -> list[Piece]:
    """A student's answer, right or wrong in one of the ways in which students are wrong.

    The judge first solves the problem itself, because a sum is hard to judge otherwise.
    """
    is_right = rng.random() < 0.4
    style = "steps" if rng.random() < 0.7 else rng.choice(STYLES)
    if is_right:
        text = explain(problem, style, rng)
    elif style == "steps":
        text = f"<ans>{problem.answer}</ans>"
        while f"<ans>{problem.answer}</ans>" in text:  # a mistake that does not change the answer
            text = " ".join(step for step, _ in mistaken_steps(problem, rng))
    else:
        text = explain(problem, style, rng, guess=True)
    values = {
        "skills": skill_list([problem.skill], rng),
        "question": problem.question,
        "completion": text,
        "max_skills": 3,
    }
    verdict = "correct" if is_right else "incorrect"
    named = "" if is_right else problem.skill
    given = read_tag(text, "ans")
    answer = (
        f"<reason>{problem.steps} It is {problem.answer}, the student says {given}.</reason> "
        f"<judge>{verdict}</judge> <skill>{named}</skill>"
    )
    return turn("find_missing_skills", values, answer)


def synthesis_document(
    problems: Sequence[Problem], new: Sequence[Problem], rng: Random
) -> list[Piece]:
    """`problems` and `new` are all of one skill."""
    style = "steps" if rng.random() < 0.7 else rng.choice(STYLES)
    values = {
        "skill": problems[0].skill,
        "examples": [
            {"question": p.question, "rationale": explain(p, style, rng)} for p in problems
        ],
        "n_questions": len(new),
    }
    blocks = [
        f"<reason>{REASONS[p.skill]}</reason> <draft>{p.formula}</draft> "
        f"<question>{p.question}</question>"
        for p in new
    ]
    return turn("synthesise", values, " ".join(blocks))


def right_steps(problem: Problem, rng: Random) -> list[str]:
    return split_steps(explain(problem, "steps", rng), STEP_BOUNDARY)


def mistaken_steps(
    problem: Problem, rng: Random, slips: float = 0.3, results: float = 0.25
) -> list[tuple[str, bool]]:
    """An answer that goes wrong somewhere, each step with whether it is right.

        [("1. Start with 7.", True), ("2. Add 3.", False), ("3. 7 + 3 = 10. <ans>10</ans>", False)]

    What follows the first mistake is wrong as well: it can no longer lead to the answer.

    Args:
        slips: Share of mistakes that are a single word.
        results: Share of wrong results by the right method, the mistakes of a student that has
            begun to learn.
    """
    right = right_steps(problem, rng)
    while True:
        kind = rng.random()
        if kind < slips:
            steps = _slip(problem, right, rng)
        elif kind < slips + results:
            steps = wrong_result(problem, right, rng)
        elif kind < (0.9 if results else 0.8):  # 0.8: as in the first phases of training
            steps = _wrong_method(problem, rng)
        else:
            steps = right[: rng.randrange(len(right))]
            steps += right_steps(sample_problem(rng), rng)[len(steps) :]
        first = next((i for i, (a, b) in enumerate(zip(steps, right, strict=False)) if a != b), 0)
        if steps != right and len(steps) == len(right):
            return [(step, index < first) for index, step in enumerate(steps)]


def _slip(problem: Problem, right: Sequence[str], rng: Random) -> list[str]:
    """Replaces one word of one step by another of its kind; later steps may continue with it."""
    steps = list(right)
    index = rng.randrange(len(steps))
    number, _, body = steps[index].partition(" ")
    places = [m for m in re.finditer(r"\w+", body) if m[0] != "ans" and _pool(m[0])]
    if not places:
        return steps
    place = rng.choice(places)
    old = place[0]
    new = rng.choice([word for word in _pool(old) if word != old])
    steps[index] = f"{number} {body[: place.start()]}{new}{body[place.end() :]}"
    if rng.random() < 0.5:  # continued, or wrong only here
        steps[index] = f"{number} " + re.sub(rf"\b{re.escape(old)}\b", new, body)
        steps[index + 1 :] = [
            re.sub(rf"(?<!^)\b{re.escape(old)}\b", new, step) for step in steps[index + 1 :]
        ]
    return steps


def wrong_result(problem: Problem, right: Sequence[str], rng: Random) -> list[str]:
    """Right except for the result: wrong by habit, close to the right one, or arbitrary."""
    if rng.random() < 0.3:
        return split_steps(habitual_answer(problem), STEP_BOUNDARY)
    if problem.skill == "weekday" and rng.random() < 0.5:
        return _miscount(right, rng.choice((-3, -2, -1, 1, 1, 2, 3)))
    if not problem.answer.isdigit() or rng.random() < 0.4:
        return split_steps(explain(problem, "steps", rng, guess=True), STEP_BOUNDARY)
    wrong = rng.choice([word for word in _pool(problem.answer) if word != problem.answer])
    return _with_result(problem, right, wrong)


def _with_result(problem: Problem, right: Sequence[str], wrong: str) -> list[str]:
    """The last step and the answer with another result."""
    last = re.sub(rf"\b{problem.answer}(?=\.? ?<|</ans>)", wrong, right[-1])
    assert last != right[-1]
    return [*right[:-1], last]


def _miscount(right: Sequence[str], too_many: int) -> list[str]:
    """Too many days, or too few."""
    days = re.findall(r"[A-Z]\w+day", right[1])
    start = WEEKDAYS.index(days[0])
    counted = [WEEKDAYS[(start + i) % 7] for i in range(max(1, len(days) + too_many))]
    stop = right[2].partition(" <ans>")[0]
    return [right[0], f"2. Count {', '.join(counted)}.", f"{stop} <ans>{counted[-1]}</ans>"]


def habitual_answer(problem: Problem) -> str:
    """The right method and a result that is always wrong in the same way.

    One too many, one day too far, the other person, another of the things.
    """
    right = split_steps(f"{problem.steps} <ans>{problem.answer}</ans>", STEP_BOUNDARY)
    if problem.skill == "weekday":
        return " ".join(_miscount(right, 1))
    if problem.answer.isdigit():
        return " ".join(_with_result(problem, right, str(int(problem.answer) + 1)))
    words = re.findall(r"\w+", problem.question)
    other = next(w for w in words if w != problem.answer and _pool(w) is _pool(problem.answer))
    return " ".join(_with_result(problem, right, other))


def _pool(word: str) -> Sequence[str]:
    """The words that can be in this word's place."""
    if word.isdigit():
        near = int(word)
        return [str(n) for n in range(max(0, near - 6), near + 7)]
    for pool in (WEEKDAYS, NAMES, THINGS):
        if word in pool:
            return pool
    return VERBS if word in VERBS else ()


THINGS = [thing[:-1] for thing in OBJECTS]
VERBS = ("Add", "Subtract", "Split", "Count")
METHODS = ("add", "subtract", "multiply", "divide")


def _wrong_method(problem: Problem, rng: Random) -> list[str]:
    """The steps of another skill with the numbers of the question."""
    numbers = [int(n) for n in re.findall(r"\d+", problem.question)]
    a, b = (*numbers, rng.randint(2, 12), rng.randint(2, 12))[:2]
    method = rng.choice(METHODS)
    found = {"add": a + b, "subtract": abs(a - b), "multiply": a * b, "divide": max(1, a // b)}
    opening = {"multiply": f"There are {a} groups.", "divide": f"There are {a}."}
    middle = {
        "add": f"Add {b}.",
        "subtract": f"Take away {b}.",
        "multiply": f"Each has {b}.",
        "divide": f"Split by {b}.",
    }
    sign = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
    if rng.random() < 0.3:  # the steps of one method with the sum of another
        middle[method] = middle[rng.choice(METHODS)]
    result = found[method]
    return [
        f"1. {opening.get(method, f'Start with {a}.')}",
        f"2. {middle[method]}",
        f"3. {a} {sign[method]} {b} = {result}. <ans>{result}</ans>",
    ]


def reward_document(problem: Problem, rng: Random, slips: float, results: float) -> list[Piece]:
    """A conversation as the reward model is asked: a step per turn, answered by + or -."""
    if rng.random() < 0.25:  # an answer in one step
        style = rng.choice(("formula", "answer", "empty"))
        is_right = rng.random() < 0.5
        judged = [(explain(problem, style, rng, guess=not is_right), is_right)]
    elif rng.random() < 0.45:
        judged = [(step, True) for step in right_steps(problem, rng)]
    else:
        judged = mistaken_steps(problem, rng, slips, results)
    messages = conversation(problem.question, [step for step, _ in judged])
    marks = iter("+" if is_right else "-" for _, is_right in judged)
    pieces: list[Piece] = []
    for message in messages:
        if message["role"] == "user":
            pieces += [(USER, False), (message["content"], False)]
        else:
            # It always reads the good mark, because all steps are judged in one pass.
            pieces += [(ASSISTANT, False), (message["content"], next(marks)), (END, False)]
    return pieces
