"""The shipped files of active generation: arms differ in their choice only."""

from __future__ import annotations

from typing import Any

import pytest

from llm_distill.errors import ConfigError
from llm_distill.pipeline.load import load_pipeline

FILE, CONTROLS = "pipelines/active.yaml", "pipelines/active_controls.yaml"
CHOICES = (
    "by_checked_loss", "by_loss", "by_own_loss", "by_disagreement", "by_entropy", "by_errors",
    "by_skill_gap", "by_mastery", "at_random",
)  # fmt: skip
CHOSEN = "stages.rounds.repeat.stages.chosen.rows"


def stages_of(file: str, *assignments: str) -> dict[str, Any]:
    return dict(load_pipeline(file, assignments=list(assignments)).stages)


@pytest.mark.parametrize("choice", CHOICES)
def test_one_setting_changes_the_choice_and_only_its_stages_run(choice: str) -> None:
    stages = stages_of(FILE, f"{CHOSEN}={choice}")
    others = {f"{other}@1" for other in CHOICES} - {f"{choice}@1"}
    assert f"{choice}@1" in stages
    assert not others & set(stages)
    assert stages[f"{choice}@1"].n == stages["chosen@1"].n == 12


def test_a_student_learns_all_rounds_from_its_first_weights() -> None:
    stages = stages_of(FILE)
    assert [stages[f"data@{i}"].rows for i in (1, 2, 3)] == [
        ["agreed@1"], ["agreed@2", "data@1"], ["agreed@3", "data@2"],
    ]  # fmt: skip
    assert {stages[f"trained@{i}"].model for i in (1, 2, 3)} == {"student"}
    assert [stages[f"losses@{i}"].model for i in (1, 2, 3)] == ["student", "trained@1", "trained@2"]


def test_what_is_trained_on_was_in_no_split() -> None:
    for file in (FILE, CONTROLS):
        for name, stage in stages_of(file).items():
            if name.partition("@")[0].endswith("clean"):
                assert set(stage.against) == {"seeds", "validation", "test"}, name


def test_the_arms_differ_in_what_they_choose_only() -> None:
    stages = stages_of(CONTROLS)
    students = stages["controls"].models[2:]
    assert set(students) == {
        "trained@3", "loss@3", "own_loss@3", "disagreement@3", "entropy@3", "errors@3",
        "skill_gap@3", "static", "static_random",
    }  # fmt: skip
    assert stages["controls"].models[:2] == ["random@3", "student"]
    prefixes = {name: name.partition("@")[0] for name in ("random@3", *students)}
    for kind in ("new", "distinct", "answers", "agreed"):
        own = [
            stages[f"{prefix}_{kind}" + ("@3" if "@" in name else "")]
            for name, prefix in prefixes.items()
            if prefix != "trained"
        ]
        assert len({stage.model_dump_json(exclude={"rows"}) for stage in own}) == 1, kind
    trained = [stages[name].model_dump(exclude={"rows", "optional"}) for name in prefixes]
    assert all(settings == trained[0] for settings in trained)
    shared = stages["random_new@3"], stages["new_questions@3"]
    assert len({stage.model_dump_json(exclude={"rows"}) for stage in shared}) == 1


def test_a_choice_that_there_is_not_is_told() -> None:
    with pytest.raises(ConfigError, match="by_losses"):
        load_pipeline(FILE, assignments=[f"{CHOSEN}=by_losses"])
