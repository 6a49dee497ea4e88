"""A world in which what help does is known: a pupil, and a mental model that copies what it sees.

A question is about a skill, an explanation is true, irrelevant or misleading. A pupil that lacks
the skill is wrong, and a true explanation turns it right; one that has it is right, and a
misleading explanation turns it wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import log
from typing import Any

from llm_distill.engines.base import Request, Score

SKILLS, HELP = ("adding", "taking"), ("true", "irrelevant", "misleading")
RIGHT = "7"


def answers(skill: str, help_: str | None, lacks: str) -> str:
    """What the pupil that lacks a skill answers; without help for None."""
    if help_ == "misleading":
        return "0"
    return RIGHT if skill != lacks or help_ == "true" else "0"


def items(prefix: str, n: int, lacks: str) -> list[dict[str, Any]]:
    """`n` questions of each skill and sort of explanation, with what the pupil answers."""
    return [
        {
            "id": f"{prefix}-{skill}-{each}-{number}",
            "question": f"A problem of {skill}, number {prefix}{each}{number}?",
            "reference_answer": RIGHT,
            "explanation": f"This is a {each} hint.",
            "answer_without": answers(skill, None, lacks),
            "answer_with": answers(skill, each, lacks),
        }
        for skill in SKILLS
        for each in HELP
        for number in range(n)
    ]


class MentalModel:
    """Gives an answer 0.9 where the demonstration of this skill and hint has it, and 0.1 else."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def p(self, prompt: Any, answer: str) -> float:
        text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        self.prompts.append(text)
        *shown, last = text.split("Question: ")[1:]
        for each in shown:
            if _about(each) == _about(last):
                said = each.split("Student's answer: ")[1].split("\n")[0]
                return 0.9 if said == answer.strip() else 0.1
        return 0.5

    def score(self, requests: Any) -> Iterator[Score]:
        for request in requests:
            half = log(self.p(request.prompt, request.completion)) / 2
            yield Score(request.id, (1, 2), (half, half))

    def sample(self, request: Request) -> str:
        """Nine of ten answers are the likely one."""
        is_likely = self.p(request.prompt, RIGHT) > 0.5
        is_odd = int(request.id.rsplit("-", 1)[1]) % 10 == 9
        return f" {RIGHT if is_likely != is_odd else 0}\n\nQuestion: another?"

    def close(self) -> None: ...


def _about(part: str) -> list[str]:
    return re.findall(r"adding|taking|(?:true|irrelevant|misleading)(?= hint)", part)
