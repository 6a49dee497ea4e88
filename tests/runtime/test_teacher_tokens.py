"""The script that counts a teacher's tokens for each student of an exam, on counts by hand."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llm_distill.stages.score_likelihood import ScoreLikelihood
from scripts import teacher_tokens
from tests.engines.loopback import Loopback

PIPELINE = """\
name: counted
models:
  teacher: &served {model_name_or_path: served-model, engine: {kind: openai, base_url: URL}}
  other: *served
  student: {model_name_or_path: s, engine: {kind: scripted, function: "a:b"}}
stages:
  items: {stage: load_dataset, path: items.jsonl}
  asked: &asked
    stage: generate
    rows: items
    model: teacher
    template: ask.jinja
    sampling: {temperature: 0, max_tokens: 8}
  by_other: {<<: *asked, model: other}
  rounds:
    repeat:
      times: 3
      start: {trained: student, all: null}
      stages:
        drawn: {stage: select, rows: items, n: 2, order: random}
        texts: {<<: *asked, rows: drawn, n: 2, sampling: {temperature: 1, max_tokens: 8}}
        again: {<<: *asked, rows: drawn, template: other.jinja}
        all: {stage: mix, rows: [texts, again, all@previous]}
        trained: {stage: toy_train, model: trained@previous, rows: all}
  from_all: {stage: toy_train, model: student, rows: asked}
  from_other: {stage: toy_train, model: student, rows: by_other}
  exam:
    stage: evaluate
    rows: items
    models: [student, from_other, from_all, trained@1, trained@3]
    template: ask.jinja
"""
EACH = 5 + 3  # tokens that the loopback says it has read and written


@pytest.fixture
def toy(
    bench: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    for name in ("http_proxy", "HTTP_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "ask.jinja").write_text("{{ question }}")
    (tmp_path / "other.jinja").write_text("Once more: {{ question }}")
    rows = [{"id": f"t{i}", "question": f"What is {i}?", "reference_answer": "4"} for i in range(5)]
    (tmp_path / "items.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    server = Loopback()
    yield bench(PIPELINE.replace("URL", f'"{server.url}"'))
    server.close()


@pytest.fixture
def counted(
    toy: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], dict[str, tuple[int, str]]]:
    """By student the teacher's tokens, and the stages that they are of."""

    def count() -> dict[str, tuple[int, str]]:
        arguments = ["toy.yaml", "--workspace", str(toy.workspace.root)]
        monkeypatch.setattr(sys, "argv", ["teacher_tokens.py", *arguments])
        capsys.readouterr()
        teacher_tokens.main()
        lines = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
        return {line[0]: (int(line[1]), "".join(line[2:])) for line in lines}

    return count


def test_each_student_has_what_the_teacher_did_for_it(toy: Any, counted: Any) -> None:
    record = toy.run(until="from_other")
    drawn = {row["id"] for n in (1, 2, 3) for row in toy.rows(record, f"drawn@{n}")}
    assert 2 < len(drawn) < 6  # a question comes in two rounds
    by_hand = {
        "student": (0, ""),
        "from_other": (0, ""),  # another model wrote for it
        "from_all": (5 * EACH, "asked 5 × 8"),
        "trained@1": (6 * EACH, "again 2 × 8, texts 4 × 8"),
        # At temperature 0 a question that comes again is the same request.
        "trained@3": ((len(drawn) + 12) * EACH, f"again {len(drawn)} × 8, texts 12 × 8"),
    }
    assert counted() == by_hand

    # What was answered from the store counts as if this student had been alone.
    shutil.rmtree(toy.artifact("texts@2"))
    toy.run(until="from_other")
    texts = json.loads((toy.artifact("texts@2") / "manifest.json").read_text())
    assert texts["completions"] == {"reused": 4}
    assert counted() == by_hand


def test_texts_that_the_teacher_scored_in_memory_are_counted_apart() -> None:
    """Those that a server scored have tokens of requests."""
    common: Any = {"stage": "score_likelihood", "rows": "r"}
    stages: Any = {
        "own": ScoreLikelihood(**common, model="teacher"),
        "other": ScoreLikelihood(**common, model="student"),
        "served": ScoreLikelihood(**common, model="teacher", scorer="engine"),
    }
    run = {n: SimpleNamespace(manifest=SimpleNamespace(metrics={"n_tokens": 7})) for n in stages}
    assert teacher_tokens.scored_in(run, stages, [*stages], "teacher") == 7
