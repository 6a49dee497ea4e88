"""In which declared fields a student's turn differs from an expert's, both JSON objects.

Sonkar et al. 2024, "Pedagogical Alignment of Large Language Models" (arXiv 2402.05000): a pair is
made where a student's turn cannot be read, or lacks a field, or has another evaluation, action or
state than the expert's, in this order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llm_distill.methods.written_json import objects, spelled
from llm_distill.rows.thoughts import split_thoughts

UNREADABLE, MISSING = "unreadable", "missing"
OF_FORM = (UNREADABLE, MISSING)
"""Mismatches that say nothing of what was decided."""

Fields = Mapping[str, str | None]


def fields_of(text: str, names: Sequence[str]) -> dict[str, str | None] | None:
    """The fields of the first JSON object in a text that has any of them; None without an object.

    A field that is not there, null or blank is None. JSON is read as leniently as `parse` reads it:
    a comma too many does not make a turn unreadable. What a model thinks before is not its turn.
    """
    found = list(objects(split_thoughts(text)[1]))
    if not found:
        return None
    of = next((each for each in found if any(name in each for name in names)), found[0])
    return {name: _plain(spelled(of.get(name))) for name in names}


def mismatches(expert: Fields, own: Fields | None, names: Sequence[str]) -> list[str]:
    """What differs, in the order in which it counts: `unreadable`, `missing`, then fields.

    Args:
        expert: its fields, none of them None.
        own: the student's; None where they cannot be read.

    Returns:
        [] where all are equal; the first is the kind of the pair. Of a turn in which a field is
        missing, also the fields that are there and differ.
    """
    if own is None:
        return [UNREADABLE]
    missing = [MISSING] if any(own[name] is None for name in names) else []
    differ = [name for name in names if own[name] is not None and own[name] != expert[name]]
    return [*missing, *differ]


def _plain(text: str | None) -> str | None:
    """Without case and spacing."""
    return " ".join(text.casefold().split()) or None if text is not None else None
