"""A column that is read as text and holds something else is refused, if possible before a run."""

# ruff: noqa: E501

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llm_distill.errors import ConfigError, DataError

ROWS = [
    {"id": f"r{i}", "question": f"What is {i} + 1?", "prompt": "Q", "completion": f"It is {i}",
     "number": i, "share": i / 2, "truth": i > 1, "tags": ["a"], "object": {"a": 1}, "nothing": None}
    for i in range(4)
]  # fmt: skip
STAGES = {
    "deduplicate, column": "{stage: deduplicate, rows: d, column: COLUMN}",
    "decontaminate, column": "{stage: decontaminate, rows: d, against: [e], column: COLUMN}",
    "decontaminate, against": "{stage: decontaminate, rows: e, against: [d], against_column: COLUMN}",
    "parse": "{stage: parse, rows: d, column: COLUMN, tags: {answer: ans}}",
    "train_sft": "{stage: train_sft, rows: d, model: m, completion_column: COLUMN}",
    "score_student_fit": "{stage: score_student_fit, rows: d, model: m, signal: rsr, completion_column: COLUMN}",
    "score_likelihood": "{stage: score_likelihood, rows: d, model: m, text_column: COLUMN}",
    "score_influence": "{stage: score_influence, rows: d, reference: d, model: m, completion_column: COLUMN}",
}


def pipeline(folder: Path, stage: str) -> str:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    data = f"{{stage: load_dataset, path: {folder / 'rows.jsonl'}}}"
    return (
        "name: p\nmodels: {m: {model_name_or_path: data/models/tiny-student}}\n"
        f"stages:\n  d: {data}\n  e: {data}\n  x: {stage}\n"
    )


@pytest.mark.parametrize("column", ["number", "share", "truth", "tags", "object"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_run_says_what_the_column_holds(
    bench: Any, tmp_path: Path, stage: str, column: str
) -> None:
    toy = bench(pipeline(tmp_path, STAGES[stage].replace("COLUMN", column)))
    expected = (
        rf"^stage 'x': the column '{column}' of its input 'd' holds .* columns: {{NAME: {column}}}"
    )
    with pytest.raises(DataError, match=expected):
        toy.run()


def test_lists_of_labels_are_read_where_that_is_said(bench: Any, tmp_path: Path) -> None:
    """Before the run where the column's type is known by its name, or else when it is read."""
    report = "{stage: classification_report, rows: [d], reference_column: prompt, label_column: %s}"
    with pytest.raises(DataError, match="'tags' of its input 'd' holds lists, .* several: true"):
        bench(pipeline(tmp_path, report % "tags")).run()
    with pytest.raises(ConfigError, match="'labels' holds .*; several: true reads lists"):
        bench(pipeline(tmp_path, report % "labels")).run()


@pytest.mark.parametrize("stage", ["deduplicate, column", "decontaminate, column"])
def test_a_column_without_a_value_is_one_of_text(bench: Any, tmp_path: Path, stage: str) -> None:
    toy = bench(pipeline(tmp_path, STAGES[stage].replace("COLUMN", "nothing")))
    assert toy.run().stages["x"].rows == 0


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_known_column_holds_is_said_before_a_run(
    bench: Any, tmp_path: Path, stage: str
) -> None:
    toy = bench(pipeline(tmp_path, STAGES[stage].replace("COLUMN", "score")))
    toy.write(toy.file.read_text().replace("rows.jsonl}", "rows.jsonl, columns: {score: number}}"))
    with pytest.raises(ConfigError, match="the column 'score' holds float64, and is read as text"):
        toy.run()


@pytest.mark.parametrize("null", ["skill", "question_ids"])
def test_a_profile_with_a_null(bench: Any, tmp_path: Path, null: str) -> None:
    profile = {"id": "p", "skill": "add", "question_ids": ["q"], null: None}
    (tmp_path / "profile.jsonl").write_text(json.dumps(profile) + "\n")
    rows = {"id": "a", "question": "Add 1.", "skills": ["add"]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(rows) + "\n")
    toy = bench(
        f"name: p\nstages:\n  d: {{stage: load_dataset, path: {tmp_path}/rows.jsonl}}\n"
        f"  e: {{stage: load_dataset, path: {tmp_path}/profile.jsonl}}\n"
        "  x: {stage: select_by_skill, rows: d, profile: e}\n"
    )
    if null == "skill":
        with pytest.raises(DataError, match=r"question_ids \['q'\]\) has no skill; take rows of"):
            toy.run()
    else:
        assert toy.run().stages["x"].rows == 0


@pytest.mark.parametrize("stage", STAGES)
def test_only_who_reads_conversations_takes_one(bench: Any, tmp_path: Path, stage: str) -> None:
    toy = bench(pipeline(tmp_path, STAGES[stage].replace("COLUMN", "completion")))
    turns = [
        {"prompt": [{"role": "user", "content": "Q"}], "id": f"r{i}",
         "completion": [{"role": "assistant", "content": f"<ans>{i}</ans>"}]}
        for i in range(4)
    ]  # fmt: skip
    rows = "".join(json.dumps({**row, "question": "x"}) + "\n" for row in turns)
    (tmp_path / "rows.jsonl").write_text(rows)
    if stage == "parse":
        answers = [row["answer"] for row in toy.rows(toy.run(), "x")]
        assert answers == ["0", "1", "2", "3"]
    elif stage == "train_sft":
        toy.write(toy.file.read_text().replace("completion}", "completion, max_steps: 1}"))
        toy.run()
    elif stage == "score_student_fit":
        assert all(row["mean_nll"] > 0 for row in toy.rows(toy.run(), "x"))
    else:
        with pytest.raises(DataError, match="the column 'completion' of its input 'd' holds"):
            toy.run()


def test_a_codebook_does_not_write_over_columns_of_somebody_else(
    bench: Any, tmp_path: Path
) -> None:
    """Said before the run where the columns are known, or else as soon as they are read."""
    lines = [json.dumps({**row, "mistake": "by an expert"}) for row in ROWS[:2]]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    data = f"{{stage: load_dataset, path: {tmp_path / 'rows.jsonl'}}}"
    codebook = "{mistake: {guess: x, misread: y}}"
    for first in ("d: " + data, f"e: {data}\n  d: {{stage: select, rows: e, n: 2}}"):
        toy = bench(
            "name: p\nmodels: {m: {model_name_or_path: data/models/tiny-student}}\n"
            f"stages:\n  {first}\n"
            f"  x: {{stage: annotate, rows: d, model: m, text_column: question, codebook: {codebook}}}\n"
        )
        with pytest.raises((ConfigError, DataError), match="'mistake' already, .* own_mistake"):
            toy.run()
