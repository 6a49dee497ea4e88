"""Exit codes are documented, and are what the command line gives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_distill.errors import EXIT_CODES, LLMDistillError

PAGE = Path(__file__).parents[2] / "docs" / "following-along.md"
TOY = """\
name: toy
models:
  teacher:
    model_name_or_path: x
    engine: {kind: openai, base_url: "http://localhost:9/v1", api_key_env: TOY_KEY}
stages:
  numbers: {stage: toy_rows, n: 2}
  answers: {stage: toy_map, rows: numbers}
  texts: {stage: generate, rows: answers, model: teacher, template: ask.jinja}
"""


def kinds(error: type[LLMDistillError]) -> Iterator[type[LLMDistillError]]:
    for kind in error.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_every_errors_code_is_in_the_table() -> None:
    import llm_distill.cli.main
    import llm_distill.cli.run  # noqa: F401  (with it, all that define errors)

    codes = {kind.__name__: kind.exit_code for kind in kinds(LLMDistillError)}
    assert codes["BudgetError"] == 6
    assert set(codes.values()) <= set(EXIT_CODES)
    assert {0, 1, 130} <= set(EXIT_CODES)
    assert set(EXIT_CODES) - {0, 1, 130} == set(codes.values())


def test_the_page_and_the_help_have_the_table(cli: Any) -> None:
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", PAGE.read_text(), re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == EXIT_CODES
    shown = cli("--help").out
    for code, meaning in EXIT_CODES.items():
        assert f" {code}  {meaning}" in shown


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("validate toy.yaml", 0),
        ("run toy.yaml --workspace w --until answers", 0),
        ("run toy.yaml --workspace w --log-format xml", 2),
        ("validate toy.yaml --set stages.numbers.n=-1", 2),
        ("run toy.yaml --workspace w --until answers --set stages.numbers.n=0", 3),
        ("run toy.yaml --workspace w", 4),  # what should be a key is none
        ("status --workspace nowhere", 5),
        ("run toy.yaml --workspace w --until answers --set stages.numbers.error=interrupt", 130),
    ],
)
def test_codes_of_commands(
    bench: Any, cli: Any, command: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 is in tests/test_cli.py, 6 in test_served_models.py: they need a process and a server."""
    folder = bench(TOY).file.parent
    monkeypatch.chdir(folder)
    (folder / "ask.jinja").write_text("{{ question }}")
    monkeypatch.setenv("TOY_KEY", "no\tkey")
    assert cli(*command.split()).code == code
