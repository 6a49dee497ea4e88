"""The pages of docs/reference say what the types say."""

from __future__ import annotations

import re
from pathlib import Path

from llm_distill.pipeline.load import load_pipeline
from llm_distill.pipeline.registry import find_stage, stage_names
from scripts import reference

STALE = "run: make reference"


def test_the_pages_are_fresh() -> None:
    page = reference.PIPELINE_FILE.read_text()
    assert reference.pipeline_file(page) == page, STALE
    assert reference.stages() == reference.STAGES.read_text(), STALE


def test_every_setting_has_a_meaning() -> None:
    pages = reference.PIPELINE_FILE.read_text() + reference.STAGES.read_text()
    settings = re.findall(r"^\| `(\S+)` \| .* \| (.*) \|$", pages, re.MULTILINE)
    assert len(settings) > 500
    assert [name for name, meaning in settings if not meaning.strip()] == []


def test_defaults_are_those_that_hold_there() -> None:
    """`sampling` of one stage is not that of another."""
    (assess,) = re.findall(r"## assess\n(.*?)\n## ", reference.STAGES.read_text(), re.DOTALL)
    assert "| `sampling.temperature` | number, ≥ 0 | `0.1` |" in assess
    assert re.findall(r"`difficulty.by` \| '(\w+)'", assess) == [
        "gold",
        "consistency",
        "process_reward",
    ]


def test_each_stage_has_a_section_and_toys_have_none() -> None:
    sections = re.findall(r"^## (\w+)$", reference.STAGES.read_text(), re.MULTILINE)
    ours = {n for n in stage_names() if find_stage(n).__module__.startswith("llm_distill.")}
    assert set(sections) == ours < set(stage_names())


def test_the_example_is_valid(tmp_path: Path) -> None:
    (example, *_) = re.findall(r"```yaml\n(.*?)```", reference.PIPELINE_FILE.read_text(), re.DOTALL)
    (tmp_path / "example.yaml").write_text(example)
    assert list(load_pipeline(str(tmp_path / "example.yaml")).stages) == ["questions", "answers"]
