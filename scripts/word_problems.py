"""Small word problems with known skills, and four ways to explain each.

One problem:

    Problem(skill="addition", name="Tom",
            question="Tom has 3 pens. Ann gives Tom 4 more pens. How many pens does Tom have now?",
            answer="7", formula="3 + 4 = 7.",
            steps="1. Start with 3. 2. Add 4. 3. 3 + 4 = 7.")

Everything here is a pure function of the `random.Random` that it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from random import Random

TASK_DESCRIPTION = "Solve the word problem."


def words(text: str) -> list[str]:
    return text.split()


NAMES = words(
    "Ann Ben Cara Dan Ella Finn Gina Hugo Ida Jack Kim Leo "
    "Mia Ned Olga Paul Rosa Sam Tina Umar Vera Will Yara Zoe"
)
OBJECTS = words(
    "pens cups books hats keys eggs coins cards balls shells stamps nuts "
    "plums pears figs beads stones tins spoons plates socks kites bells lamps"
)
COLOURS = words("red blue green black white brown pink grey")
WEEKDAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")

STYLES = ("steps", "formula", "answer", "empty")
EMPTY_WORDS = (
    "Some answers fit and some do not. What cannot be right is set aside.",
    "Looking at it with care helps. What is left must be right.",
)


@dataclass(frozen=True)
class Problem:
    """A question, its answer, and what each style writes before the answer.

    `wording`: which of its skill's two wordings the question has.
    """

    skill: str
    name: str
    question: str
    answer: str
    formula: str
    steps: str
    wording: int = 0


def addition(rng: Random) -> Problem:
    name, other = rng.sample(NAMES, 2)
    thing = rng.choice(OBJECTS)
    a, b = rng.randint(2, 12), rng.randint(2, 12)
    wording = rng.randrange(2)
    question = (
        f"{name} has {a} {thing}. {other} gives {name} {b} more {thing}. "
        f"How many {thing} does {name} have now?",
        f"{name} has {a} {thing} and {other} has {b} {thing}. "
        f"How many {thing} do they have together?",
    )[wording]
    formula = f"{a} + {b} = {a + b}."
    steps = f"1. Start with {a}. 2. Add {b}. 3. {formula}"
    return Problem("addition", name, question, str(a + b), formula, steps, wording)


def subtraction(rng: Random) -> Problem:
    name, other = rng.sample(NAMES, 2)
    thing = rng.choice(OBJECTS)
    a = rng.randint(3, 12)
    b = rng.randint(2, a - 1)
    wording = rng.randrange(2)
    question = (
        f"{name} has {a} {thing}. {name} gives {b} {thing} to {other}. "
        f"How many {thing} does {name} have left?",
        f"{name} has {a} {thing} and loses {b} of them. How many {thing} are left?",
    )[wording]
    formula = f"{a} - {b} = {a - b}."
    steps = f"1. Start with {a}. 2. Take away {b}. 3. {formula}"
    return Problem("subtraction", name, question, str(a - b), formula, steps, wording)


def multiplication(rng: Random) -> Problem:
    name = rng.choice(NAMES)
    thing = rng.choice(OBJECTS)
    a, b = rng.randint(2, 10), rng.randint(2, 10)
    wording = rng.randrange(2)
    question = (
        f"{name} fills {a} bags with {b} {thing} each. How many {thing} is that?",
        f"{name} buys {b} {thing} a day for {a} days. How many {thing} does {name} buy?",
    )[wording]
    formula = f"{a} * {b} = {a * b}."
    steps = f"1. There are {a} groups. 2. Each has {b}. 3. {formula}"
    return Problem("multiplication", name, question, str(a * b), formula, steps, wording)


def division(rng: Random) -> Problem:
    name = rng.choice(NAMES)
    thing = rng.choice(OBJECTS)
    share, groups = rng.randint(2, 10), rng.randint(2, 10)
    total = share * groups
    wording = rng.randrange(2)
    question = (
        f"{name} shares {total} {thing} equally among {groups} friends. "
        f"How many {thing} does each friend get?",
        f"{name} packs {total} {thing} into {groups} equal bags. How many {thing} are in each bag?",
    )[wording]
    formula = f"{total} / {groups} = {share}."
    steps = f"1. There are {total}. 2. Split by {groups}. 3. {formula}"
    return Problem("division", name, question, str(share), formula, steps, wording)


def two_step(rng: Random) -> Problem:
    name = rng.choice(NAMES)
    thing = rng.choice(OBJECTS)
    a, b, c = (rng.randint(2, 6) for _ in range(3))
    wording = rng.randrange(2)
    question = (
        f"{name} has {a} {thing}, then finds {b} {thing} and buys {c} {thing}. "
        f"How many {thing} does {name} have at the end?",
        f"{name} picks {a} {thing} at dawn, {b} {thing} at noon and {c} {thing} at dusk. "
        f"How many {thing} does {name} pick?",
    )[wording]
    first, second = f"{a} + {b} = {a + b}.", f"{a + b} + {c} = {a + b + c}."
    steps = f"1. Start with {a}. 2. {first} 3. {second}"
    return Problem("two_step", name, question, str(a + b + c), f"{first} {second}", steps, wording)


def comparison(rng: Random) -> Problem:
    name, other = rng.sample(NAMES, 2)
    thing = rng.choice(OBJECTS)
    a, b = rng.sample(range(2, 13), 2)
    wording = rng.randrange(2)
    question = (
        f"{name} has {a} {thing} and {other} has {b} {thing}. Who has more {thing}?",
        f"{name} finds {a} {thing}. {other} finds {b} {thing}. Who finds more {thing}?",
    )[wording]
    winner = name if a > b else other
    formula = f"{max(a, b)} > {min(a, b)}, so {winner}."
    steps = f"1. {name} has {a}. 2. {other} has {b}. 3. {formula}"
    return Problem("comparison", name, question, winner, formula, steps, wording)


def weekday(rng: Random) -> Problem:
    name = rng.choice(NAMES)
    start, ahead = rng.randrange(7), rng.randint(2, 6)
    verb = rng.choice(("travels", "paints", "swims", "sings", "bakes", "moves", "rests", "rows"))
    wording = rng.randrange(2)
    question = (
        f"Today is {WEEKDAYS[start]}. {name} {verb} in {ahead} days. On what day is that?",
        f"It is {WEEKDAYS[start]} and {name} {verb} {ahead} days from now. Which day is it then?",
    )[wording]
    passed = [WEEKDAYS[(start + i) % 7] for i in range(1, ahead + 1)]
    formula = f"{WEEKDAYS[start]} + {ahead} = {passed[-1]}."
    steps = f"1. Start on {WEEKDAYS[start]}. 2. Count {', '.join(passed)}. 3. Stop at {ahead}."
    return Problem("weekday", name, question, passed[-1], formula, steps, wording)


def order(rng: Random) -> Problem:
    name = rng.choice(NAMES)
    low, middle, high = (things[:-1] for things in rng.sample(OBJECTS, 3))
    facts = [f"the {middle} is on the {low}", f"the {high} is on the {middle}"]
    rng.shuffle(facts)
    wording = rng.randrange(2)
    question = (
        f"{name} makes a pile: {facts[0]} and {facts[1]}. What is on top?",
        f"{name} sees that {facts[0]} and {facts[1]}. Which thing is the highest?",
    )[wording]
    formula = f"{high} > {middle} > {low}."
    steps = f"1. {low} is low. 2. {middle} is on {low}. 3. {high} is on {middle}."
    return Problem("order", name, question, high, formula, steps, wording)


SKILLS: dict[str, Callable[[Random], Problem]] = {
    "addition": addition,
    "subtraction": subtraction,
    "multiplication": multiplication,
    "division": division,
    "two_step": two_step,
    "comparison": comparison,
    "weekday": weekday,
    "order": order,
}
# What a problem needs besides its own skill.
ALSO_NEEDS = {"two_step": ["addition"]}


def copy_riddle(rng: Random) -> Problem:
    """An off-target question: it contains its answer, and does not need any of the skills."""
    name = rng.choice(NAMES)
    liked = f"{rng.choice(COLOURS)} {rng.choice(OBJECTS)}"
    verb = rng.choice(("like", "want"))
    question = f"{name} {verb}s {liked}. What does {name} {verb}?"
    formula = f"{name}: {liked}."
    steps = f"1. Look for {name}. 2. Read {liked}. 3. Copy it."
    return Problem("copy", name, question, liked, formula, steps)


def is_copy_riddle(question: str) -> bool:
    """Whether a drafted question is useless."""
    return "What does" in question and question.rstrip().endswith((" like?", " want?"))


def sample_problem(rng: Random, skills: Collection[str] = tuple(SKILLS)) -> Problem:
    """One problem of a skill drawn evenly from `skills`."""
    return SKILLS[rng.choice(list(skills))](rng)


def explain(problem: Problem, style: str, rng: Random, guess: bool = False) -> str:
    """A one-line rationale in `style`, ending in `<ans>…</ans>`.

        "3 + 4 = 7. <ans>7</ans>"

    With `guess`, every mention of the answer is a guess instead: a careless author writes like
    this, and the student's corpus contains it on purpose.
    """
    answer = guessed_answer(problem, rng) if guess else problem.answer
    if style == "answer":
        return f"<ans>{answer}</ans>"
    if style == "empty":
        return f"{rng.choice(EMPTY_WORDS)} <ans>{answer}</ans>"
    words = problem.formula if style == "formula" else problem.steps
    if guess:
        # A careless author gets the last result wrong.
        head, found, tail = words.rpartition(problem.answer)
        words = head + answer + tail if found else words
    return f"{words} <ans>{answer}</ans>"


def guessed_answer(problem: Problem, rng: Random) -> str:
    """A wrong answer of the right kind."""
    if problem.answer.isdigit():
        pool = [str(n) for n in range(1, 41)]
    elif problem.answer in WEEKDAYS:
        pool = WEEKDAYS
    elif problem.answer in NAMES:
        pool = NAMES
    else:
        pool = [things[:-1] for things in OBJECTS]
    return rng.choice([candidate for candidate in pool if candidate != problem.answer])


def style_of(rationale: str) -> str | None:
    """The style that a rationale is written in, or None.

    "3 + 4 = 7. <ans>7</ans>" → "formula"
    """
    text = rationale.strip()
    if text.startswith("<ans>"):
        return "answer"
    if text.startswith("1. "):
        return "steps"
    if text.startswith(tuple(words[:12] for words in EMPTY_WORDS)):
        return "empty"
    return "formula" if "<ans>" in text else None
