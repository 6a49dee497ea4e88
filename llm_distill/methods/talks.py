"""A dialogue between several speakers, and how each of them sees it. Pure.

Here all speakers are models; `dialogue` rewrites one side of a conversation that is given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llm_distill.methods.parsing import block_pattern, read_tag
from llm_distill.rows.messages import Message


@dataclass(frozen=True)
class Turn:
    """What a speaker says.

    Attributes:
        text: Without the tag of its act.
        act: What kind of turn the speaker says that it is.
        finish_reason: As of a completion; None where nobody was asked.
    """

    speaker: str
    text: str
    act: str | None = None
    finish_reason: str | None = None

    @property
    def is_given(self) -> bool:
        return self.finish_reason is None


def read_act(text: str, tag: str | None) -> tuple[str, str | None]:
    """(text without the tag, act) of what a model wrote; a tag that is empty or open is no act.

    >>> read_act("<act> focus </act> What is left over?", "act")
    ('What is left over?', 'focus')
    """
    if tag is None:
        return text.strip(), None
    without = block_pattern(re.escape(tag)).sub("", text).strip()
    return without, read_tag(text, tag) or None


def speaking(order: Sequence[str], last: str | None) -> Iterator[str]:
    """Who speaks next, without end, after `last`; None: nobody has spoken.

    >>> from itertools import islice
    >>> list(islice(speaking(["tutor", "pupil", "parent"], "pupil"), 3))
    ['parent', 'tutor', 'pupil']
    """
    number = 0 if last is None else order.index(last) + 1
    while True:
        yield order[number % len(order)]
        number += 1


def as_values(turns: Sequence[Turn], speaker: str) -> list[dict[str, Any]]:
    """The dialogue for a template of `speaker`, who knows the acts of its own turns only."""
    return [
        {"speaker": t.speaker, "text": t.text, "act": t.act if t.speaker == speaker else None}
        for t in turns
    ]


def as_chat(
    turns: Sequence[Turn], speaker: str, act_tag: str | None = None, n_speakers: int = 2
) -> list[Message]:
    """The dialogue as a chat: the speaker's own turns are the assistant's, all others the user's.

    Turns of one role that follow each other are one message. The speaker's acts stand in its own
    turns as it wrote them. With more than two speakers the others' names stand before their turns.

    >>> said = [Turn("a", "One."), Turn("b", "Two."), Turn("c", "Three.")]
    >>> as_chat(said, "a", n_speakers=3)[1]
    {'role': 'user', 'content': 'b: Two.\\n\\nc: Three.'}
    """
    found: list[Message] = []
    for turn in turns:
        is_own = turn.speaker == speaker
        text = turn.text
        if is_own and act_tag is not None and turn.act is not None:
            text = f"<{act_tag}>{turn.act}</{act_tag}> {text}"
        elif not is_own and n_speakers > 2:
            text = f"{turn.speaker}: {text}"
        found.append({"role": "assistant" if is_own else "user", "content": text})
    return merged(found)


def merged(messages: Sequence[Message]) -> list[Message]:
    """Messages of one role that follow each other as one, as chat templates want it."""
    found: list[Message] = []
    for message in messages:
        if found and found[-1]["role"] == message["role"]:
            content = f"{found[-1]['content']}\n\n{message['content']}"
            found[-1] = {"role": message["role"], "content": content}
        else:
            found.append(message)
    return found


def times_said(turns: Sequence[Turn], said: Turn) -> int:
    """How often the speaker has said the same before, but for case and white space."""
    return sum(
        turn.speaker == said.speaker and _plain(turn.text) == _plain(said.text) for turn in turns
    )


def _plain(text: str) -> list[str]:
    return text.casefold().split()
