"""Every shipped pipeline is valid in every profile."""

from __future__ import annotations

import pytest

from llm_distill.paths import bundled_root
from llm_distill.pipeline.load import load_pipeline, profile_names

FILES = sorted(str(path) for path in (bundled_root() / "pipelines").glob("*.yaml"))


def test_there_are_pipelines() -> None:
    assert FILES


@pytest.mark.parametrize("file", FILES)
def test_valid_in_every_profile(file: str) -> None:
    for profile in (None, *profile_names(file)):
        assert load_pipeline(file, profile=profile).stages
