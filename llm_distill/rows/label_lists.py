"""Lists of labels, in files that a user has written.

[{name: sports, definition: "Matches, athletes, clubs"}, {name: arts, examples: [A new opera.]}]
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from llm_distill.errors import DataError, few
from llm_distill.rows.user_lists import list_text

_AROUND = r"""[\s"'`*_.,:;()\[\]«»„“”‘’‚‹›。、「」『』《》-]+"""
NOT_OF_A_NAME = re.compile(f"^{_AROUND}|{_AROUND}$")
"""What models put around a label."""
KEYS = {"name", "definition", "examples"}


@dataclass(frozen=True)
class LabelEntry:
    """A label as the teacher is told of it."""

    name: str
    definition: str = ""
    examples: tuple[str, ...] = ()


def read_labels(text: str, place: str) -> list[LabelEntry]:
    """Labels from YAML: names, or mappings with name, definition and examples.

    Args:
        text: The file's text.
        place: Where it is, for messages.

    Raises:
        DataError: it is no such list, has fewer than two labels, or two of the same name.
    """
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f"{place} is not valid YAML: {error}") from error
    if not isinstance(raw, list) or len(raw) < 2:
        raise DataError(
            f"{place}: a list of two labels or more is needed: names, or {{name: …, definition: …}}"
        )
    return checked_labels(raw, place)


def checked_labels(raw: Sequence[Any], place: str) -> list[LabelEntry]:
    """Labels from what stands in YAML, that can be told apart.

    Args:
        raw: Names, or mappings with name, definition and examples.
        place: Where they are, for messages.

    Raises:
        DataError: one is no label, or two have the same name or the same definition.
    """
    labels = [_label(each, f"{place}, label {number}") for number, each in enumerate(raw, 1)]
    seen: dict[str, str] = {}
    meant: dict[str, str] = {}
    for label in labels:
        before = seen.setdefault(plain(label.name), label.name)
        if before != label.name or sum(each.name == label.name for each in labels) > 1:
            raise DataError(
                f"{place}: '{before}' and '{label.name}' are one name to whoever reads an answer; "
                "rename one"
            )
        means = plain(label.definition)
        if means and meant.setdefault(means, label.name) != label.name:
            raise DataError(
                f"{place}: '{meant[means]}' and '{label.name}' have the same definition, so nobody "
                "can tell them apart; write what differs, or leave one out"
            )
    return labels


def _label(raw: Any, place: str) -> LabelEntry:
    entry = {"name": raw} if isinstance(raw, str) else raw
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        said = " (in quotes, if YAML takes it for something else)" if raw is not None else ""
        raise DataError(f"{place}: needs a name, as text{said}; found {raw!r}")
    unknown = sorted(str(key) for key in entry.keys() - KEYS)
    if unknown:
        raise DataError(
            f"{place}: unknown {', '.join(unknown)}; allowed: {', '.join(sorted(KEYS))}"
        )
    name, examples = entry["name"].strip(), entry.get("examples") or []
    if not plain(name):
        raise DataError(f"{place}: the name {entry['name']!r} has no letter")
    if re.search(r"[<>\n;]", name):
        raise DataError(f"{place}: the name {name!r} has one of < > ; or a line break")
    if not isinstance(examples, list) or not all(isinstance(each, str) for each in examples):
        raise DataError(f"{place}: examples is a list of texts; found {examples!r}")
    definition = entry.get("definition", name)
    if not isinstance(definition, str) or not definition.strip():
        raise DataError(
            f"{place}: the definition of '{name}' is {definition!r}; write what the label means, "
            "or leave `definition` out"
        )
    return LabelEntry(name, entry.get("definition", "").strip(), tuple(examples))


def plain(name: str) -> str:
    """As it is compared: case, white space, and quotes and stops around it do not matter, nor how a
    letter with an accent is encoded.

    >>> plain('**"Arts and  Culture".**') == plain("arts and culture")
    True
    """
    shown = unicodedata.normalize("NFC", name)
    return " ".join(NOT_OF_A_NAME.sub("", shown).casefold().split())


def spelled_alike(labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Labels that are one to whoever reads them, and two as they are written.

    >>> spelled_alike(["Courts ", "courts", "rail"])
    [('Courts ', 'courts')]
    """
    groups: dict[str, set[str]] = {}
    for label in labels:
        groups.setdefault(plain(label), set()).add(label)
    return [tuple(sorted(each)) for each in groups.values() if len(each) > 1]


def said_alike(labels: Iterable[str]) -> str | None:
    """The same in words; None where there are none."""
    found = spelled_alike(labels)
    if not found:
        return None
    shown = few([" and ".join(map(repr, each)) for each in found])
    return f"labels that differ in case, space or stops alone count as different ones: {shown}"


def listed_labels(path: str) -> list[LabelEntry]:
    """The labels of a YAML file.

    Raises:
        DataError: it is not there or is no list of labels.
    """
    return read_labels(*list_text(path))
