"""A budget of tokens for thoughts, in whole runs, with a tiny model that thinks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engines.conftest import TEMPLATE, save_model, save_tokenizer

FILE = """\
name: thoughts
seed: 5
models: {student: {model_name_or_path: thinks}, other: {model_name_or_path: other}}
stages:
  questions: {stage: load_dataset, path: questions.jsonl}
  answers:
    stage: generate
    rows: questions
    model: student
    template: prompt.jinja
    sampling: {temperature: 0, max_tokens: 20}
  exam:
    stage: evaluate
    rows: questions
    models: [student, other]
    template: prompt.jinja
    sampling: {temperature: 0, max_tokens: 20}
"""
BUDGET = tuple(f"stages.{name}.sampling.thinking_token_budget=6" for name in ("answers", "exam"))
N = 8


@pytest.fixture
def thinks(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    for name, opened in (("thinks", "<think>\n"), ("other", "")):
        tokenizer = save_tokenizer(tmp_path / name)
        tokenizer.add_tokens(["<think>", "</think>"])
        tokenizer.chat_template = TEMPLATE.replace(
            "<|assistant|>{% e", f"<|assistant|>{opened}{{% e"
        )
        tokenizer.save_pretrained(tmp_path / name)
        save_model(tmp_path / name, len(tokenizer))
    rows = [{"id": f"q{i}", "question": f"{i}?", "reference_answer": "4"} for i in range(N)]
    Path("questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("prompt.jinja").write_text("Question: {{ question }}")
    return bench(FILE)


def manifest(bench: Any, record: Any, stage: str) -> Any:
    return bench.workspace.find(record.stages[stage].artifact).manifest


def test_thoughts_are_cut_answers_follow_and_the_rows_are_counted(thinks: Any) -> None:
    free, held = thinks.run(), thinks.run(*BUDGET)
    before, after = thinks.rows(free, "answers"), thinks.rows(held, "answers")
    assert [row["finish_reason"] for row in before].count("length") > N / 2
    n_cut = 0
    for long, short in zip(before, after, strict=True):
        whole, thought = long["reasoning"] or "", short["reasoning"] or ""
        if len(whole) > len(thought):
            n_cut += 1
            assert whole.startswith(thought)
            assert (long["completion"], short["completion"] != "") == ("", True)
        assert "think>" not in short["completion"]
    assert n_cut > N / 2
    assert manifest(thinks, held, "answers").metrics["thoughts_cut"] == {"student": n_cut}
    exam = thinks.rows(held, "exam")
    assert [r["completion"].strip() for r in exam[:N]] == [r["completion"].strip() for r in after]
    assert manifest(thinks, held, "exam").metrics["thoughts_cut"] == {"student": n_cut, "other": 0}
    assert [row["completion"] for row in exam[N:]] == [
        row["completion"] for row in thinks.rows(free, "exam")[N:]
    ]
    assert "thoughts_cut" not in manifest(thinks, free, "exam").metrics
    # What is found in the store again is counted as well.
    again = thinks.run(*BUDGET, force=("exam",))
    assert manifest(thinks, again, "exam").completions == {"reused": 2 * N}
    assert manifest(thinks, again, "exam").metrics["thoughts_cut"]["student"] == n_cut


def test_a_budget_that_is_not_set_is_no_part_of_a_fingerprint(thinks: Any) -> None:
    prints = thinks.run().stages["exam"].artifact
    assert (
        thinks.run("stages.exam.sampling.thinking_token_budget=null").stages["exam"].artifact
        == prints
    )
    assert thinks.run(*BUDGET).stages["exam"].artifact != prints
