"""What the longer files computed (tests/golden) is what the shipped ones of now ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_distill.paths import bundled_root
from llm_distill.pipeline.load import load_pipeline, profile_names
from llm_distill.runtime.fingerprint import result_settings

OLD = Path(__file__).parents[1] / "golden" / "pipelines"
ARTE = [
    (f"{name}_{size}" if size else name, None, name, size)
    for name in ("arte", "arte_controls")
    for size in (None, "small", "paper")
]
OTHERS = [
    (path.stem, profile, path.stem, profile)
    for path in sorted(OLD.glob("*.yaml"))
    if not path.stem.startswith("arte")
    for profile in (None, *profile_names(str(path)))
]


@pytest.mark.parametrize(("file", "profile", "old_file", "old_profile"), [*ARTE, *OTHERS])
def test_every_stage_is_as_it_was(
    file: str, profile: str | None, old_file: str, old_profile: str | None
) -> None:
    new = load_pipeline(str(bundled_root() / "pipelines" / f"{file}.yaml"), profile=profile)
    old = load_pipeline(str(OLD / f"{old_file}.yaml"), profile=old_profile)
    assert new.models == old.models
    assert new.seed == old.seed
    before: dict[str, Any] = dict(old.stages)
    seen: set[str] = set()
    for name, stage in new.stages.items():
        found = result_settings(stage)
        expected, last = result_settings(before[name]), name
        while expected["stage"] in ("parse", "verify") and stage.stage == "generate":
            own = found.pop(expected["stage"])  # a stage of its own before
            assert own == {key: expected[key] for key in own}, (name, last)
            seen.add(last)
            last = before[last].rows
            expected = result_settings(before[last])
        assert found == expected, (name, last)
        seen.add(last)
    assert seen == set(before)
