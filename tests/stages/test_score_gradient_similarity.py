"""score_gradient_similarity with the bundled student: scores, tasks, checkpoints, and kills."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.distillation.gradients import similarities
from llm_distill.distillation.gradients.student import Student
from llm_distill.errors import ModelError
from llm_distill.stages.score_gradient_similarity import ScoreGradientSimilarity
from tests.stages.test_score_influence import ROWS, STUDENT, Cut, shuffled

WARM = {"warm_up": "warm", "warm_up_share": 1.0, "num_train_epochs": 2, "learning_rate": 1e-3}


@pytest.fixture
def score(run_stage: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Runs the stage, in a folder of its own unless one is given."""
    folders = (tmp_path / f"run-{i}" for i in range(99))

    def run(
        rows: list[dict[str, Any]],
        reference: list[dict[str, Any]] = ROWS[4:],
        work_dir: Path | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> Any:
        given = {"peft": {"r": 4}, "projection_dim": 512, **settings}
        stage = ScoreGradientSimilarity(
            stage="score_gradient_similarity", rows="rows", reference="reference",
            model="student", **given,
        )  # fmt: skip
        inputs = {"rows": rows, "reference": reference, "warm": ROWS}
        work = {"work_dir": work_dir or next(folders), "seed": seed}
        return run_stage(stage, inputs, models={"student": STUDENT}, **work)

    return run


def test_rows_keep_their_columns_and_get_scores(score: Any) -> None:
    rows = [{**row, "strategy": "formula"} for row in ROWS[:3]]
    run = score([*rows, {**rows[0], "id": "twin"}], **WARM)
    for row, given in zip(run.rows, rows, strict=False):
        assert {name: row[name] for name in given} == given
        assert -1 <= row["score"] <= 1
        assert row["metric"] == "gradient_similarity_adam"
        assert row["error"] is None
        assert row["gradient_norm"] > 0
        assert row["nearest_task"] == ""
    assert run.rows[3]["score"] == run.rows[0]["score"]
    assert run.metrics["cost"]["backward_passes"] == 2 * (3 + 2)
    assert sum(run.metrics["checkpoint_weights"]) == pytest.approx(1)
    first, second = run.metrics["checkpoint_weights"]
    assert first > second > 0  # the rate falls
    assert run.metrics["warm_up_rows"] == len(ROWS)


@pytest.mark.parametrize("projection", [None, 512])
@pytest.mark.parametrize(
    "settings", [{"gradient": "plain"}, {"gradient": "plain", "peft": None}, WARM]
)
def test_what_repeats_the_reference_is_better_than_noise(
    score: Any, settings: Any, projection: Any
) -> None:
    good = [{**row, "id": f"{row['id']}-again"} for row in ROWS[4:]]
    bad = [shuffled(row, seed) for row in ROWS[4:] for seed in (0, 1)]
    bad = [{**row, "id": f"bad{i}"} for i, row in enumerate(bad)]
    run = score([*bad, *good], projection_dim=projection, **settings)
    scores = {row["id"]: row["score"] for row in run.rows}
    lowest = min(scores[row["id"]] for row in good)
    assert lowest > max(scores[row["id"]] for row in bad)
    assert lowest > 0


def test_itself_is_most_alike_and_its_task_the_nearest(score: Any) -> None:
    reference = [{**row, "task": f"t{i}"} for i, row in enumerate(ROWS[:3])]
    run = score(ROWS[:3], reference=reference, gradient="plain", projection_dim=None)
    for i, row in enumerate(run.rows):
        assert row["score"] == pytest.approx(1, abs=1e-5)
        assert row["nearest_task"] == f"t{i}"
    together = score(ROWS[:3], reference=ROWS[:3], gradient="plain", projection_dim=None)
    assert all(row["score"] < 0.999 for row in together.rows)


def test_neither_order_nor_windows_count(score: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = score(ROWS[:4], **WARM).rows
    monkeypatch.setattr(similarities, "WINDOW_TEXTS", 1)
    again = score(ROWS[3::-1], reference=ROWS[:3:-1], **WARM).rows
    for row, other in zip(first, reversed(again), strict=True):
        assert other["id"] == row["id"]
        assert other["score"] == pytest.approx(row["score"], abs=1e-5)


def test_what_cannot_be_scored_has_no_score(score: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Student.gradients

    def without(self: Student, text: Any) -> Any:
        loss, found = original(self, text)
        factor = {"r1": 0.0, "r2": math.inf}.get(text.name, 1.0)
        return loss, {name: gradient * factor for name, gradient in found.items()}

    monkeypatch.setattr(Student, "gradients", without)
    empty = {**ROWS[0], "id": "empty", "completion": " "}
    run = score([*ROWS[:3], empty], gradient="plain")
    assert [row["score"] is None for row in run.rows] == [False, True, True, True]
    bad = "its gradient is zero or not finite"
    assert [row["error"] for row in run.rows] == [None, bad, bad, "empty completion"]
    assert [row["nearest_task"] for row in run.rows] == ["", None, None, None]
    assert run.metrics["unscored"] == 3
    with pytest.raises(ModelError, match="no reference row of task 'x' has a gradient"):
        score(
            ROWS[:1],
            reference=[{**ROWS[0], "task": "y"}, {**ROWS[1], "task": "x"}],
            gradient="plain",
        )


def test_a_stage_that_was_killed_goes_on(
    score: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the second of two checkpoints: what is whole of windows of two is not computed again."""
    monkeypatch.setattr(similarities, "WINDOW_TEXTS", 2)
    whole = score(ROWS[:4], work_dir=tmp_path / "whole", **WARM)
    original = Student.gradients
    asked: list[str] = []

    def counted(self: Student, text: Any) -> Any:
        asked.append(text.name)
        if len(asked) == 12:
            raise Cut
        return original(self, text)

    monkeypatch.setattr(Student, "gradients", counted)
    with pytest.raises(Cut):
        score(ROWS[:4], work_dir=tmp_path / "cut", **WARM)
    assert asked == ["r4", "r5", "r0", "r1", "r2", "r3", "r4", "r5", "r0", "r1", "r2", "r3"]
    asked.clear()
    run = score(ROWS[:4], work_dir=tmp_path / "cut", **WARM)
    assert asked == ["r4", "r5", "r2", "r3"]
    assert json.dumps(run.rows) == json.dumps(whole.rows)


def test_the_seed_moves_the_projection(score: Any) -> None:
    """And nothing else, where there is neither an adapter nor a warm-up."""
    given = {"gradient": "plain", "peft": None}
    near = [score(ROWS[:1], seed=seed, projection_dim=256, **given).rows for seed in (0, 1, 1)]
    exact = [score(ROWS[:1], seed=seed, projection_dim=None, **given).rows for seed in (0, 1)]
    assert near[0] != near[1] == near[2]
    assert exact[0] == exact[1]
