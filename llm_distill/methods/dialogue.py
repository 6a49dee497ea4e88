"""A conversation whose turns of the assistant are written anew, one after another. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from llm_distill.rows.messages import Message

Anew = Literal["last", "all"]


@dataclass
class Dialogue:
    """What has been said so far, and what is still to come of the given conversation.

    Attributes:
        said: the messages up to the next turn of the assistant, or all once it is over.
        left: the messages after that turn, as they were given.
        is_over: whether no turn is left to write.
        is_cut: whether it ended early, since what was written does not lead to what was given: a
            call without a result, or a result without a call.
    """

    said: list[Message]
    left: deque[Message] = field(default_factory=deque)
    is_over: bool = False
    is_cut: bool = False

    def take(self, turn: Message) -> None:
        """Add what the assistant wrote, and what others say after it."""
        self.said.append(turn)
        following = self.left[0]["role"] if self.left else None
        if following is None:
            self.is_over = True
            return
        if bool(turn.get("tool_calls")) != (following == "tool"):
            self.is_over = self.is_cut = True
            return
        while self.left and self.left[0]["role"] != "assistant":
            self.said.append(self.left.popleft())
        if self.left:
            self.left.popleft()  # which is written anew
        else:
            self.is_over = self.said[-1]["role"] == "assistant"


def begun(messages: Sequence[Message], anew: Anew) -> Dialogue:
    """A conversation before the first turn that is to be written.

    last: the turn at its end, in place of the assistant's if one is there. all: all of the
    assistant's, and one at its end if someone else has the last word.

    >>> asked, said = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    >>> begun([asked, said, asked, said], "last").said == [asked, said, asked]
    True
    >>> begun([asked, said, asked, said], "all").said == [asked]
    True
    """
    turns = list(messages)
    if anew == "last":
        return Dialogue(turns[:-1] if turns[-1]["role"] == "assistant" else turns)
    first = next((i for i, turn in enumerate(turns) if turn["role"] == "assistant"), len(turns))
    return Dialogue(turns[:first], deque(turns[first + 1 :]))
