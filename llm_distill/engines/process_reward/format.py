"""What a process reward model reads: a question and the steps of an answer. Pure.

in:  "What is 3 + 4 + 2?" and ["3 + 4 = 7.", "7 + 2 = 9."]
out: user: "What is 3 + 4 + 2? 3 + 4 = 7."   assistant: "+"   user: "7 + 2 = 9."   assistant: "+"

Who trains a reward model renders its texts with these functions too; nothing heavy is imported.
"""

from __future__ import annotations

from collections.abc import Sequence

from llm_distill.engines.base import Message

GOOD = "+"
BAD = "-"


def conversation(question: str, steps: Sequence[str], verdict: str = GOOD) -> list[Message]:
    """A step a user turn, the first behind the question; each is answered by the verdict.

    The form of RLHFlow's Llama3.1-8B-PRM models: how likely the verdict is where it stands is the
    step's reward.

    Raises:
        ValueError: there is no step.
    """
    if not steps:
        raise ValueError("an answer without steps has nothing to score")
    turns = [f"{question} {steps[0]}", *steps[1:]]
    messages: list[Message] = []
    for turn in turns:
        messages.append({"role": "user", "content": turn})
        messages.append({"role": "assistant", "content": verdict})
    return messages
