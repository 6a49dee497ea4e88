"""run.json as it lies on disk: read whichever version of the package wrote it."""

import json
from pathlib import Path
from typing import Any

import pytest

from llm_distill.errors import WorkspaceError
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.record import read_run, runs_of

STAGE = {"state": "done", "artifact": "a-0123456789ab", "rows": 3, "dropped": {"empty": 1}}
FIRST: dict[str, Any] = {
    "name": "p/20260117-093012",
    "state": "done",
    "pipeline": "p.yaml",
    "profile": None,
    "seed": 7,
    "pid": 1,
    "started": 1795852162.25,
    "stages": {"a": {**STAGE, "tokens": 5, "seconds": 0.5, "why": ""}},
}


def written(root: Path, values: dict[str, Any]) -> Workspace:
    path = root / "runs" / FIRST["name"] / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(values))
    return Workspace(root)


def test_a_record_without_a_version_is_read_and_keeps_its_content(tmp_path: Path) -> None:
    record = read_run(written(tmp_path, FIRST), None)
    record.save()
    again = json.loads((record.directory / "run.json").read_text())
    assert again == {
        "schema_version": 1,
        "process": None,
        "settings_digest": None,
        "assignments": [],
        "sweep": None,
        "loops": {},
        **FIRST,
        "stages": {"a": {**FIRST["stages"]["a"], "requests": 0, "cost": 0.0}},
    }


def test_keys_of_a_newer_version_are_passed_over(tmp_path: Path) -> None:
    newer = {**FIRST, "new": 1, "stages": {"a": {**FIRST["stages"]["a"], "new": 1}}}
    assert read_run(written(tmp_path, newer), None).stages["a"].rows == 3


def test_a_record_of_another_shape_is_damaged(tmp_path: Path) -> None:
    workspace = written(tmp_path, {**FIRST, "stages": 3})
    with pytest.raises(WorkspaceError, match=r"is damaged \(stages: .*remove the folder"):
        read_run(workspace, None)


def test_the_newest_run_began_last_whatever_its_folder_is_called(tmp_path: Path) -> None:
    """As after a clock was set back: folders are named by local time."""
    workspace = written(tmp_path, FIRST)
    later = {**FIRST, "name": "p/20250101-000000", "started": FIRST["started"] + 60}
    path = tmp_path / "runs" / later["name"] / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(later))
    assert read_run(workspace, "p").name == later["name"]
    assert [run.name for run in runs_of(workspace, "p")] == [later["name"], FIRST["name"]]


@pytest.mark.parametrize("started", ["soon", None, True, [], 10**400, float("nan")])
def test_a_start_that_makes_no_sense_hides_no_run(tmp_path: Path, started: Any) -> None:
    workspace = written(tmp_path, FIRST)
    path = tmp_path / "runs" / "p" / "bad" / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**FIRST, "name": "p/bad", "started": started}))
    said: list[str] = []
    assert read_run(workspace, "p", on_damaged=said.append).name in (FIRST["name"], "p/bad")
