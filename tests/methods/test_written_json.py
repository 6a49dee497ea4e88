r"""What a model means by JSON that is not quite JSON, and numbers as they were written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_distill.methods.written_json import mended_json, objects, spelled


def first(text: str) -> dict[str, str | None]:
    found = next(objects(text))
    return {key: spelled(value) for key, value in found.items()}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"\frac{1}{2}", r"\frac{1}{2}"),
        (r"\\frac{1}{2}", r"\frac{1}{2}"),
        (r"\boxed{7}", r"\boxed{7}"),
        (r"\theta \times \rho \to \beta", r"\theta \times \rho \to \beta"),
        (r"x \neq \frac{1}{2} \right)", r"x \neq \frac{1}{2} \right)"),
        (r"$x \ne 2$", r"$x \ne 2$"),
        (r"\sqrt{2} \nu", r"\sqrt{2} \nu"),
        (r"\(x\)", r"\(x\)"),
        (r"\underline{a} and \u00e9", r"\underline{a} and é"),
        (r"one\ntwo\tthree \"four\" \/", 'one\ntwo\tthree "four" /'),
        (r"poi\ne poi", "poi\ne poi"),
        (r"a\rb\fc\bd", "a\rb\fc\bd"),
        ("line 1\nline 2\ttab", "line 1\nline 2\ttab"),
        (r"a backslash \\", "a backslash \\"),
        (r"C:\temp\new", "C:\temp\new"),
    ],
)
def test_strings_as_they_were_meant(written: str, meant: str) -> None:
    assert first(f'{{"a": "{written}", "b": "x"}}') == {"a": meant, "b": "x"}


@pytest.mark.parametrize(
    "number", ["1e3", "4.0", "12345678901234567890.123456789", "0", "-0", "1E-7", "0.10", "NaN"]
)
def test_numbers_stay_as_written(number: str) -> None:
    assert first(f'{{"a": {number}, "b": [{number}, {{"c": {number}}}]}}') == {
        "a": number,
        "b": f'[{number}, {{"c": {number}}}]',
    }


@pytest.mark.parametrize("text", ['{"a": "4",}', '{"a": "4" , }', 'So: {"b": [1, 2,], "a": "4"}.'])
def test_a_comma_too_many(text: str) -> None:
    assert first(text)["a"] == "4"


def test_quotes_before_the_object_need_not_be_in_pairs() -> None:
    assert first(r'A 5" pipe: {"a": "\frac{1}{2}", "b": ", }"}') == {
        "a": r"\frac{1}{2}",
        "b": ", }",
    }


def test_commas_and_braces_in_strings_stay() -> None:
    assert first('{"a": "x, } y,] z"}') == {"a": "x, } y,] z"}


# Without tabs and the like: before letters that make a command they are read as its backslash.
texts = st.text(alphabet="ab \\\"'n\né,{}[]:$")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=8,
)


@given(st.dictionaries(texts, json_values, min_size=1))
def test_json_that_is_right_stays_as_it_is(value: dict[str, object]) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        found = next(objects(text))
        assert {k: spelled(v) for k, v in found.items()} == {
            k: spelled(v if isinstance(v, str | None | bool) else _as_written(v))
            for k, v in value.items()
        }


def _as_written(value: object) -> object:
    """Integers are read as they stand, which is how `json.dumps` writes them."""
    return next(objects(json.dumps({"v": value})))["v"]


@given(st.text(alphabet='{}[]",:\\bfnrtu0 \n', max_size=40))
def test_nothing_raises(text: str) -> None:
    for found in objects(text):
        [spelled(value) for value in found.values()]
    assert mended_json(mended_json(text)) is not None
