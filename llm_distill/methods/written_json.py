r"""JSON as models write it: LaTeX in its strings, raw line breaks, a comma too many. Pure.

`{"answer": "\frac{1}{2}"}` is JSON to the letter, with a form feed in it and "rac". No one means
that: an escape that begins the name of a LaTeX command is a backslash. Numbers stay as written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

# Commands of LaTeX that begin like one of JSON's escapes. Those in \n could also be a line break
# and a word (`\ne`, `\nu`), so they count only in a string that has other LaTeX.
_COMMANDS = re.compile(
    r"(?:"
    r"b(?:oxed|egin|eta|inom|ar|f|igl?|igr|ot|ullet|mod|m|ecause|ackslash|lacksquare|oldsymbol)"
    r"|f(?:rac|box|orall|lat|rown|loor)"
    r"|t(?:heta|imes|ext(?:bf|it|rm|tt|sf)?|frac|an|anh|au|o|ilde|riangle\w*|op|herefore|fr)"
    r"|r(?:ight\w*|ho|angle|ceil|floor|m|vert)"
    r"|u(?:nder(?:line|brace|set)|psilon|parrow|plus|nit)"
    r")(?![A-Za-z])"
)
_COMMANDS_IN_N = re.compile(
    r"n(?:abla|eq?|eg|u|ot(?:in)?|i|leq|geq|mid|sim|exists|atural|parallel|earrow|warrow)"
    r"(?![A-Za-z])"
)
_OTHER_LATEX = re.compile(r"\$|\\\\?(?:[A-Zac-eg-mo-qsv-z][A-Za-z]+|[(\[{}])|\^\{|_\{")
_OBJECT = re.compile(r'\{(?=\s*["}])')  # not the braces of LaTeX
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_UNICODE = re.compile(r"u[0-9a-fA-F]{4}")


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


def objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in a text, from its first brace on; objects within objects come after."""
    decoder = json.JSONDecoder(
        parse_float=_Number, parse_int=_Number, parse_constant=_Number, strict=False
    )
    for match in _OBJECT.finditer(text):
        # From here on, since quotes before it need not be in pairs.
        mended = mended_json(text[match.start() :])
        try:
            value, _ = decoder.raw_decode(mended)
        except (ValueError, RecursionError):
            continue
        yield value


def spelled(value: Any) -> str | None:
    """A value as a column's text: text trimmed, a number as written, anything else as JSON."""
    if value is None:
        return None
    text = value.strip() if isinstance(value, str) else _dumped(value)
    return text.encode("utf-8", "replace").decode()  # "\\ud83d" alone is JSON, but not text


def mended_json(text: str) -> str:
    r"""The text with its JSON strings as they were meant.

    >>> print(mended_json(r'{"a": "\frac{1}{2}", "b": "x\ny",}'))
    {"a": "\\frac{1}{2}", "b": "x\ny"}
    """
    parts, end = [], 0
    for match in _STRING.finditer(text):
        parts.append(_TRAILING_COMMA.sub(r"\1", text[end : match.start()]))
        parts.append(_mended_string(match[0]))
        end = match.end()
    parts.append(_TRAILING_COMMA.sub(r"\1", text[end:]))
    return "".join(parts)


def _mended_string(quoted: str) -> str:
    if "\\" not in quoted:
        return quoted
    has_latex = _OTHER_LATEX.search(quoted) is not None or any(
        _COMMANDS.match(quoted, match.start(1)) for match in _ESCAPE.finditer(quoted)
    )

    def meant(match: re.Match[str]) -> str:
        sign, at = match[1], match.start(1)
        is_command = _COMMANDS.match(quoted, at) or (has_latex and _COMMANDS_IN_N.match(quoted, at))
        is_escape = sign in '"\\/bfnrt' or (sign == "u" and _UNICODE.match(quoted, at))
        return match[0] if is_escape and not is_command else f"\\\\{sign}"

    return _ESCAPE.sub(meant, quoted)


def _dumped(value: Any) -> str:
    """As `json.dumps` writes it, but for numbers."""
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        inner = ", ".join(f"{_dumped(str(k))}: {_dumped(v)}" for k, v in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_dumped, value))}]"
    return json.dumps(value, ensure_ascii=False)
