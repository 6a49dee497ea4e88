"""A stage is the class that its module defines, whatever base it imports."""

from __future__ import annotations

import pytest

from llm_distill.engines.asking_stage import AskingStage
from llm_distill.pipeline.registry import find_stage

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
