"""What stands in for a model that is asked: it writes what the prompt asks for, often rightly.

It looks at nothing but the request. The prompt's last paragraphs say what is wanted: new questions,
names of skills, a judgement, or an answer with reasons, in the tags or the box that they name.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from llm_distill.engines.base import Request
from llm_distill.engines.scripted.engine import prompt_text
from llm_distill.rehearsal.questions import WORDS, another_like, right_answer

WRONG, UNREADABLE = 0.25, 0.05
"""Shares of the answers; the others are right."""
SKILLS = tuple(f"{first} {second}" for first in WORDS[:8] for second in WORDS[8:14])
TAG = re.compile(r"<(\w+)>")


def answer(request: Request) -> str:
    """The text of a completion."""
    prompt = prompt_text(request)
    draw = random.Random(f"{request.id}/{request.seed}/{prompt[-400:]}")
    wanted = prompt.rstrip().rpartition("\n\n")[2]
    tags = dict.fromkeys(TAG.findall(wanted))
    for sign, write in WAYS:
        if sign in tags:
            return write(prompt, wanted, draw)
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


def judgement(prompt: str, wanted: str, draw: random.Random) -> str:
    """Skills of the list that an answer lacks."""
    judge = "correct" if draw.random() < 0.1 else "incorrect"
    return f"<reason>It is so.</reason><judge>{judge}</judge>{_skills(prompt, draw)}"


def labels(prompt: str, wanted: str, draw: random.Random) -> str:
    """Skills of the list, or where there is none some names."""
    return f"{_skills(prompt, draw)}<reason>It is so.</reason>"


def reasons(prompt: str, wanted: str, draw: random.Random) -> str:
    """A rationale and the answer, in the tag or the box that is asked for."""
    steps = " ".join(draw.choices(WORDS, k=12))
    found = right_answer(prompt) or "7"
    chance = draw.random()
    if chance < UNREADABLE:
        return f"1. {steps}."
    if chance < UNREADABLE + WRONG:
        found = "(F)" if found.startswith("(") else str(int(found) + 1)
    boxed = "boxed" in wanted
    tags = [tag for tag in dict.fromkeys(TAG.findall(wanted)) if tag != "answer"] or ["ans"]
    end = f"\\boxed{{{found}}}" if boxed else "".join(f"<{tag}>{found}</{tag}>" for tag in tags)
    return f"1. {steps.capitalize()}.\n\n2. So it is {found}. {end}"


WAYS: tuple[tuple[str, Callable[[str, str, random.Random], str]], ...] = (
    ("Question_1", drafts),
    ("draft", new_questions),
    ("judge", judgement),
    ("skill", labels),
)
"""By a tag that the prompt asks for."""


def _how_many(wanted: str) -> int:
    found = re.search(r"[Ww]rite (\d+)", wanted)
    return int(found.group(1)) if found else 1


def _skills(prompt: str, draw: random.Random) -> str:
    listed = re.findall(r"^- (.+)$", prompt, re.MULTILINE)
    chosen = draw.sample(listed or SKILLS, k=min(3, len(listed) or 3))
    if listed:
        return f"<skill>{', '.join(chosen)}</skill>"
    return "".join(f"<skill>{name}</skill>" for name in chosen)
