"""The tiny models, and rows that the teacher has scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_distill.models.sources import ModelSource
from tests.distillation import tiny
from tests.tiny_tokenizer import on_one_thread

one_thread = pytest.fixture(on_one_thread, scope="session", autouse=True)


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    return tiny.make_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    return tiny.make_student(tmp_path_factory.mktemp("student"))


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return [dict(row) for row in tiny.ROWS]


@pytest.fixture
def scored(run_stage: Any, tmp_path: Path) -> Any:
    """Rows as `score_likelihood` gives them."""
    from llm_distill.stages.score_likelihood import ScoreLikelihood

    def of(rows: list[dict[str, Any]], by: ModelSource, **settings: Any) -> list[dict[str, Any]]:
        stage = ScoreLikelihood(stage="score_likelihood", rows="plain", model="t", **settings)
        work = tmp_path / f"scoring {by.name} {len(list(tmp_path.iterdir()))}"
        run = run_stage(stage, {"plain": rows}, models={"t": by}, work_dir=work)
        return [
            {
                name: value.tolist() if hasattr(value, "tolist") else value
                for name, value in row.items()
            }
            for row in run.rows
        ]

    return of
