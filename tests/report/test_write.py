"""When and where a report is written, and that its failure does not affect a run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_distill.report import write

Cli = Callable[..., tuple[int, str, str]]

TOY = """\
name: toy
stages:
  numbers: {stage: toy_rows, n: 4}
  answers: {stage: toy_map, rows: numbers, drop_odd: true}
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(TOY)
    return path


def _named(out: str) -> list[str]:
    return re.findall(r"^report: (\S+\.html)", out, re.MULTILINE)


def test_a_run_ends_by_naming_its_report(toy: Path, cli: Cli) -> None:
    code, out, _ = cli("run", toy)
    (path,) = _named(out)
    assert code == 0
    assert out.splitlines()[-1].startswith("report: ")
    page = Path(path).read_text()
    assert "QUESTION 2" in page
    assert "2 dropped" in page


def test_a_run_that_changes_nothing_names_the_report_that_there_is(toy: Path, cli: Cli) -> None:
    first = _named(cli("run", toy)[1])
    again = cli("run", toy)[1]
    assert _named(again) == first
    assert "nothing has changed" in again
    assert _named(cli("run", toy, "--set", "stages.numbers.pause=0.001")[1]) != first
    Path(first[0]).unlink()
    assert _named(cli("run", toy)[1]) != first


def test_a_failed_run_has_a_report_if_there_is_something_to_show(toy: Path, cli: Cli) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        cli("run", toy, "--set", "stages.numbers.error=crash")
    assert not list(Path("data").rglob("report.html"))
    code, out, err = cli(
        "run", toy, "--set", "stages.answers.column=id", "--set", "stages.numbers.n=0"
    )
    (path,) = _named(out)
    assert (code, "has no rows" in err) == (3, True)
    assert "answers failed." in Path(path).read_text()


def test_a_stopped_run_has_a_report_too(toy: Path, cli: Cli) -> None:
    toy.write_text(TOY + "  others: {stage: toy_rows, error: interrupt}\n")
    code, out, _ = cli("run", toy)
    (path,) = _named(out)
    assert code == 130
    page = Path(path).read_text()
    assert "others was interrupted." in page
    assert "QUESTION 2" in page


def test_a_report_that_cannot_be_made_hides_nothing(
    toy: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise RuntimeError("out of ink")

    monkeypatch.setattr(write, "render", broken)
    code, out, _ = cli("run", toy)
    assert code == 0
    assert "done: toy/" in out
    assert out.splitlines()[-1] == "no report: out of ink"
    assert not list(Path("data").rglob("report.html"))


def test_report_rewrites_and_writes_elsewhere(toy: Path, cli: Cli, tmp_path: Path) -> None:
    cli("run", toy)
    code, out, _ = cli("report", "toy", "--output", tmp_path / "mine.html")
    assert (code, _named(out)) == (0, [str(tmp_path / "mine.html")])
    assert (tmp_path / "mine.html").read_text().startswith("<!doctype html>")
    (own,) = Path("data").rglob("report.html")
    own.write_text("old")
    cli("report")
    assert own.read_text() != "old"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no run 'nothing'"),
        (["toy/1999"], "no run 'toy/1999'"),
        (["--output", "no/such/folder.html"], "there is no folder no/such"),
        (["--output", "data"], "data is a folder; name a file"),
    ],
)
def test_a_report_that_cannot_be_written_is_an_error(
    toy: Path, cli: Cli, arguments: list[str], message: str
) -> None:
    cli("run", toy)
    code, _, err = cli("report", *arguments)
    assert code == 5
    assert message in err
