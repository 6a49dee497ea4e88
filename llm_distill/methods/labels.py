"""A list of labels, and which of them a model's answers give to a text. Pure.

list: [{name: sports, definition: "Matches, athletes, clubs"}, {name: arts, definition: "…"}]
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

import yaml

from llm_distill.errors import DataError

NOT_OF_A_NAME = re.compile(r"""^[\s"'`*_.,:;()\[\]-]+|[\s"'`*_.,:;()\[\]-]+$""")
"""What models put around a label."""
TAG = re.compile(r"<label>(.*?)</label>", re.DOTALL | re.IGNORECASE)
SEPARATOR = re.compile(r"[;\n]")
"""Between several labels: names may have commas."""
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
    labels = [_label(each, f"{place}, label {number}") for number, each in enumerate(raw, 1)]
    seen: dict[str, str] = {}
    for label in labels:
        before = seen.setdefault(plain(label.name), label.name)
        if before != label.name or sum(each.name == label.name for each in labels) > 1:
            raise DataError(
                f"{place}: '{before}' and '{label.name}' are one name to whoever reads an answer; "
                "rename one"
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
    return LabelEntry(name, str(entry.get("definition") or "").strip(), tuple(examples))


def plain(name: str) -> str:
    """As it is compared: case, white space, and quotes and stops around it do not matter.

    >>> plain('**"Arts and  Culture".**') == plain("arts and culture")
    True
    """
    return " ".join(NOT_OF_A_NAME.sub("", name).casefold().split())


def named_in(answer: str, names: Sequence[str]) -> str | None:
    """The label that an answer gives: what the last `<label>…</label>` says, or else all of it.

    Names are compared whole, so one may begin like another.

    Returns:
        The name as in the list; None for one that is not in it.
    """
    found = TAG.findall(answer)
    said = plain(found[-1] if found else answer)
    return next((name for name in names if plain(name) == said), None)


def all_named_in(answer: str, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The labels between `;` that an answer gives, in the list's order; and what is not in it."""
    found = TAG.findall(answer)
    said = [plain(each) for each in SEPARATOR.split(found[-1] if found else answer)]
    known = {plain(name): name for name in names}
    given = {known[each] for each in said if each in known}
    others = [each for each in said if each and each not in known]
    return [name for name in names if name in given], others


def shares(votes: Sequence[str], names: Sequence[str]) -> list[float]:
    """Of each name its share of the votes. Self-consistency's estimate of p(label | text).

    Raises:
        ValueError: there are no votes.
    """
    if not votes:
        raise ValueError("shares need at least one vote")
    counts = Counter(votes)
    return [counts[name] / len(votes) for name in names]


def likelihood_shares(logps: Sequence[float]) -> list[float]:
    """Softmax over the labels' log-probabilities: p(label) given that it is one of them.

    Args:
        logps: Of each label's whole text, its end included, so that no label is favoured for being
            the beginning of another.
    """
    highest = max(logps)
    weights = [exp(logp - highest) for logp in logps]
    total = sum(weights)
    return [weight / total for weight in weights]


def likeliest(probabilities: Sequence[float], names: Sequence[str]) -> tuple[str, float]:
    """The name with the highest probability, of equals the first, and that probability."""
    best = max(range(len(names)), key=probabilities.__getitem__)
    return names[best], probabilities[best]


def cut_to(text: str, n_words: int) -> str:
    """The first words of a text with the white space between them.

    >>> cut_to("one  two\\nthree four", 3)
    'one  two\\nthree'
    """
    match = re.match(rf"\s*(?:\S+\s+){{0,{n_words - 1}}}\S+", text)
    return text if match is None else match.group()


def as_variables(labels: Sequence[LabelEntry]) -> list[Mapping[str, Any]]:
    """For a template: `name`, `definition` and `examples` of each."""
    return [
        {"name": each.name, "definition": each.definition, "examples": list(each.examples)}
        for each in labels
    ]
