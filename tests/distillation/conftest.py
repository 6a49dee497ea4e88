"""The tiny models, and rows that the teacher has scored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_distill.models import ModelSource
from tests.distillation import tiny


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are slower on several threads, by far where the cores are busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
