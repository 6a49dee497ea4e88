"""hard_tasks and its controls: students differ in their rows only, sets in one thing each."""

from __future__ import annotations

from typing import Any

import pytest

from llm_distill.paths import bundled_root
from llm_distill.pipeline.load import load_pipeline

FILES = sorted(str(path) for path in (bundled_root() / "pipelines").glob("hard_tasks*.yaml"))


@pytest.mark.parametrize("file", FILES)
def test_students_differ_in_their_rows_only(file: str) -> None:
    stages: dict[str, Any] = dict(load_pipeline(file).stages)
    trained = {n: s for n, s in stages.items() if s.stage == "train_sft"}
    assert len(trained) >= 6
    settings = [student.model_dump(exclude={"rows"}) for student in trained.values()]
    assert all(each == settings[0] for each in settings)
    assert settings[0]["max_steps"] > 0  # subtasks are more rows, and may not be more steps
    assert len({student.rows for student in trained.values()}) == len(trained)
    exams = [s for s in stages.values() if s.stage == "evaluate"]
    assert set(trained) <= {model for exam in exams for model in exam.models}
    assert len({exam.sampling for exam in exams}) == 1


@pytest.mark.parametrize("file", FILES)
def test_what_is_compared_has_one_size(file: str) -> None:
    stages: dict[str, Any] = dict(load_pipeline(file).stages)
    sets = [s for s in stages.values() if s.stage == "corrupt"]
    for rows in {s.rows for s in sets}:
        same = [s for s in sets if s.rows == rows]
        assert len({(s.solution_column, s.gold_column, s.length_ratio) for s in same}) == 1
    # The same share of wrong answers, with and without wrong steps.
    of_hard = {(s.rate, s.what) for s in sets}
    assert {(0.9, "outcome"), (0.9, "step"), (0, "outcome")} <= of_hard
