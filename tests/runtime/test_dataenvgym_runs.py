"""DataEnvGym's rounds with a teacher and a student from a script, so that the truth is known.

The student is wrong about `sub` and `day`, and the teacher never agrees with itself about `day`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.engines.base import Request
from llm_distill.engines.scripted.engine import prompt_text

SKILLS = ("add", "sub", "mul", "day")
PIPELINE = """\
name: loop
variables: {task_description: Solve.}
models:
  teacher:
    model_name_or_path: scripted
    engine: {kind: scripted, function: "tests.runtime.test_dataenvgym_runs:teacher"}
  student:
    model_name_or_path: scripted
    engine: {kind: scripted, function: "tests.runtime.test_dataenvgym_runs:with_gaps"}
stages:
  items: {stage: load_dataset, path: items.jsonl}
  references: {stage: load_dataset, path: references.jsonl}
  before: &exam
    stage: evaluate
    rows: items
    models: [student]
    template: stat/exam.jinja
  rounds:
    repeat:
      times: 2
      start: {watched: before, plan: null, all: null}
      stages:
        plan:
          stage: plan_data
          rows: watched@previous
          before: plan@previous
          made: all@previous
          policy: {kind: list}
          n: 12
        written:
          stage: synthesise
          profile: plan
          n_column: n
          questions: items
          references: references
          model: teacher
          template: stat/synthesise.jinja
        answers:
          stage: generate
          rows: written
          model: teacher
          template: arte/rationale.jinja
          n: 2
          sampling: {temperature: 0.7}
          parse: {tags: {answer: ans}, keep_text_as: rationale, on_failure: keep}
        agreed: {stage: consensus, rows: answers}
        unknown: {stage: drop_known, rows: agreed, model: student, template: stat/exam.jinja}
        all: {stage: mix, rows: [unknown, all@previous]}
        watched: {<<: *exam}
"""


def teacher(request: Request) -> str:
    """Two new questions of the skill, or an answer; about days another one each time."""
    prompt = prompt_text(request)
    asked = re.search(r"new questions that need this skill", prompt)
    if asked:
        (skill,) = re.findall(r"need the skill (\w+):", prompt)
        number = request.seed or 0
        return "".join(f"<question>{skill} {number + i}?</question>" for i in range(2))
    skill, number = re.findall(r"Question: (\w+) (\d+)\?", prompt)[-1]
    return f"<ans>{request.seed if skill == 'day' else number}</ans>"


def student(request: Request, gaps: tuple[str, ...]) -> str:
    skill, number = re.findall(r"Question: (\w+) (\d+)\?", prompt_text(request))[-1]
    return f"<ans>{int(number) + (skill in gaps)}</ans>"


def with_gaps(request: Request) -> str:
    return student(request, ("sub", "day"))


def without_gaps(request: Request) -> str:
    return student(request, ())


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]) -> Any:
    """Runs the pipeline with a student, and gives each stage's rows, manifest and the output."""
    monkeypatch.chdir(tmp_path)
    for name, first in (("items", 0), ("references", 100)):
        rows = [
            {
                "id": f"{name}-{skill}-{i}",
                "task": "s",
                "question": f"{skill} {first + i}?",
                "reference_answer": str(first + i),
                "rationale": f"<ans>{first + i}</ans>",
                "skills": [skill],
            }
            for i in range(3)
            for skill in SKILLS
        ]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(who: str) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]], str]:
        from datasets import load_from_disk

        Path("loop.yaml").write_text(PIPELINE.replace("with_gaps", who))
        said = cli("run", "loop.yaml", "--workspace", "w")
        assert said.code == 0, said.err
        (record,) = Path("w/runs/loop").glob("*/run.json")
        found = {
            stage: Path("w/artifacts") / own["artifact"]
            for stage, own in json.loads(record.read_text())["stages"].items()
        }
        manifests = {n: json.loads((p / "manifest.json").read_text()) for n, p in found.items()}
        return manifests, {n: list(load_from_disk(str(p))) for n, p in found.items()}, said.out

    return run


def test_the_gaps_are_planned_for_and_a_lost_budget_is_told(loop: Any) -> None:
    manifests, rows, out = loop("with_gaps")
    for number in (1, 2):
        plan = {row["skill"]: (row["n"], row["planned"]) for row in rows[f"plan@{number}"]}
        assert plan == {
            "sub": (6, 6 * number), "day": (6, 6 * number), "add": (0, 0), "mul": (0, 0)
        }  # fmt: skip
    assert manifests["agreed@1"]["dropped"] == {"no agreement": 12}
    assert {row["skill"] for row in rows["all@2"]} == {"sub"}
    assert len(rows["all@2"]) == 24  # six questions a round, each solved twice
    assert {row["source"] for row in rows["all@2"]} == {"unknown", "all"}
    assert manifests["plan@2"]["metrics"]["rows_lost"] == {"s/day": 6}
    assert "s/day: 6 rows were planned so far, and 'all@1' has none of them" in " ".join(
        out.split()
    )


def test_of_a_student_without_gaps_nothing_is_made(loop: Any) -> None:
    manifests, rows, out = loop("without_gaps")
    assert "none of the 12 answers of 'before' is wrong: nothing is planned" in " ".join(
        out.split()
    )
    assert all(row["n"] == 0 for number in (1, 2) for row in rows[f"plan@{number}"])
    assert rows["all@2"] == []
    assert manifests["plan@2"]["metrics"]["rows_lost"] == {}
