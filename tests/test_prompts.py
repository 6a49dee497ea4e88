"""Templates that are invalid, or fail on a row's values."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_distill import prompts
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


@pytest.mark.parametrize(
    "text",
    [
        "{{ 2**(10**9) }}",
        "{{ 'a' * 10**9 }}",
        "{{ [1] * 10**9 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (10**9, 1) }}",
        "{{ '%1000000000d'|format(1) }}",
        "{{ 'x'|center(10**9) }}",
        "{{ 'x'.ljust(10**9) }}",
        "{% set r = range(99999) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_a_template_that_never_ends_is_stopped(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "MOST_SECONDS", 0.5)
    (tmp_path / "t.jinja").write_text(text)
    template = load_template(str(tmp_path / "t.jinja"))
    with pytest.raises(DataError, match=r"t\.jinja"):
        template.render({})


def test_arithmetic_stays(tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text(
        "{{ 2**10 }} {{ 3 * 4 }} {{ '-' * 3 }} {{ 7 % 4 }} {{ '%.2f%%' % 7.125 }} "
        "{{ '%05d'|format(3) }} {{ 'x'.ljust(3) }}|{{ 'x'|center(3) }}|"
    )
    rendered = load_template(str(tmp_path / "t.jinja")).render({})
    assert rendered == "1024 12 --- 3 7.12% 00003 x  | x |"


@pytest.mark.parametrize(
    ("text", "message"),
    [("{{ " + "(" * 5000, "nested too deeply"), ("x" * 1_000_001, "1,000,001 bytes")],
)
def test_a_template_that_cannot_be_read_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_template(str(tmp_path / "t.jinja"))


def test_a_template_is_looked_for_beside_and_further_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "teacher.jinja").write_text("{{ question }}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"did you mean 'mine/teacher\.jinja'\? allowed: mine/t"):
        load_template("mine/techer.jinja")
    monkeypatch.chdir(tmp_path / "mine")
    with pytest.raises(ConfigError, match=f"start it in {tmp_path}: paths are read from the"):
        load_template("mine/teacher.jinja")
