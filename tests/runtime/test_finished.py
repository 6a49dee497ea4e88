"""Which run a pipeline's bare name stands for."""

import json
from pathlib import Path
from typing import Any

import pytest

from llm_distill.runtime.finished import open_run

RECORD: dict[str, Any] = {
    "pipeline": "p.yaml",
    "profile": None,
    "seed": 7,
    "pid": 1,
    "stages": {},
}


def begun(root: Path, number: int, **values: Any) -> None:
    name = f"p/{number}"
    path = root / "runs" / name / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**RECORD, "name": name, "started": number, **values}))


@pytest.mark.parametrize("newer", [{"state": "interrupted"}, {"state": "done", "sweep": "s.json"}])
def test_a_name_stands_for_the_newest_finished_run_outside_of_sweeps(
    tmp_path: Path, newer: dict[str, Any]
) -> None:
    begun(tmp_path, 1, state="done")
    begun(tmp_path, 2, state="done")
    said: list[str] = []
    assert open_run("p", tmp_path, says=said.append).record.name == "p/2"
    assert said == []
    begun(tmp_path, 3, **newer)
    assert open_run("p", tmp_path, says=said.append).record.name == "p/2"
    (message,) = said
    assert "'p' stands for p/2" in message
    assert "p/3" in message
    assert open_run("p/3", tmp_path, says=said.append).record.name == "p/3"
    assert len(said) == 1


def test_a_name_without_a_finished_run_stands_for_its_newest(tmp_path: Path) -> None:
    begun(tmp_path, 1, state="done", sweep="s.json")
    begun(tmp_path, 2, state="failed")
    said: list[str] = []
    assert open_run("p", tmp_path, says=said.append).record.name == "p/2"
    assert "no run of 'p' outside a sweep has finished" in said[0]
