"""load_skills: a list that a person edited, and what is said of a wrong one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.stages.load_skills import LoadSkills

Run = Callable[..., Any]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "skills.yaml"
    path.write_text("\ufeffsums: [Making change, adding]\ndates:\n- adding\n", encoding="utf-8")
    return path


def load(path: str = "skills.yaml") -> LoadSkills:
    return LoadSkills(stage="load_skills", path=path)


def test_names_become_rows(run_stage: Run, file: Path) -> None:
    run = run_stage(load())
    assert run.rows == [
        {"id": "sums/making_change", "task": "sums", "skill": "making_change", "count": None},
        {"id": "sums/adding", "task": "sums", "skill": "adding", "count": None},
        {"id": "dates/adding", "task": "dates", "skill": "adding", "count": None},
    ]
    assert load().output_columns({}) == set(run.features)


def test_an_edit_is_noticed(file: Path) -> None:
    before = load().source_digests()
    assert load().source_digests() == before
    file.write_text("- adding\n")
    assert load().source_digests() != before


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sums:\n- a, b\n", "skills.yaml:2: 'a, b' has a comma"),
        ("sums:\n- a\n- A\n", "skills.yaml:3: 'A' is already in line 2"),
        ("words", "skills.yaml:1: expected a mapping of each task to a list"),
    ],
)
def test_a_wrong_list_is_found_with_the_settings(file: Path, text: str, told: str) -> None:
    file.write_text(text)
    with pytest.raises(ValidationError) as caught:
        load()
    assert told in str(caught.value)


def test_a_file_that_is_not_there_or_no_text(file: Path) -> None:
    with pytest.raises(ValidationError, match="no file 'skils.yaml'; did you mean 'skills.yaml'"):
        load("skils.yaml")
    file.write_bytes(b"- \xff\n")
    with pytest.raises(ValidationError, match="cannot be read as UTF-8 text"):
        load()
