"""Scripted tutors and pupils. What they are asked is JSON: see PROMPT.

A pupil lacks one step: its first wrong answer is right again where a tutor names the remedy of its
misconception, where the answer is told, or where it gives in.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from llm_distill.engines.base import Request
from llm_distill.engines.scripted.engine import prompt_text

PROMPT = (
    '{"me": {{ speaker | tojson }}, "turns": {{ turns | tojson }}, "answer": '
    '{{ reference_answer | tojson }}, "remedy": {{ remedy | tojson }}}'
)
ROWS: list[dict[str, Any]] = [
    {
        "id": f"q{i}",
        "question": f"What is {i}7 + 5?",
        "reference_answer": f"{i + 1}2",
        "wrong_solution": f"7 + 5 is {i + 1}2 or so, no, {i}2.",  # it holds the right number too
        "remedy": "carry" if i % 2 else "line up",
    }
    for i in range(1, 5)
]


def asked(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(prompt_text(request))
    return found


def tells(request: Request) -> str:
    return f"<act>telling</act>The answer is {asked(request)['answer']}."


def thinks_again(request: Request) -> str:
    return "<act>generic</act>Think again."


def knows_the_remedy(request: Request) -> str:
    return f"<act>focus</act>Did you {asked(request)['remedy']}?"


def gives_the_wrong_remedy(request: Request) -> str:
    return "<act>focus</act>Did you divide?"


def learns(request: Request) -> str:
    """Right once it has heard the remedy or the answer; else it tries something new each time."""
    of = asked(request)
    heard = " ".join(turn["text"] for turn in of["turns"] if turn["speaker"] != of["me"])
    if of["remedy"] in heard or of["answer"] in heard:
        return f"Oh! The answer is {of['answer']}."
    return f"Maybe it is {900 + len(of['turns'])}."


def yields(request: Request) -> str:
    """Right with its third new turn whatever is said; its wrong solution is turn 0."""
    of = asked(request)
    own = [turn for turn in of["turns"] if turn["speaker"] == of["me"]]
    return f"The answer is {of['answer'] if len(own) >= 3 else 900 + len(own)}."


def repeats(request: Request) -> str:
    return "I still think that it is  900."


def never_stops(request: Request) -> str:
    return f"And what about {900 + len(asked(request)['turns'])}?"


ALL: dict[str, Callable[[Request], str]] = {
    each.__name__: each
    for each in (
        *(tells, thinks_again, knows_the_remedy, gives_the_wrong_remedy),
        *(learns, yields, repeats, never_stops),
    )
}
