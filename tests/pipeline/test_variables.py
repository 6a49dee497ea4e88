"""`variables:` of a whole pipeline: each stage gets those that its templates read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.pipeline.schema import PipelineConfig

Load = Callable[..., PipelineConfig]

FILE = """\
name: constants
variables: {tone: plain, unread: 1, question: never}
models:
  student: {model_name_or_path: data/models/tiny-student, prompt_format: text}
stages:
  numbers: {stage: toy_rows, n: 4}
  asked: {stage: generate, rows: numbers, model: student, template: tone.jinja}
  own:
    stage: generate
    rows: numbers
    model: student
    template: tone.jinja
    variables: {tone: mine}
  plain: {stage: generate, rows: numbers, model: student, template: plain.jinja}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("tone.jinja").write_text("{{ tone }} {{ question }}")
    Path("plain.jinja").write_text("{{ question }}")
    return FILE


def settings(pipeline: PipelineConfig, stage: str) -> Any:
    return dict(pipeline.stages[stage])["variables"]


def test_a_stage_gets_what_its_templates_read(load: Load, file: str) -> None:
    pipeline = load(file)
    assert settings(pipeline, "asked") == {"tone": "plain"}
    assert settings(pipeline, "own") == {"tone": "mine"}
    assert settings(pipeline, "plain") == {}  # its rows have a question
    assert pipeline.resolved["variables"] == {"tone": "plain", "unread": 1, "question": "never"}


def test_it_is_as_if_they_stood_in_the_stage(load: Load, file: str) -> None:
    written = file.replace("variables: {tone: plain, unread: 1, question: never}\n", "").replace(
        "template: tone.jinja}", "template: tone.jinja, variables: {tone: plain}}"
    )
    by_hand = load(written)
    assert load(file).stages["asked"] == by_hand.stages["asked"]


def test_a_profile_and_set_change_them(load: Load, file: str) -> None:
    profile = file + "profiles:\n  loud: {variables: {tone: loud}}\n"
    assert settings(load(profile, profile="loud"), "asked") == {"tone": "loud"}
    changed = load(file, assignments=["variables.tone=soft"])
    assert settings(changed, "asked") == {"tone": "soft"}


def test_mistakes_are_said(failure: Callable[..., str], file: str) -> None:
    said = failure(file.replace("variables: {tone:", "variables: {tune:"))
    assert (
        "template tone.jinja reads 'tone', which is neither a column nor under variables:" in said
    )
    assert "'tune'" in said
    assert "variables: should be a mapping" in failure(
        file.replace("variables: {tone: plain, unread: 1, question: never}", "variables: text")
    )
