"""A stage is the class that its module defines, whatever base it imports."""

from __future__ import annotations

import pytest

from llm_distill.engines.asking_stage import AskingStage
from llm_distill.pipeline.registry import find_stage, own_stage_names

ASKING = (
    "assess",
    "discover_skills",
    "evaluate",
    "find_missing_skills",
    "generate",
    "label_skills",
    "score_in_context",
    "synthesise",
)


@pytest.mark.parametrize("name", ASKING)
def test_a_stage_is_found_and_not_the_base_that_its_module_imports(name: str) -> None:
    found = find_stage(name)

    assert found is not None
    assert found is not AskingStage
    assert issubclass(found, AskingStage)
    assert found.__module__ == f"llm_distill.stages.{name}"


@pytest.mark.parametrize("name", sorted(own_stage_names()))
def test_of_two_bases_the_one_that_says_more_of_a_setting_has_the_last_word(name: str) -> None:
    """Pydantic takes the first base's fields, those that it has of its own base among them."""
    stage = find_stage(name)
    assert stage is not None
    for setting, field in stage.model_fields.items():
        says = next(kind for kind in stage.__mro__ if setting in kind.__annotations__)
        assert field.default == says.model_fields[setting].default, setting


def test_preferences_train_an_adapter_unless_told_otherwise() -> None:
    for name in ("train_dpo", "train_kto"):
        settings = find_stage(name).model_fields  # type: ignore[union-attr]
        assert settings["peft"].default is not None
        assert settings["learning_rate"].default == 1e-5
