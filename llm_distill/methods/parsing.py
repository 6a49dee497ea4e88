"""Read values out of text that a model wrote. Nothing here raises, whatever the text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from llm_distill.methods.written_json import objects, spelled

BLANK_LINE = r"\n\s*\n"


def split_steps(text: str, separator: str = BLANK_LINE) -> list[str]:
    r"""The trimmed, non-blank pieces of a text between the matches of `separator`.

    A separator that matches between two characters cuts without losing text.

    >>> split_steps("3 + 4 = 7.\n\n7 + 2 = 9."), split_steps("1. Add. 2. Go.", r"(?= \d+\. )")
    (['3 + 4 = 7.', '7 + 2 = 9.'], ['1. Add.', '2. Go.'])
    """
    matches = list(re.finditer(separator, text))  # re.split would return the groups as well
    starts, ends = [0, *(m.end() for m in matches)], [*(m.start() for m in matches), len(text)]
    pieces = (text[start:end].strip() for start, end in zip(starts, ends, strict=True))
    return [piece for piece in pieces if piece]


def read_tag(text: str, tag: str, ended: bool = False) -> str | None:
    """The trimmed content of the first closed `<tag>…</tag>`; None if there is none.

    A tag that is opened again before it is closed counts from its last opening: a model that
    mentions the tag before it uses it means the second.

    Args:
        text: What a model wrote.
        tag: The tag's name.
        ended: The model ended by itself, or at a stop string, which may be the closing tag: an
            open tag counts up to the end.

    >>> read_tag("3 + 4 = 7. <ans> 7 </ans> <ans>8</ans>", "ans")
    '7'
    """
    opening = f"<{tag}>"
    first = text.find(opening)
    end = text.find(f"</{tag}>", first) if first >= 0 else -1
    if end < 0 and ended and first >= 0:
        end = len(text)
    if end < 0:
        return None
    return text[text.rfind(opening, first, end) + len(opening) : end].strip()


def block_pattern(tag_pattern: str) -> re.Pattern[str]:
    """The regular expression that finds blocks whose tag's name matches `tag_pattern`."""
    return re.compile(
        rf"<(?P<tag_name>(?:{tag_pattern}))>(?P<block_text>.*?)</(?P=tag_name)>", re.DOTALL
    )


def read_blocks(text: str, tag_pattern: str) -> list[str]:
    """The contents of every `<tag>…</tag>` whose name matches the pattern, in order."""
    return [match.group("block_text") for match in block_pattern(tag_pattern).finditer(text)]


def read_groups(text: str, tag: str, before: Sequence[str]) -> list[dict[str, str | None]]:
    """Every non-empty `<tag>…</tag>` with the tags in `before` that precede it, in order.

    >>> read_groups("<why>x</why><q>1?</q> <q>2?</q>", "q", ["why"])
    [{'why': 'x', 'q': '1?'}, {'why': None, 'q': '2?'}]
    """
    closing = f"</{tag}>"
    found = []
    for part in text.split(closing)[:-1]:
        value = read_tag(part + closing, tag)
        if value:
            ahead = part[: part.rfind(f"<{tag}>")]
            found.append({**{name: read_tag(ahead, name) or None for name in before}, tag: value})
    return found


def read_pattern(text: str, pattern: re.Pattern[str]) -> dict[str, str | None]:
    """The named groups of the first match, trimmed; all None if nothing matches."""
    match = pattern.search(text)
    if match is None:
        return dict.fromkeys(pattern.groupindex)
    return {
        name: value.strip() if value is not None else None
        for name, value in match.groupdict().items()
    }


def read_json(text: str, keys: dict[str, str]) -> dict[str, str | None]:
    """Columns from the first JSON object in the text that has any of the keys.

    A value that is not text is written as JSON, numbers as the model wrote them.
    """
    for found in objects(text):
        if any(key in found for key in keys.values()):
            return {column: spelled(found.get(key)) for column, key in keys.items()}
    return dict.fromkeys(keys)
