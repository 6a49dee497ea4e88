"""A pipeline file out of a text, loaded or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llm_distill.errors import ConfigError
from llm_distill.pipeline.load import load_pipeline
from llm_distill.pipeline.schema import PipelineConfig

GOOD = """\
name: toy
seed: 3
models:
  teacher: {model_name_or_path: org/teacher}
stages:
  numbers:
    stage: toy_rows
    n: 4
  answers:
    stage: toy_map
    rows: numbers
  trained:
    stage: toy_train
    model: teacher
    rows: answers
  again:
    stage: toy_train
    model: trained
    rows: answers
profiles:
  big:
    seed: 9
    stages:
      numbers: {n: 100}
"""


@pytest.fixture
def good() -> str:
    return GOOD


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., PipelineConfig]:
    def write_and_load(text: str | bytes, **options: object) -> PipelineConfig:
        path = tmp_path / "toy.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return load_pipeline(str(path), **options)  # type: ignore[arg-type]

    return write_and_load


@pytest.fixture
def failure(load: Callable[..., PipelineConfig], tmp_path: Path) -> Callable[..., str]:
    """The message of a file that is refused, without the folder it is in."""

    def refused(text: str | bytes, **options: object) -> str:
        with pytest.raises(ConfigError) as caught:
            load(text, **options)
        return str(caught.value).replace(f"{tmp_path}/", "")

    return refused
