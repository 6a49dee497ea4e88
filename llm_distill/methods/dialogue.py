"""A conversation whose turns of the assistant are written anew, one after another. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Literal

from llm_distill.rows.messages import Message

Anew = Literal["last", "all"]


@dataclass
class Dialogue:
    """What has been said so far, and what is still to come of the given conversation.

    Attributes:
        said: the messages up to the next turn of the assistant, or all once it is over.
        left: the messages after that turn, as they were given.
        replaced: the turn that was given in its place.
        is_over: whether no turn is left to write.
        is_cut: whether it ended early, since what was written does not lead to what was given: the
            results that follow are not of the tools that it calls.
    """

    said: list[Message]
    left: deque[Message] = field(default_factory=deque)
    replaced: Message = field(default_factory=dict)
    is_over: bool = False
    is_cut: bool = False

    def take(self, turn: Message) -> None:
        """Add what the assistant wrote, and what others say after it."""
        self.said.append(turn)
        if not self.left:
            self.is_over = True
            return
        calls = turn.get("tool_calls") or []
        results = list(takewhile(lambda given: given["role"] == "tool", self.left))
        if len(calls) != len(results) or (calls and _names(turn) != _names(self.replaced)):
            self.is_over = self.is_cut = True
            return
        for call in calls:  # the results are of the new calls now
            given = self.left.popleft()
            kept = {name: value for name, value in given.items() if name != "tool_call_id"}
            identity = {"tool_call_id": call["id"]} if call.get("id") else {}
            self.said.append({**kept, **identity})
        while self.left and self.left[0]["role"] != "assistant":
            self.said.append(self.left.popleft())
        if self.left:
            self.replaced = self.left.popleft()
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
    replaced = turns[first] if first < len(turns) else {}
    return Dialogue(turns[:first], deque(turns[first + 1 :]), replaced)


def _names(turn: Message) -> list[str]:
    return [call["function"]["name"] for call in turn.get("tool_calls") or ()]
