"""What to do about text that is not YAML: the parser says where it stopped, not what is wrong."""

from __future__ import annotations

import re

import yaml

from llm_distill.errors import counted, quoted

_KEY = re.compile(r"""\s*(?:- )?(?:"[^"]*"|'[^']*'|[^\s#:{}\[\]'"][^#:]*):(?P<value>\s.*)?$""")
_NO_SPACE = re.compile(r"\s*[\w-]+:[^\s/]")
"""A name and a value with nothing between them; `//` would be an address."""


def hint(text: str, error: yaml.MarkedYAMLError) -> str:
    """The end of a message, or nothing where no common mistake is recognised."""
    lines = text.split("\n")
    mark, begun = error.problem_mark or error.context_mark, error.context_mark
    number = mark.line if mark else 0
    line = lines[number] if number < len(lines) else ""
    if "\t" in line:
        return "; the line has a tab: indent with spaces"
    problem, context = str(error.problem), str(error.context)
    if begun is not None and "quoted scalar" in context:
        return f"; the quote that opens in line {begun.line + 1} is not closed"
    if begun is not None and "flow" in context:
        if "${" in line:
            return '; put quotes around "${…}" inside {…} and […]'
        what = "the { or [" if number == begun.line else f"the {{ or [ of line {begun.line + 1}"
        return f"; {what} is not closed, or a comma is missing between its parts"
    if "${" in line:
        return '; put quotes around "${…}" inside {…} and […]'
    if "could not find expected ':'" in problem and begun is not None:
        return _no_colon(lines[begun.line], begun.line)
    if "mapping values are not allowed" in problem:
        return _too_deep(lines, number)
    if "expected key" in problem or "expected <block end>" in problem:
        return _no_such_level(lines, number)
    return ""


def _no_colon(line: str, number: int) -> str:
    if _NO_SPACE.match(line):
        return (
            f"; line {number + 1}, {quoted(line.strip())}, has no space after its colon: "
            "write name: value"
        )
    return f"; line {number + 1}, {quoted(line.strip())}, has no colon: write name: value"


def _too_deep(lines: list[str], number: int) -> str:
    """A second colon in a line, or a line that is deeper than one that has its value already."""
    line = lines[number]
    key = _KEY.match(line)
    value = (key["value"] or "").strip() if key else ""
    if ": " in value and value[0] not in "\"'{[":
        return f"; put quotes around a value that has a colon: {quoted(value)}"
    above = _above(lines, number)
    if above is None:
        return ""
    deep, before = _indent(line), _indent(lines[above])
    name = f"line {above + 1}, {quoted(lines[above].strip())},"
    if _KEY.match(lines[above]) is None:
        return f"; {_no_colon(lines[above], above).removeprefix('; ')}"
    if deep > before:
        spaces = counted(deep, "space")
        return (
            f"; it is indented by {spaces} and {name} by {before}, which has its value "
            "already: indent both alike, as what belongs to one stage is"
        )
    return ""


def _no_such_level(lines: list[str], number: int) -> str:
    """A line that is indented as far as none of those that it could belong to."""
    deep, least, levels = _indent(lines[number]), None, []
    for line in reversed(lines[:number]):
        own = _indent(line)
        if (
            not line.strip()
            or line.lstrip().startswith("#")
            or (least is not None and own >= least)
        ):
            continue
        least = own
        levels.append(own)
    if deep in levels or not levels:
        return ""
    allowed = " or ".join(map(str, sorted(levels)))
    spaces = counted(deep, "space")
    return f"; it is indented by {spaces}, and the lines above by {allowed}: indent it as one"


def _above(lines: list[str], number: int) -> int | None:
    """The last line before that has more than a comment."""
    for index in range(number - 1, -1, -1):
        if lines[index].strip() and not lines[index].lstrip().startswith("#"):
            return index
    return None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))
