"""Codebooks: what is refused, how answers are read, and what several annotators come to."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from llm_distill.errors import DataError
from llm_distill.methods.codebook import (
    empty_form,
    json_schema,
    majority,
    random_form,
    read_form,
    yes_or_no,
)
from llm_distill.rows.codebooks import read_codebook

RAW: dict[str, Any] = {
    "mistake": {"guess": "Answers without reason", "guess again": "The same once more", "none": ""},
    "faults": {"several": True, "labels": {"rude": "Is not polite", "too long": "Says too much"}},
}
BOOK = read_codebook(RAW, "the codebook")
MISTAKE, FAULTS = BOOK


def test_both_ways_to_write_a_field_with_several() -> None:
    short = read_codebook({"faults": {"several": True, "rude": "x", "long": "y"}}, "it")
    assert (short[0].names, short[0].several) == (["rude", "long"], True)
    assert (FAULTS.names, FAULTS.several, MISTAKE.several) == (["rude", "too long"], True, False)
    listed = read_codebook({"m": ["one", {"name": "two", "definition": "of it"}]}, "it")
    assert [label.definition for label in listed[0].labels] == ["", "of it"]
    named = read_codebook({"m": {"labels": "a label", "several": "another"}}, "it")
    assert named[0].names == ["labels", "several"]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({}, "it has no fields"),
        ({"m": {"guess": "x"}}, "it needs two labels or more"),
        ({"m": {"Guess": "x", "guess ": "y"}}, "'Guess' and 'guess' are one name"),
        ({"m": {"a": "The same.", "b": "the  same"}}, "'a' and 'b' have the same definition"),
        ({"strategy": {"a": "x", "b": "y"}}, "the column 'strategy' is something else"),
        ({"error": {"a": "x", "b": "y"}}, r"rename the field, such as own_error"),
        ({"annotations": {"a": "x", "b": "y"}}, "a part of the annotations"),
        ({"My field": {"a": "x", "b": "y"}}, "small letters, digits and _ only"),
        ({"m": {"a": 1, "b": "y"}}, "the definition of 'a' is text, not 1"),
        ({"m": {"labels": ["a", "b"], "severl": True}}, "unknown severl; allowed: definition, lab"),
        ({"m": "guess"}, "it needs two labels or more"),
    ],
)
def test_what_is_no_codebook(raw: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_codebook(raw, "the codebook")


def test_names_of_decisions_may_be_fields() -> None:
    names = ("mistake", "remedy", "intention")
    found = read_codebook({name: {"a": "x", "b": "y"} for name in names}, "it")
    assert tuple(each.name for each in found) == names


@pytest.mark.parametrize(
    ("answer", "labels", "unread"),
    [
        ('{"mistake": "guess", "faults": ["rude"]}', {"mistake": "guess", "faults": ["rude"]}, {}),
        ('Sure!\n```json\n{"Mistake": "GUESS AGAIN.", "faults": []}\n```',
         {"mistake": "guess again", "faults": []}, {}),
        ('<think>{"mistake": "none"}</think>{"mistake": "guess", "faults": "too long; rude"}',
         {"mistake": "guess", "faults": ["rude", "too long"]}, {}),
        ('The form is {"mistake": "…", "faults": ["…"]}. {"mistake": "none", "faults": []}',
         {"mistake": "none", "faults": []}, {}),
        ('{"mistake": "gues", "faults": ["rude"]}', {"faults": ["rude"]}, {"mistake": "gues"}),
        ('{"mistake": ["guess"], "faults": ["rude", "loud"]}', {"mistake": "guess"},
         {"faults": '["rude", "loud"]'}),
        ('{"mistake": "guess: no reason is given"}', None, None),
        ('{"mistake": null, "faults": null}', None, None),
        ("guess", None, None),
        ("", None, None),
    ],
)  # fmt: skip
def test_answers_are_read_whole_or_not_at_all(
    answer: str, labels: dict[str, Any] | None, unread: dict[str, str] | None
) -> None:
    form = read_form(answer, BOOK)
    if labels is None:
        assert form is None
    else:
        assert form is not None
        assert (form.labels, form.unread) == (labels, unread)


def test_the_schema_allows_what_is_read_and_the_form_shows_it() -> None:
    schema = json_schema(BOOK)
    assert schema["properties"]["mistake"] == {"type": "string", "enum": MISTAKE.names}
    assert schema["properties"]["faults"]["items"]["enum"] == ["rude", "too long"]
    assert schema["required"] == ["mistake", "faults"]
    assert empty_form(BOOK) == '{"mistake": "guess|guess again|none", "faults": ["…"]}'
    assert read_form(empty_form(BOOK), BOOK) is None


def test_chance_gives_every_label_as_often() -> None:
    forms = [random_form(BOOK, seed) for seed in range(600)]
    counts = Counter(form.labels["mistake"] for form in forms)  # type: ignore[arg-type]
    assert all(160 < counts[name] < 240 for name in MISTAKE.names)
    assert 250 < sum("rude" in form.labels["faults"] for form in forms) < 350
    assert random_form(BOOK, 3) == random_form(BOOK, 3)


def test_majorities_and_ties() -> None:
    assert majority(["none", "guess", "guess"], MISTAKE) == "guess"
    assert majority(["none", "guess"], MISTAKE) is None
    assert majority(["none", "none", "guess", "guess", "guess again"], MISTAKE) is None
    assert majority([], MISTAKE) is None
    assert majority([["rude"], ["too long", "rude"], []], FAULTS) == ["rude"]
    assert majority([["rude"], []], FAULTS) == []
    for said in (["none", "guess", "guess"], ["guess", "guess", "none"]):
        assert majority(said, MISTAKE) == "guess"  # whoever comes first


def test_labels_of_a_field_with_several_are_compared_one_by_one() -> None:
    assert yes_or_no(["guess", None], MISTAKE) == {"mistake": ["guess", None]}
    assert yes_or_no([["rude"], None, []], FAULTS) == {
        "faults: rude": ["yes", None, "no"],
        "faults: too long": ["no", None, "no"],
    }
