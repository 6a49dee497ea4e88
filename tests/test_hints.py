"""Commands that messages show: each is a whole one, whatever the names in it."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import llm_distill
from llm_distill.cli.main import app
from llm_distill.hints import GIVEN, THIS_STAGE, Given, hint, with_stage

PACKAGE = Path(llm_distill.__file__).parent
TOY = """\
name: toy
profiles: {small: {stages: {numbers: {n: 6}}}}
stages:
  numbers: {stage: toy_rows, n: 4}
  few: {stage: select, rows: numbers, n: 3, order: first}
  answers: {stage: toy_map, rows: few, drop_odd: true}
"""
ODD = Given("my pipelines/it's $HOME.yaml", "small", ("name=a b",), "a work space")


def parse(words: Sequence[str]) -> None:
    """As the command line does; raises where it would refuse them."""
    group: Any = get_command(app)
    name, command, rest = group.resolve_command(None, list(words))
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(None, rest)
    command.make_context(name, list(rest))


@pytest.mark.parametrize(
    ("given", "words", "of_file", "shown"),
    [
        (Given("p.yaml", workspace="data"), ["status", "arte/1"], False, ["status", "arte/1"]),
        (Given(), ["cache", "verify", "--repair"], False, ["cache", "verify", "--repair"]),
        (
            ODD,
            ["run", "--until", "drafts"],
            True,
            shlex.split(f"run {shlex.quote(str(ODD.file))} --profile small --set 'name=a b'")
            + shlex.split("--until drafts --workspace 'a work space'"),
        ),
    ],
)
def test_a_command_is_quoted_for_the_shell_and_parses(
    given: Given, words: list[str], of_file: bool, shown: list[str]
) -> None:
    line = shlex.split(given.command(*words, of_file=of_file))
    assert line == ["llm-distill", *shown]
    parse(line[1:])


def test_a_stage_that_fails_can_name_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GIVEN, "")
    ODD.remember()
    message = f"a row is altered: {hint('preview', '--tokens', THIS_STAGE, of_file=True)}"
    words = shlex.split(with_stage(message, "trained@2").partition(": ")[2])
    assert words[words.index("--tokens") + 1] == "trained@2"
    parse(words[1:])


def run_hints(out: str) -> list[list[str]]:
    """All commands in the output of one, each to the end of its line."""
    return [shlex.split(found) for found in re.findall(r"\bllm-distill ([a-z].*)$", out, re.M)]


def test_what_is_printed_works_when_pasted(
    tmp_path: Path, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my files").mkdir()
    (tmp_path / "my files" / "toy one.yaml").write_text(TOY)
    where = ("--workspace", "a work space")
    given = (
        "my files/toy one.yaml",
        "--profile",
        "small",
        "--set",
        "stages.answers.drop_odd=false",
    )
    ran = cli("run", *given, *where)
    assert ran.code == 0, ran.err
    (status,) = run_hints(ran.out)
    assert status[0] == "status"
    again = cli(*status)
    assert (again.code, "3 stages run" in again.out) == (0, True)

    stop = ("--set", "stages.numbers.n=5", "--set", "stages.numbers.error=interrupt")
    stopped = cli("run", *given, *where, *stop)
    assert stopped.code == 130
    (go_on,) = run_hints(stopped.out)
    at = go_on.index(stop[3])
    mended = cli(*go_on[: at - 1], *go_on[at + 1 :])
    assert (mended.code, "in all:" in mended.out) == (0, True)

    share = ("--set", "stages.few.n=9", "--set", "stages.few.min_share=0.9")
    few = cli("run", *given, *where, *share)
    assert few.code == 3
    assert [words[0] for words in run_hints(few.out + few.err)] == ["run", "status"]
    for said in (few, cli("stages")):
        for words in run_hints(said.out + said.err):
            parse(words)
            if words[0] != "run":
                assert cli(*words).code == 0, words


def strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The texts of a module that are not docstrings."""
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) not in bare and isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def test_no_message_writes_a_command_by_hand() -> None:
    commands = "|".join(get_command(app).commands)  # type: ignore[attr-defined]
    found = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, text in strings(ast.parse(path.read_text()))
        if re.search(rf"llm-distill ({commands})\b", text)
    ]
    assert not found
