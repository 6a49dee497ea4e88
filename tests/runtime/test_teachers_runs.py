"""Several teachers in a run: each row of one's own, whose vocabularies differ, and one student."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.errors import ConfigError
from llm_distill.pipeline.load import load_pipeline
from llm_distill.preview.references import with_references
from llm_distill.stage import references

PIPELINE = """\
name: teachers
models:
  sums: {model_name_or_path: data/models/tiny-teacher}
  levels: {model_name_or_path: data/models/tiny-stat-teacher}
  student: {model_name_or_path: data/models/tiny-student, prompt_format: text}
stages:
  problems: {stage: load_dataset, path: FILE}
  scored:
    stage: score_likelihood
    rows: problems
    teachers: &teachers {sums: sums, levels: levels}
    teacher_column: kind
    prompt_template: arte/exam.jinja
    variables: &task {task_description: Solve the word problem.}
    completion_column: reference_answer
  trained:
    stage: train_distill
    model: student
    teachers: *teachers
    rows: scored
    prompt_template: arte/exam.jinja
    variables: *task
    completion_column: reference_answer
    learning_rate: 1.0e-3
    max_steps: 6
    per_device_train_batch_size: 8
"""


@pytest.fixture
def text(tmp_path: Path) -> str:
    rows = [
        {
            "id": f"q{n}",
            "question": f"Ann has {n} pens and gets {n + 3} more. How many has she?",
            "reference_answer": f"She has {n} + {n + 3} = {2 * n + 3} pens.",
            "kind": ("sums", "levels", "sums")[n % 3],
        }
        for n in range(24)
    ]
    file = tmp_path / "problems.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return PIPELINE.replace("FILE", str(file))


@pytest.mark.slow
def test_a_student_learns_from_the_teacher_of_each_row(
    text: str, bench: Callable[[str], Any]
) -> None:
    toy = bench(text)
    record = toy.run()
    rows = toy.rows(record, "scored")
    assert [row["kind"] for row in rows] == ["sums"] * 16 + ["levels"] * 8
    assert len({row["scored_by"] for row in rows}) == 2
    manifest = json.loads((toy.artifact("trained") / "manifest.json").read_text())
    assert set(manifest["models"]) == {"student", "sums", "levels"}
    (table,) = manifest["metrics"]["figures"]
    assert {row["labels"]["teacher"]: row["value"] for row in table["rows"]} == {
        "sums": 16,
        "levels": 8,
    }
    losses = [point["alm"] for point in manifest["metrics"]["history"] if "alm" in point]
    assert losses[-1] < losses[0]
    assert {action for action, _ in toy.plan().values()} == {"reuse"}
    assert toy.plan("stages.scored.teachers.levels=sums")["scored"][0] == "run"


def test_mistakes_are_found_before_anything_runs(text: str, bench: Callable[[str], Any]) -> None:
    for old, new, message in (
        ("levels: levels}", "levels: level}", r"stages\.scored\.teachers\.levels.*'level'"),
        ("levels: levels}", "levels: problems}", "'problems'"),
        ("teacher_column: kind", "model: sums", "give one of model and teachers"),
        ("    rows: scored", "    rows: problems", "gives no column 'scored_by'"),
    ):
        toy = bench(text.replace(old, new))
        with pytest.raises(ConfigError, match=message):
            load_pipeline(str(toy.file))


def test_teachers_are_references_by_name(text: str, bench: Callable[[str], Any]) -> None:
    """In a round of a `repeat`, and where a preview puts untrained models in their place."""
    start = text.index("  scored:")
    rounds = text[:start] + "  rounds:\n    repeat:\n      times: 2\n"
    rounds += "      start: {trained: student}\n      stages:\n"
    block = text[start:].replace("sums: sums,", "sums: sums, own: trained@previous,")
    rounds += "".join(f"      {line}\n" for line in block.splitlines())
    stages = load_pipeline(str(bench(rounds).file)).stages
    assert [dict(stages[f"scored@{n}"])["teachers"]["own"] for n in (1, 2)] == [
        "student",
        "trained@1",
    ]
    renamed = with_references(stages["scored@2"], {"trained@1": "student", "sums": "levels"})
    assert references(renamed) == [
        ("rows", "problems", "rows"),
        ("teachers.sums", "levels", "model"),
        ("teachers.own", "student", "model"),
        ("teachers.levels", "levels", "model"),
    ]
