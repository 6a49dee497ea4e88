"""What a model thinks before it answers, apart from the answer. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection

TAGS = ("think", "thinking")
"""Not the tags that people ask a model for, such as <reasoning>."""

_TAGS = "|".join(TAGS)
_BLOCK = re.compile(
    rf"<(?P<tag>{_TAGS})>(?P<thought>.*?)(?:</(?P=tag)>|\Z)", re.DOTALL | re.IGNORECASE
)
_OPENED = re.compile(rf"(<(?:{_TAGS})>)\s*\Z", re.IGNORECASE)
_OPEN = re.compile(rf"<(?:{_TAGS})>", re.IGNORECASE)
_END = re.compile(rf"</(?:{_TAGS})>", re.IGNORECASE)
_TAG = re.compile(rf"<(/?)({_TAGS})>", re.IGNORECASE)


def opened_thought(prompt: str) -> str:
    """The tag that a prompt ends with, where it leaves the model in the middle of a thought.

    >>> opened_thought("<|assistant|>\\n<think>\\n"), opened_thought("Use <think> tags.")
    ('<think>', '')
    """
    match = _OPENED.search(prompt)
    return match.group(1) if match else ""


def still_open(text: str, opened: str = "") -> str:
    """The opening tag of the thought in the middle of which a text ends, or none.

    opened: the tag of the thought in the middle of which it begins.

    >>> still_open("So <think> 2 + 2"), still_open("is 4.</think> 4", "<think>")
    ('<think>', '')
    """
    for tag in _TAG.finditer(text):
        if not opened and not tag[1]:
            opened = tag[0]
        elif opened and tag[1] and tag[2].casefold() == opened[1:-1].casefold():
            opened = ""
    return opened


def tag_of(chat_template: str, vocabulary: Collection[str]) -> str:
    """The name of the tag in which a model thinks: its vocabulary or its template has it.

    >>> tag_of("{{ '<thinking>' }}", {"<s>", "</s>"}), tag_of("", {"<s>"})
    ('thinking', 'think')
    """
    known = (tag for tag in TAGS if f"</{tag}>" in vocabulary or f"<{tag}>" in chat_template)
    return next(known, TAGS[0])


def leading_thought(text: str) -> tuple[str | None, str]:
    """As `split_thoughts`, of a text that somebody has written down: it may speak of the tags.

    A thought stands at the beginning, and it has its closing tag.

    >>> leading_thought("Models open with <think> first.")
    (None, 'Models open with <think> first.')
    """
    end, opened = _END.search(text), _OPEN.search(text)
    if end is None or (opened is not None and text[: opened.start()].strip()):
        return None, text
    return split_thoughts(text)


def split_thoughts(text: str) -> tuple[str | None, str]:
    """(reasoning, answer) of what a model wrote.

    `<think>…</think>`, also without its opening tag, which many chat templates put into the prompt,
    and without its closing one, where the model was cut off. Several thoughts are joined.

    Returns:
        None and the text as it is where it has no thoughts; else both trimmed, the reasoning None
        where it is empty.

    >>> split_thoughts("<think>2 + 2 is 4.</think> It is 4.")
    ('2 + 2 is 4.', 'It is 4.')
    """
    end = _END.search(text)
    opened = _BLOCK.search(text)
    if end is None and opened is None:
        return None, text
    thoughts = []
    rest = text
    if end is not None and (opened is None or end.start() < opened.start()):
        thoughts.append(text[: end.start()])
        rest = text[end.end() :]
    thoughts += [match["thought"] for match in _BLOCK.finditer(rest)]
    answer = _END.sub("", _BLOCK.sub("", rest)).strip()
    found = "\n\n".join(thought.strip() for thought in thoughts if thought.strip())
    return found or None, answer
