"""Templates that are invalid, or fail on a row's values."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_distill.errors import ConfigError, DataError
from llm_distill.prompts import load_template


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"one\ntwo \xff", r"t\.jinja:2: not UTF-8"),
        (b"one\n{% if %}", r"t\.jinja:2: Expected an expression"),
        (b"{% include 'other.jinja' %}", "include, import and extends are not allowed"),
        (b"{% extends 'other.jinja' %}", "include, import and extends are not allowed"),
        (b"{% from 'other.jinja' import x %}", "include, import and extends are not allowed"),
    ],
)
def test_invalid_templates(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "t.jinja"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_template(str(path))


@pytest.mark.parametrize(
    "text",
    [
        "{{ 1 / (n - n) }}",
        "{{ question + 1 }}",
        "{{ range(99999999999) }}",
        "{{ question.missing.more }}",
        "{{ nothing }}",
        "{{ question.__class__.__mro__ }}",
    ],
)
def test_a_template_that_fails_on_a_rows_values_is_bad_data(text: str, tmp_path: Path) -> None:
    path = tmp_path / "t.jinja"
    path.write_text(text)
    with pytest.raises(DataError, match=r"template .*t\.jinja: .*; it was given: n, question"):
        load_template(str(path)).render({"question": "Why?", "n": 3})
