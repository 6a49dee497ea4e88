"""What is kept of a model's work over edits, pipelines and damage; and the `cache` commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

FILE = """\
name: kept
seed: 5
models:
  student: {model_name_or_path: data/models/tiny-student, prompt_format: text}
stages:
  questions: {stage: load_dataset, path: questions.jsonl}
  answers:
    stage: generate
    rows: questions
    model: student
    template: prompt.jinja
    sampling: {temperature: 1.0, max_tokens: 12}
"""


@pytest.fixture
def kept(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    rows = [{"id": f"q{i}", "question": f"{i} + {i}?"} for i in range(12)]
    write_questions(rows)
    Path("prompt.jinja").write_text("Question: {{ question }}")
    return bench(FILE)


def write_questions(rows: list[dict[str, str]]) -> None:
    Path("questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def completions(bench: Any, *assignments: str, **selection: Any) -> tuple[int, int, list[str]]:
    """How many completions of a run were made and reused, and their texts."""
    record = bench.run(*assignments, **selection)
    artifact = bench.workspace.find(record.stages["answers"].artifact)
    counts = artifact.manifest.completions
    texts = [row["completion"] for row in bench.rows(record, "answers")]
    return counts.get("made", 0), counts.get("reused", 0), texts


def test_a_stage_that_runs_again_asks_nothing_again(kept: Any) -> None:
    made, reused, texts = completions(kept)
    assert (made, reused) == (12, 0)
    assert completions(kept, force=("answers",)) == (0, 12, texts)


def test_what_is_read_out_of_the_texts_can_change_without_asking_again(kept: Any) -> None:
    made, reused, texts = completions(kept)
    assert (made, reused) == (12, 0)
    for pattern in ("(?P<answer>.)", "(?P<answer>..)"):
        parse = f"stages.answers.parse={{pattern: '{pattern}'}}"
        assert completions(kept, parse)[:2] == (0, 12)
        read = [row["answer"] for row in kept.rows(kept.run(parse), "answers")]
        assert read == [text[: pattern.count(".")].strip() for text in texts]


def test_an_edited_row_is_asked_again_and_no_other(kept: Any) -> None:
    texts = completions(kept)[2]
    rows = [{"id": f"q{i}", "question": f"{i} + {i}?"} for i in range(14)]
    rows[3]["question"] = "1 + 2?"
    write_questions(rows)
    made, reused, again = completions(kept)
    assert (made, reused) == (3, 11)
    assert [a for i, a in enumerate(again[:12]) if i != 3] == [
        t for i, t in enumerate(texts) if i != 3
    ]


def test_raising_max_tokens_redoes_only_what_was_cut(kept: Any) -> None:
    from datasets import load_from_disk

    record = kept.run()
    rows = load_from_disk(str(kept.workspace.path(record.stages["answers"].artifact)))
    cut = sum(row["finish_reason"] == "length" for row in rows)
    assert 0 < cut < 12
    made, reused, texts = completions(kept, "stages.answers.sampling.max_tokens=40")
    assert (made, reused) == (cut, 12 - cut)
    for row, text in zip(rows, texts, strict=True):
        assert text.startswith(row["completion"])  # the same draw, further on


def test_another_pipeline_with_the_same_requests_makes_no_calls(kept: Any) -> None:
    texts = completions(kept)[2]
    kept.write(FILE.replace("name: kept", "name: other").replace("batch", "b"))
    kept.run("stages.answers.max_error_rate=0.5")
    assert completions(kept, "stages.answers.max_error_rate=0.5")[:2] == (0, 12)
    assert completions(kept, "stages.answers.max_error_rate=0.5")[2] == texts


def test_another_seed_or_model_is_other_work(kept: Any) -> None:
    completions(kept)
    assert completions(kept, "seed=6")[:2] == (12, 0)
    teacher = "models.student.model_name_or_path=data/models/tiny-teacher"
    assert completions(kept, teacher)[:2] == (12, 0)


def test_a_damaged_store_is_mended_and_the_run_says_so(kept: Any) -> None:
    texts = completions(kept)[2]
    kept.workspace.completions.write_bytes(b"no database" * 500)
    record = kept.run(force=("answers",))
    manifest = kept.workspace.find(record.stages["answers"].artifact).manifest
    assert "the completion store was damaged" in manifest.warnings[0]
    assert [row["completion"] for row in kept.rows(record, "answers")] == texts


def test_cache_stats_prune_and_verify(kept: Any, cli: Any) -> None:
    workspace = ("--workspace", kept.workspace.root)
    nothing = cli("cache", "stats", *workspace)
    assert (nothing.code, nothing.out) == (5, "")
    assert "there is no completion store" in nothing.err
    completions(kept)
    shown = cli("cache", "stats", *workspace).out
    assert "tiny-student" in shown
    assert " 12 " in shown
    assert "nothing is wrong" in cli("cache", "verify", *workspace).out
    assert cli("cache", "prune", *workspace).code == 2
    wrong = cli("cache", "prune", "--model", "tiny-studnet", *workspace)
    assert "did you mean 'tiny-student'" in wrong.err
    assert "0 completions would" in cli("cache", "prune", "--older-than", 1, *workspace).out
    chosen = ("cache", "prune", "--model", "tiny-student", *workspace)
    assert "12 completions would be deleted" in cli(*chosen).out
    assert completions(kept, force=("answers",))[:2] == (0, 12)
    assert "12 completions deleted" in cli(*chosen, "--yes").out
    assert completions(kept, force=("answers",))[:2] == (12, 0)


def test_cache_verify_finds_damage_and_repairs_it(kept: Any, cli: Any) -> None:
    import sqlite3

    completions(kept)
    with sqlite3.connect(kept.workspace.completions) as db:
        db.execute("UPDATE completions SET text = 'edited' WHERE id = 4")
    workspace = ("--workspace", kept.workspace.root)
    found = cli("cache", "verify", *workspace)
    assert found.code == 5
    assert "1 completions have changed" in found.err
    repaired = cli("cache", "verify", "--repair", *workspace)
    assert "11 completions were saved, at most 1 were lost" in " ".join(repaired.out.split())
    assert cli("cache", "verify", *workspace).code == 0
    assert completions(kept, force=("answers",))[:2] == (1, 11)
