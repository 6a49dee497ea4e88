"""What annotators say by a codebook: how it is asked, read, drawn at random and combined. Pure."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_distill.methods.labels import SEPARATOR
from llm_distill.methods.written_json import objects, spelled
from llm_distill.rows.codebooks import CodebookField
from llm_distill.rows.label_lists import plain
from llm_distill.rows.thoughts import split_thoughts

Codebook = Sequence[CodebookField]
Said = str | list[str]
"""A label; of a field with several, a list of them in the codebook's order."""


@dataclass(frozen=True)
class Form:
    """What one annotator says of one row.

    labels: by field; a field that cannot be read is missing. unread: what stands there instead.
    """

    labels: Mapping[str, Said]
    unread: Mapping[str, str] = field(default_factory=dict)


def json_schema(codebook: Codebook) -> dict[str, Any]:
    """The JSON Schema of an answer, for constrained decoding."""
    properties = {}
    for each in codebook:
        label = {"type": "string", "enum": each.names}
        properties[each.name] = {"type": "array", "items": label} if each.several else label
    names = [each.name for each in codebook]
    return {
        "type": "object",
        "properties": properties,
        "required": names,
        "additionalProperties": False,
    }


def empty_form(codebook: Codebook) -> str:
    """How an answer looks, for a prompt: `{"mistake": "guess|misread", "faults": ["…"]}`.

    A model of half a billion parameters wrote no JSON where the form had dots for one label too.
    """
    shape = {each.name: ["…"] if each.several else "|".join(each.names) for each in codebook}
    return json.dumps(shape, ensure_ascii=False)


def as_variables(codebook: Codebook) -> list[Mapping[str, Any]]:
    """For a template: `name`, `definition`, `several` and `labels` of each field."""
    return [
        {
            "name": each.name,
            "definition": each.definition,
            "several": each.several,
            "labels": [{"name": one.name, "definition": one.definition} for one in each.labels],
        }
        for each in codebook
    ]


def read_form(answer: str, codebook: Codebook) -> Form | None:
    """The labels in an answer's JSON; None where no field can be read.

    Of several objects the one with the most fields counts, of those the last: a model that quotes
    the form does so before it fills it in. Fields and labels are compared whole, whatever their
    case, so one label may begin like another; what is not a label of the field is none.
    """
    wanted = {plain(each.name): each for each in codebook}
    best: dict[str, Any] = {}
    for found in objects(split_thoughts(answer)[1]):
        there = {plain(key): value for key, value in found.items() if plain(key) in wanted}
        if len(there) >= len(best):
            best = there
    labels: dict[str, Said] = {}
    unread: dict[str, str] = {}
    for key, each in wanted.items():
        said = _labels(best.get(key), each)
        if said is None:
            unread[each.name] = (spelled(best.get(key)) or "nothing")[:60]
        else:
            labels[each.name] = said
    return Form(labels, unread) if labels else None


def _labels(value: Any, of: CodebookField) -> Said | None:
    names = {plain(name): name for name in of.names}
    if not of.several:
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        return names.get(plain(value)) if isinstance(value, str) else None
    if isinstance(value, str):
        value = [value] if plain(value) in names else SEPARATOR.split(value)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        return None
    said = {plain(each) for each in value if plain(each)}
    return [name for key, name in names.items() if key in said] if said <= names.keys() else None


def random_form(codebook: Codebook, seed: int) -> Form:
    """Labels that are all as likely: a control. Of a field with several each label by a coin."""
    draw = random.Random(seed)
    found: dict[str, Said] = {}
    for each in codebook:
        if each.several:
            found[each.name] = [name for name in each.names if draw.random() < 0.5]
        else:
            found[each.name] = draw.choice(each.names)
    return Form(found)


def majority(said: Sequence[Said], of: CodebookField) -> Said | None:
    """What most annotators say of a field; None for a tie, or where none says anything.

    One label has to be named more often than every other. Of a field with several each label is
    decided by itself: more than half of the annotators have to name it.
    """
    if not said:
        return None
    if of.several:
        counts = Counter(name for each in said for name in each)
        return [name for name in of.names if 2 * counts[name] > len(said)]
    (most, votes), *others = Counter(map(str, said)).most_common()
    return None if others and others[0][1] == votes else most


def yes_or_no(said: Sequence[Said | None], of: CodebookField) -> dict[str, list[str | None]]:
    """An annotator's labels of a field as agreement compares them, by what they are labels of.

    One label a row stays as it is; of several each label is a question of yes or no.
    """
    if not of.several:
        return {of.name: [None if each is None else str(each) for each in said]}
    return {
        f"{of.name}: {name}": [
            None if each is None else "yes" if name in each else "no" for each in said
        ]
        for name in of.names
    }
