"""What a process reward model reads: a question and the steps of an answer. Pure.

in:  "What is 3 + 4 + 2?" and ["3 + 4 = 7.", "7 + 2 = 9."]
out: user: "What is 3 + 4 + 2? 3 + 4 = 7."   assistant: "+"   user: "7 + 2 = 9."   assistant: "+"

Code that trains a reward model renders its texts with these functions too, so nothing heavy is
imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llm_distill.rows.messages import Message

GOOD = "+"
BAD = "-"

MARK = "\ue000"
"""Stands where a step's reward is read until the text is rendered: a letter of no language."""


@dataclass(frozen=True)
class NextToken:
    """A causal model answers each step with one of two tokens.

    A step's reward is the probability of `good`, of the two, where the answer begins
    (RLHFlow's Llama3.1-8B-PRM models).
    """

    good: str = GOOD
    bad: str = BAD


@dataclass(frozen=True)
class TokenClassification:
    """A head with two labels reads the state of the separator after each step.

    A step's reward is the probability of label 1 (Qwen2.5-Math-PRM; TRL's PRM trainer).

    system: a system message, for a model that was trained with one.
    """

    separator: str
    system: str | None = None


RewardFormat = NextToken | TokenClassification


def conversation(question: str, steps: Sequence[str], verdict: str = GOOD) -> list[Message]:
    """One user turn a step, the first with the question before it, each answered by the verdict.

    The form of RLHFlow's Llama3.1-8B-PRM models. A step's reward is the verdict's probability.
    """
    turns = [f"{question} {steps[0]}", *steps[1:]]
    messages: list[Message] = []
    for turn in turns:
        messages.append({"role": "user", "content": turn})
        messages.append({"role": "assistant", "content": verdict})
    return messages


def plain_text(question: str, steps: Sequence[str], verdict: str = GOOD) -> str:
    """The same for a model without a chat template: the verdict on a line after each step.

    A space follows it, since many tokenizers have a token for a verdict with a line's end.
    """
    return f"{question}\n" + "".join(f"{step}\n{verdict} \n" for step in steps)


def one_answer(
    question: str, steps: Sequence[str], separator: str, system: str | None = None
) -> list[Message]:
    """All steps in one assistant turn, a separator after each: the form of Qwen2.5-Math-PRM."""
    messages = [{"role": "system", "content": system}] if system is not None else []
    messages.append({"role": "user", "content": question})
    messages.append({"role": "assistant", "content": "".join(f"{s}{separator}" for s in steps)})
    return messages


def fill_marks(text: str, word: str) -> tuple[str, list[int]]:
    """The text with `word` at every mark, and where in it each of these words ends."""
    pieces = text.split(MARK)
    filled, ends = pieces[0], []
    for piece in pieces[1:]:
        filled += word
        ends.append(len(filled))
        filled += piece
    return filled, ends
