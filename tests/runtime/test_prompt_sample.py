"""The prompts that `plan` counts are those that the run then asks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

ARTE = ("pipelines/arte.yaml", "--workspace", "ws")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of its own; what is bundled is found all the same."""
    monkeypatch.chdir(tmp_path)


def planned(cli, *arguments):
    found = json.loads(cli("plan", *arguments, "--json").out)
    return {each["stage"]: each for each in found["stages"]}


def run(cli, *arguments):
    """The manifests of a run, by stage."""
    assert cli("run", *arguments).code == 0
    manifests = (json.loads(p.read_text()) for p in Path("ws/artifacts").glob("*/manifest.json"))
    return {manifest["name"]: manifest for manifest in manifests}


def test_prompts_before_a_run_are_those_of_the_run(here, cli):
    """Of bundled rows in files, and then of rows that stages have made."""
    before = planned(cli, *ARTE)
    assert before["worked_examples"]["prompt_tokens_counted_by"] == "tokenizer"
    assert before["takers"]["prompt_tokens"] is None  # its examples are still to be written
    made = run(cli, *ARTE, "--until", "worked_examples")
    measured = made["worked_examples"]
    assert measured["completions"] == {"made": 24}
    assert before["worked_examples"]["most_requests"] == 24
    assert before["worked_examples"]["prompt_tokens"] == measured["tokens_in"]


EXAM = {
    "name": "p",
    "models": {"m": {"model_name_or_path": "data/models/tiny-student"}},
    "stages": {
        "rows": {"stage": "load_dataset", "path": "rows.jsonl"},
        "exam": {
            "stage": "evaluate",
            "rows": "rows",
            "models": ["m"],
            "template": "ask.jinja",
            "shots": [0, 1],
            "examples": "rows",
            "sampling": {"temperature": 0, "max_tokens": 2},
        },
    },
}


@pytest.mark.parametrize("n", [40, 300])
def test_of_many_rows_a_sample_is_counted(n, here, cli, tmp_path):
    said = {"rationale": "It is easy", "task": "sums"}
    rows = [
        {"id": str(i), "question": f"{i} + {i}?", "reference_answer": str(2 * i), **said}
        for i in range(n)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "ask.jinja").write_text(
        "{% for e in examples %}{{ e.question }} {{ e.rationale }} {% endfor %}{{ question }}"
    )
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(EXAM, sort_keys=False))
    arguments = ("p.yaml", "--workspace", "ws")
    before = planned(cli, *arguments)["exam"]
    assert run(cli, *arguments, "--until", "rows")
    then = planned(cli, *arguments)["exam"]
    exam = run(cli, *arguments)["exam"]
    assert then["most_requests"] == 2 * n == exam["completions"]["made"]
    measured = exam["tokens_in"]
    assert then["prompt_tokens"] == pytest.approx(measured, rel=0.05 if n > 200 else 0.02)
    assert before["prompt_tokens"] == pytest.approx(measured, rel=0.1 if n > 200 else 0.02)
