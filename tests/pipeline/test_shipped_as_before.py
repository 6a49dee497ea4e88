"""What the longer files computed (tests/golden) is what the shipped ones of now ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_distill.paths import bundled_root
from llm_distill.pipeline.load import load_pipeline, profile_names
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.runtime.fingerprint import result_settings

OLD = Path(__file__).parents[1] / "golden" / "pipelines"
NEW = bundled_root() / "pipelines"
CASES = [
    (path.stem, profile)
    for path in sorted(OLD.glob("*.yaml"))
    for profile in (None, *profile_names(str(path)))
    if profile not in ("small", "paper")  # never run as they were then; both were mended
]


def _load_new(name: str, profile: str | None) -> PipelineConfig:
    """Most of what was a profile is a file of its own now, named after it."""
    own_file = NEW / f"{name}_{profile}.yaml"
    if profile is not None and own_file.exists():
        return load_pipeline(str(own_file))
    return load_pipeline(str(NEW / f"{name}.yaml"), profile=profile)


@pytest.mark.parametrize(("name", "profile"), CASES)
def test_every_stage_is_as_it_was(name: str, profile: str | None) -> None:
    new = _load_new(name, profile)
    old = load_pipeline(str(OLD / f"{name}.yaml"), profile=profile)
    assert new.models == old.models
    assert new.seed == old.seed
    before: dict[str, Any] = dict(old.stages)
    seen: set[str] = set()
    for stage_name, stage in new.stages.items():
        found = result_settings(stage)
        expected, last = result_settings(before[stage_name]), stage_name
        while expected["stage"] in ("parse", "verify") and stage.stage == "generate":
            own = found.pop(expected["stage"])  # a stage of its own before
            assert own == {key: expected[key] for key in own}, (stage_name, last)
            seen.add(last)
            last = before[last].rows
            expected = result_settings(before[last])
        assert found == expected, (stage_name, last)
        seen.add(last)
    assert seen == set(before)
