"""Read values out of text that a model wrote. Nothing here raises on what a model may write."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any


def read_tag(text: str, tag: str) -> str | None:
    """What stands in the first closed `<tag>…</tag>`, trimmed; None without one.

    A tag that is opened again before it is closed counts from its last opening: a model that
    speaks of the tag before it uses it means the second.

    >>> read_tag("3 + 4 = 7. <ans> 7 </ans> <ans>8</ans>", "ans")
    '7'
    """
    opening = f"<{tag}>"
    first = text.find(opening)
    end = text.find(f"</{tag}>", first) if first >= 0 else -1
    if end < 0:
        return None
    return text[text.rfind(opening, first, end) + len(opening) : end].strip()


def block_pattern(tag_pattern: str) -> re.Pattern[str]:
    """The regular expression that finds blocks whose tag's name matches `tag_pattern`.

    Raises:
        re.error: it is no regular expression.
    """
    return re.compile(
        rf"<(?P<tag_name>(?:{tag_pattern}))>(?P<block_text>.*?)</(?P=tag_name)>", re.DOTALL
    )


def read_blocks(text: str, tag_pattern: str) -> list[str]:
    """The contents of every `<tag>…</tag>` whose name matches the pattern, in order.

    A block that is not closed by its own name is not a block.
    """
    return [match.group("block_text") for match in block_pattern(tag_pattern).finditer(text)]


def read_groups(text: str, tag: str, before: Sequence[str]) -> list[dict[str, str | None]]:
    """Every filled `<tag>…</tag>` with what stands in other tags since the one before it, in order.

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
    """The named groups of the first match, trimmed; all None where nothing matches."""
    match = pattern.search(text)
    if match is None:
        return dict.fromkeys(pattern.groupindex)
    return {
        name: value.strip() if value is not None else None
        for name, value in match.groupdict().items()
    }


def read_json(text: str, keys: dict[str, str]) -> dict[str, str | None]:
    """Columns from the first JSON object in the text that has any of the keys.

    A value that is no text is spelled as JSON.
    """
    decoder = json.JSONDecoder()
    for match in re.finditer(r"\{", text):
        try:
            value, _ = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and any(key in value for key in keys.values()):
            return {column: _spell(value.get(key)) for column, key in keys.items()}
    return dict.fromkeys(keys)


def _spell(value: Any) -> str | None:
    if value is None:
        return None
    text = value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()  # "\\ud83d" alone is JSON, but no text
