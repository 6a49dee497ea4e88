"""A recipe for a result of a `repeat`: as many rounds as are needed, and a valid file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_distill.pipeline.load import load_pipeline
from llm_distill.publish.recipe import recipe

PIPELINE: dict[str, Any] = {
    "name": "toy",
    "seed": 3,
    "models": {
        "base": {"model_name_or_path": "org/base"},
        "other": {"model_name_or_path": "org/other"},
    },
    "stages": {
        "numbers": {"stage": "toy_rows", "n": 4},
        "more": {"stage": "toy_rows", "n": 2},
        "beside": {"stage": "toy_map", "rows": "more"},
        "rounds": {
            "repeat": {
                "times": 3,
                "start": {"trained": "base"},
                "stages": {
                    "answers": {"stage": "toy_map", "rows": "numbers"},
                    "trained": {
                        "stage": "toy_train",
                        "model": "trained@previous",
                        "rows": "answers",
                    },
                    "side": {"stage": "toy_map", "rows": "beside"},
                },
            }
        },
        "unused": {"stage": "toy_rows"},
        "late": {"stage": "toy_train", "model": "other", "rows": "answers@last"},
    },
}


@pytest.mark.parametrize(
    ("stages", "kept", "times"),
    [
        (["numbers", "answers@1"], ["numbers", "more", "beside", "rounds"], 1),
        (["numbers", "answers@2", "trained@1"], ["numbers", "more", "beside", "rounds"], 2),
        (["numbers"], ["numbers"], None),
    ],
)
def test_as_many_rounds_as_are_needed(
    stages: list[str], kept: list[str], times: int | None, tmp_path: Path
) -> None:
    models = ["base"] if "trained@1" in stages else []
    made = recipe(PIPELINE, stages, models, {})
    assert list(made["stages"]) == kept
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(made, sort_keys=False))
    loaded = load_pipeline(str(file)).stages
    if times is not None:
        assert made["stages"]["rounds"]["repeat"]["times"] == times
        assert list(made["models"]) == ["base"]  # which the block starts with
        assert f"answers@{times}" in loaded
    assert set(stages) <= set(loaded)
    assert PIPELINE["stages"]["rounds"]["repeat"]["times"] == 3  # the run's own file is unchanged


def test_an_exam_of_the_last_round_keeps_all_rounds() -> None:
    made = recipe(PIPELINE, ["numbers", "answers@3", "late"], ["other"], {})
    assert made["stages"]["rounds"]["repeat"]["times"] == 3
    assert list(made["stages"])[-1] == "late"


@pytest.mark.parametrize("times", ["3", 3])
def test_times_from_a_variable_are_text(times: Any) -> None:
    entries = PIPELINE["stages"]
    block = {"repeat": {**entries["rounds"]["repeat"], "times": times}}
    again = {
        "times": 1,
        "start": {"more_trained": "trained@last"},
        "stages": {
            "more_trained": {
                "stage": "toy_train", "model": "more_trained@previous", "rows": "numbers",
            },
        },
    }  # fmt: skip
    stages = {**entries, "rounds": block, "again": {"repeat": again}}
    made = recipe({**PIPELINE, "stages": stages}, ["numbers", "more_trained@1"], ["base"], {})
    assert made["stages"]["rounds"]["repeat"]["times"] == 3
