"""Every table of the command line, on narrow and wide terminals, with names as long as people's."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from llm_distill.cli import align, cache, compare, plan, rehearse, stages
from llm_distill.cli.display import make_table, status_table
from llm_distill.cli.folding import MARGIN, NARROW, FoldingTable
from llm_distill.cli.tables import result_tables
from llm_distill.evaluation.result_rows import Figure
from llm_distill.evaluation.results import FigureTable, shown
from llm_distill.pipeline.registry import stage_names
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.report import differences
from llm_distill.runtime.estimate import Estimate
from llm_distill.runtime.needs import Memory, Needs
from llm_distill.runtime.plan import Decision
from llm_distill.runtime.planned import Planned
from llm_distill.runtime.preflight import Preflight
from llm_distill.runtime.record import RunRecord, StageRecord
from tests.manifests import manifest

NAMES = [
    "student",
    *(f"tailored_student_without_preferences_round_{n}" for n in range(1, 13)),
    "tailored_student_without_preferences_round_1_again",
    "HuggingFaceTB/SmolLM2-1.7B-Instruct-with-an-adapter-of-rank-16",
    "a" * 90,
    "学生模型" * 12,
]
WHY = "setting rows: tailored_drafts → tailored_questions; template arte/draft.jinja; and 12 more"


def results() -> Iterator[FoldingTable]:
    exam = [
        {
            "model": name,
            "shots": shots,
            "accuracy": 0.6,
            "low": 0.531,
            "high": 0.665,
            "n": 12_000,
            "parse_failures": 8,
            "truncated": 0,
            "samples": 8,
            "pass_at": {"1": 0.6, "8": 0.91},
            "majority": 0.7,
        }
        for name in NAMES
        for shots in (0, 3)
    ]
    paired = [
        {"model": name, "baseline": NAMES[1], "shots": 0, "difference": -0.02, "low": -0.06}
        | {"high": 0.02, "n": 200, "p_value": 0.454}
        for name in NAMES
    ]
    yield from result_tables(NAMES[1], {"results": exam, "differences": paired})
    harness = [
        {"model": name, "task": "arithmetic_word_problems_of_two_steps", "shots": 5, "n": 1319}
        | {"metric": "exact_match", "filter": "flexible-extract", "value": 0.5}
        | {"low": 0.4, "high": 0.6, "stderr": 0.01}
        for name in NAMES
    ]
    yield from result_tables(NAMES[1], {"results": harness})
    skills = [
        {"id": f"{name}: carrying", "skill": "carrying", "count": 1200, "weight": 0.1}
        | {"weight_low": 0.05, "weight_high": 0.2}
        for name in NAMES
    ]
    yield from result_tables(NAMES[1], {"missing_skills": skills})
    own = tuple(Figure({"column": n, "of": n}, 12.5, 11.0, 13.0, n=1200) for n in NAMES)
    yield from result_tables(NAMES[1], shown(FigureTable("words per text", own)))
    agreed = [
        {"figure": "kappa", "annotators": [a, b], "value": 0.61, "low": 0.5, "high": 0.7, "n": 99}
        for a, b in pairwise(NAMES)
    ]
    yield from result_tables("agreed", {"agreement": agreed})


def planned() -> Iterator[FoldingTable]:
    decisions = [Decision(name, "run", WHY) for name in NAMES]
    yield plan._what_runs(decisions)
    last = manifest(seconds=1234.5, tokens_out=1_234_567, cost=12.34)
    size = Estimate(12_288, 1_572_864, 12.5, last, 1_234_567, "characters", 5000.0)
    memory = Memory({"weights": 16_100_000_000}, 8, "GPU", ("models",))
    needs = dict.fromkeys(NAMES, Needs((memory,), 16_100_000_000, 48_300_000_000))
    pipeline = PipelineConfig("p", 0, {}, "none", {}, "p.yaml", None, {})
    yield plan._what_it_takes(
        Planned(pipeline, decisions, dict.fromkeys(NAMES, size), Preflight(needs=needs))
    )


def record() -> RunRecord:
    stage = StageRecord(
        state="interrupted", rows=1_234_567, dropped={"a": 1234}, requests=12_288, tokens=9_999_999
    ).model_copy(update={"cost": 123.45, "seconds": 86_399.9})
    return RunRecord(
        directory=Path("w"),
        name="r/1",
        state="failed",
        pipeline="p.yaml",
        profile=None,
        seed=1,
        pid=1,
        started=0.0,
        stages=dict.fromkeys(NAMES, stage),
    )


def compared(monkeypatch: pytest.MonkeyPatch) -> Iterator[FoldingTable]:
    one, other = Figure({}, 0.6, 0.531, 0.665, kind="share"), Figure({}, 0.2, kind="share")
    view: Any = SimpleNamespace(record=record().stages[NAMES[0]], state="done")
    found = {
        "settings": [(f"stages.{n}.template", "x" * 500 + n, "x" * 500 + n[:-1]) for n in NAMES],
        "stages": [
            SimpleNamespace(name=n, views=(view, None), why=lambda run: [WHY] * 5) for n in NAMES
        ],
        "figures": [differences.Measured(n, f"accuracy {n} 3-shot", (one, other)) for n in NAMES],
    }
    tables: list[FoldingTable] = []
    out: Any = SimpleNamespace(print=tables.append)
    for what, rows in found.items():
        monkeypatch.setattr(compare.differences, what, lambda a, b, rows=rows: rows)
    for show in (compare._settings, compare._stages, compare._results):
        show(view, view, out)
    yield from tables


def described(monkeypatch: pytest.MonkeyPatch) -> Iterator[FoldingTable]:
    tables: list[Any] = []
    printer = SimpleNamespace(print=lambda what, **_: tables.append(what))
    monkeypatch.setattr(stages, "console", lambda: printer)
    stages.list_stages()
    for name in stage_names():
        stages.describe_stage(name)
    yield from (table for table in tables if isinstance(table, FoldingTable))


def tables(monkeypatch: pytest.MonkeyPatch) -> Iterator[FoldingTable]:
    yield from results()
    yield from planned()
    yield status_table(record())
    yield from compared(monkeypatch)
    yield from described(monkeypatch)
    of_models = [(name, 1_234_567, 12, 10**9, 10**8, 12.3, 1.7e9) for name in NAMES]
    yield cache._stats(of_models)
    dropped = {"not selected": 1234, "no <Question_1>": 7}
    walked = [
        rehearse.Walked(n, "done", "", 10**6, 10**5, dropped, 12_288, 10**7, 600.0) for n in NAMES
    ]
    yield rehearse._table(walked)
    yield align._table([])


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_name_is_cut_and_no_figure_broken(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = 0
    for table in tables(monkeypatch):
        seen += 1
        out = io.StringIO()
        console = Console(file=out, width=width, soft_wrap=True, color_system=None)
        console.print(table)
        lines = out.getvalue().splitlines()
        assert max(map(_cells, lines)) <= width, table.title
        plain = [[console.render_str(str(cell)).plain for cell in c._cells] for c in table.columns]
        wanted = [tuple(map(_joined, row)) for row in zip(*plain, strict=True)]
        found = _read(table, console, lines)
        assert found == wanted, table.title
        whole = [c for c, column in zip(plain, table.columns, strict=True) if _is_figure(column)]
        for figure in {figure for column in whole for figure in column}:
            assert any(figure in line for line in lines), (table.title, figure)
    assert seen > 40


def _is_figure(column: Any) -> bool:
    return bool(column.justify == "right")


def _joined(text: str) -> str:
    return re.sub(r"\s", "", text)


def _cells(line: str) -> int:
    from rich.cells import cell_len

    return cell_len(line.rstrip())


def _read(table: FoldingTable, console: Console, lines: list[str]) -> list[tuple[str, ...]]:
    """The rows as a person puts them together again."""
    layout = table.layout(console, console.width)
    n = len(table.columns)
    if layout is None:
        return _read_blocks(table, console, lines)
    gap, widths = layout
    rule = next(i for i, line in enumerate(lines) if line.strip().startswith("──"))
    rows: list[list[str]] = []
    wanted = len(table.rows)
    parts: list[list[str]] = []
    for line in lines[rule + 1 :]:
        at, cells = (0 if gap == NARROW else MARGIN), []
        for width in widths:
            cells.append(_slice(line, at, width))
            at += width + gap
        parts.append([cell.strip() for cell in cells])
    for index in range(wanted):  # a row takes as many lines as its highest cell
        height = max(
            _height(console.render_str(str(c._cells[index])), w)
            for c, w in zip(table.columns, widths, strict=True)
        )
        mine = parts[:height]
        rows.append(["".join(_joined(line[c]) for line in mine) for c in range(n)])
        parts = parts[height + (table.rows[index].end_section and index + 1 < wanted) :]
    return [tuple(row) for row in rows]


def _height(text: Any, width: int) -> int:
    from llm_distill.cli.folding import _broken

    return len(_broken(text, width).plain.split("\n"))


def _slice(line: str, at: int, width: int) -> str:
    """By columns of the terminal: a Chinese letter takes two."""
    from rich.cells import cell_len

    found, column = "", 0
    for letter in line:
        if at <= column < at + width:
            found += letter
        column += cell_len(letter)
    return found


def _read_blocks(table: FoldingTable, console: Console, lines: list[str]) -> list[tuple[str, ...]]:
    text = _joined("".join(lines))
    if table.title:
        text = text.removeprefix(_joined(console.render_str(str(table.title)).plain))
    rows = []
    for index in range(len(table.rows)):
        row = []
        for number, column in enumerate(table.columns):
            cell = _joined(console.render_str(str(column._cells[index])).plain)
            label = _joined(console.render_str(str(column.header)).plain) if number and cell else ""
            assert text.startswith(label + cell), (text[:200], label + cell)
            text = text.removeprefix(label + cell)
            row.append(cell)
        rows.append(tuple(row))
    return rows


def test_what_fits_is_not_folded() -> None:
    table = make_table("model", right=("items",), title="exam: accuracy")
    table.add_row("student", "1,200")
    out = io.StringIO()
    Console(file=out, width=60).print(table)
    assert [line.strip() for line in out.getvalue().splitlines() if line.strip()] == [
        "exam: accuracy",
        "model     items",
        "─" * 17,
        "student   1,200",
    ]


@pytest.mark.parametrize(
    ("a", "b"),
    [("x" * 500 + "y", "x" * 500 + "z"), ("x" * 500, "x" * 501), ("x" * 80, "x" * 400 + "y")],
)
def test_long_settings_that_differ_do_not_look_alike(a: str, b: str) -> None:
    one, other = compare._shortened(a, b)
    assert one != other
    assert max(len(one), len(other)) < 110
