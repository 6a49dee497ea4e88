"""Which of a run's models is asked, served and exported."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from llm_distill.errors import ConfigError
from llm_distill.runtime.prompt_form import chosen_model
from llm_distill.stages.train_classifier import TrainClassifier
from llm_distill.stages.train_sft import TrainSft

OWN = {"model": "base", "rows": "r"}


def finished(*trained: str) -> Any:
    stages = {
        "sorts": TrainClassifier(stage="train_classifier", labels=None, **OWN),
        "writes": TrainSft(stage="train_sft", **OWN),
    }
    return SimpleNamespace(
        pipeline=SimpleNamespace(stages=stages, models={"base": None}),
        record=SimpleNamespace(name="x/1"),
        trained=lambda: list(trained),
        model_name=lambda name: name,
    )


def test_a_classifier_writes_nothing() -> None:
    says = "is a classifier.*llm-distill path x/1 sorts"
    for run, named in ((finished("sorts"), None), (finished("writes", "sorts"), "sorts")):
        with pytest.raises(ConfigError, match=says):
            chosen_model(run, named)


def test_of_a_classifier_and_a_writer_the_writer_is_meant() -> None:
    assert chosen_model(finished("writes", "sorts"), None)[0] == "writes"
    assert chosen_model(finished("sorts"), "base") == ("base", "")
