"""What stands in for a model that is asked: it writes what the prompt asks for, often rightly.

It looks at nothing but the request. The prompt's last paragraph says what is wanted: new questions,
names of skills or a label, a judgement, a grade, or an answer with reasons, in the tags, the box or
the JSON that it names. Where the request says in which form an answer must be, it has that.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from functools import partial

from llm_distill.engines.base import Request
from llm_distill.engines.scripted.engine import prompt_text
from llm_distill.rehearsal.forms import held
from llm_distill.rehearsal.questions import WORDS, another_like, right_answer

WRONG, UNREADABLE = 0.25, 0.05
"""Shares of the answers; the others are right."""
SKILLS = tuple(f"{first} {second}" for first in WORDS[:8] for second in WORDS[8:14])
TAG = re.compile(r"<(\w+)>")
KEY = re.compile(r'"(\w+)"')
OF_SEVERAL = re.compile(r'"(\w+)": "([^"|]+\|[^"]+)"')
"""A key whose value is one of the labels that stand there."""
REASONS = re.compile("reason|rationale|think|thought|expla|step|draft|work|plan")
"""In the names of tags that hold a way and not an answer."""
INLINE = re.compile(r"(?:at most of|does it need:) ([^<>\n?]+?)(?:, as <|\?\s)")
"""Skills that are listed within a sentence."""


def answer(request: Request) -> str:
    """The text of a completion."""
    prompt = prompt_text(request)
    draw = random.Random(f"{request.id}/{request.seed}/{prompt[-400:]}")
    wanted = prompt.rstrip().rpartition("\n\n")[2]
    if request.structure is not None:
        return held(request.structure, partial(_value, prompt, draw), draw)
    tags = dict.fromkeys(TAG.findall(wanted))
    for sign, write in WAYS:
        if sign in tags:
            return write(prompt, wanted, draw)
    if "JSON" in wanted and (keys := dict.fromkeys(KEY.findall(wanted))):
        listed = {key: labels.split("|") for key, labels in OF_SEVERAL.findall(wanted)}
        return json.dumps(
            {
                key: draw.choice(listed[key]) if key in listed else _value(prompt, draw, key)
                for key in keys
            }
        )
    if '"Question:"' in wanted:
        text = another_like(prompt, draw)
        return f"Question: {text}\nAnswer: {right_answer(text)}"
    return reasons(prompt, wanted, draw)


def drafts(prompt: str, wanted: str, draw: random.Random) -> str:
    """New questions with their answers, as the examples in the prompt are."""
    found = []
    for number in range(1, _how_many(wanted) + 1):
        text = another_like(prompt, draw)
        target = right_answer(text) if draw.random() > UNREADABLE else ""
        inner = f"<input>{text}</input><target>{target}</target>"
        found.append(f"<Question_{number}>{inner}</Question_{number}>")
    return "\n".join(found)


def new_questions(prompt: str, wanted: str, draw: random.Random) -> str:
    """Questions without answers."""
    return "\n".join(
        f"<reason>It is new.</reason><draft>One.</draft>"
        f"<question>{another_like(prompt, draw)}</question>"
        for _ in range(_how_many(wanted))
    )


def subtasks(prompt: str, wanted: str, draw: random.Random) -> str:
    """Parts of a question, with solutions that calculate with what the parts give."""
    found = []
    for number in (1, 2):
        given = draw.randint(3, 99)
        text = f"Take {given} once. {another_like(prompt, draw)}"
        target = right_answer(text) if draw.random() > UNREADABLE else ""
        words = " ".join(draw.choices(WORDS, k=12))  # as long as an answer of `reasons`
        solution = f"{words.capitalize()}. {given} * 1 = {given}. <ans>{target}</ans>"
        inner = f"<question>{text}</question><solution>{solution}</solution>"
        found.append(f"<Subtask_{number}>{inner}<answer>{target}</answer></Subtask_{number}>")
    return "\n".join(found)


def judgement(prompt: str, wanted: str, draw: random.Random) -> str:
    """Skills of the list that an answer lacks."""
    judge = "correct" if draw.random() < 0.1 else "incorrect"
    return f"<reason>It is so.</reason><judge>{judge}</judge>{_skills(prompt, draw)}"


def labels(prompt: str, wanted: str, draw: random.Random) -> str:
    """Skills of the list, or where there is none some names."""
    return f"{_skills(prompt, draw)}<reason>It is so.</reason>"


def label(prompt: str, wanted: str, draw: random.Random) -> str:
    """One of the names that are listed with their definitions."""
    listed = re.findall(r"^- (.+?)(?:: .*)?$", prompt, re.MULTILINE)
    if draw.random() < UNREADABLE or not listed:
        return "It is so."
    return f"<label>{draw.choice(listed)}</label>"


def verdict(prompt: str, wanted: str, draw: random.Random) -> str:
    """Yes, as a rule."""
    said = "no" if draw.random() < WRONG else "yes"
    return f"<reason>It is so.</reason><verdict>{said}</verdict>"


def grade(prompt: str, wanted: str, draw: random.Random) -> str:
    """A whole number of the scale that the prompt names."""
    scale = re.findall(r"from (\d+) to (\d+)", prompt)
    lowest, highest = map(int, scale[-1]) if scale else (1, 10)
    if draw.random() < UNREADABLE:
        return "It is so."
    return f"It is so. <grade>{draw.randint(lowest, highest)}</grade>"


def winner(prompt: str, wanted: str, draw: random.Random) -> str:
    """Which of two answers is the better one."""
    if draw.random() < UNREADABLE:
        return "It is so."
    return f"It is so. <winner>{draw.choice(('A', 'B', 'tie'))}</winner>"


def reasons(prompt: str, wanted: str, draw: random.Random) -> str:
    """A rationale and the answer, in the tag or the box that is asked for."""
    steps = " ".join(draw.choices(WORDS, k=12))
    found = _said(prompt, draw)
    if found is None:
        return f"1. {steps}."
    texts = {tag: steps if REASONS.search(tag) else found for tag in TAG.findall(wanted)}
    if "boxed" in wanted:
        end = f"\\boxed{{{found}}}"
    else:
        end = "".join(f"<{tag}>{text}</{tag}>" for tag, text in (texts or {"ans": found}).items())
    return f"1. {steps.capitalize()}.\n\n2. So the answer is {found}. {end}"


WAYS: tuple[tuple[str, Callable[[str, str, random.Random], str]], ...] = (
    ("Question_1", drafts),
    ("Subtask_1", subtasks),
    ("question", new_questions),
    ("judge", judgement),
    ("skill", labels),
    ("label", label),
    ("verdict", verdict),
    ("grade", grade),
    ("winner", winner),
)
"""By a tag that the prompt asks for."""


def _said(prompt: str, draw: random.Random) -> str | None:
    """The answer to the prompt's last question, or another one; None: it cannot be read."""
    found = right_answer(prompt) or "7"
    chance = draw.random()
    if chance < UNREADABLE:
        return None
    if chance < UNREADABLE + WRONG:
        return "(F)" if found.startswith("(") else str(int(found) + 1)
    return found


def _value(prompt: str, draw: random.Random, name: str) -> str:
    """What is written under a name in JSON."""
    if "question" in name:
        return another_like(prompt, draw)
    if REASONS.search(name):
        return " ".join(draw.choices(WORDS, k=6))
    return _said(prompt, draw) or "?"


def _how_many(wanted: str) -> int:
    found = re.search(r"[Ww]rite (\d+)", wanted)
    return int(found.group(1)) if found else 1


def _skills(prompt: str, draw: random.Random) -> str:
    listed = re.findall(r"^- (.+)$", prompt, re.MULTILINE)
    within = INLINE.findall(prompt)
    if not listed and within:
        listed = within[-1].split(", ")
    chosen = draw.sample(listed or SKILLS, k=min(3, len(listed) or 3))
    if listed:
        return f"<skill>{', '.join(chosen)}</skill>"
    return "".join(f"<skill>{name}</skill>" for name in chosen)
