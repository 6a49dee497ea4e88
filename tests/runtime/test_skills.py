"""Skills in whole runs: the list and its edits, a student that is right, a run that is killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.engines.loopback import Call, Loopback, answer_to

N_ROWS = 40
MODELS = """\
name: toy
models:
  teacher: {model_name_or_path: served-model, engine: ENGINE}
stages:
  answers: {stage: load_dataset, path: answers.jsonl}
"""
SCRIPTED = "{kind: scripted, answers: teacher.jsonl}"
FLOW = (
    MODELS.replace("ENGINE", SCRIPTED)
    + """\
  skills: {stage: discover_skills, rows: answers, model: teacher, template: discover.jinja}
  labelled: {stage: label_skills, rows: answers, skills: skills, model: teacher, template: l.jinja}
  missing:
    stage: find_missing_skills
    rows: answers
    skills: skills
    model: teacher
    template: missing.jinja
  profile: {stage: skill_profile, rows: missing}
"""
)
TEACHER = [
    ("Name", "<skill>Adding up</skill> <skill>carrying</skill>"),
    ("Label", "<skill>carrying, magic</skill><reason>x</reason>"),
    ("Judge", "<judge>incorrect</judge><reason>x</reason><skill>carrying</skill>"),
]


def write_answers(n_difficult: int) -> None:
    rows = [
        {"id": f"v{i}", "question": f"{i} + 1?", "completion": "2", "is_difficult": i < n_difficult}
        for i in range(N_ROWS)
    ]
    Path("answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def flow(
    bench: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Any]:
    monkeypatch.chdir(tmp_path)
    for name in ("http_proxy", "HTTP_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    write_answers(3)
    entries = [{"contains": part, "completion": text} for part, text in TEACHER]
    Path("teacher.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    Path("discover.jinja").write_text("Name{% for q in questions %} {{ q }}{% endfor %}")
    Path("l.jinja").write_text("Label {{ skills | length }} {{ question }}")
    Path("missing.jinja").write_text("Judge {{ question }} {{ completion }}")
    return bench


def test_from_questions_to_a_profile_and_the_list_can_be_edited(
    flow: Callable[[str], Any], cli: Any
) -> None:
    toy = flow(FLOW)
    run = ("run", toy.file, "--workspace", toy.workspace.root)
    done = cli(*run)
    assert (done.code, done.err) == (0, "")
    file = toy.artifact("skills") / "skills.yaml"
    assert f"to read: {file}" in done.out
    assert "profile: missing skills" in done.out
    assert "carrying" in done.out.split("profile: missing skills")[1]
    assert "3" in done.out.split("carrying")[-1]
    manifest = toy.workspace.latest("skills")
    assert "skills.yaml" in manifest.files
    assert toy.plan()["skills"][0] == "reuse"  # the file is a part of it, and it is whole

    Path("mine.yaml").write_text(file.read_text().replace("adding_up", "sums"))
    toy.write(
        toy.file.read_text().replace(
            "{stage: discover_skills, rows: answers, model: teacher, template: discover.jinja}",
            "{stage: load_skills, path: mine.yaml}",
        )
    )
    toy.run()
    assert toy.display.ran == ["skills", "labelled", "missing"]  # not the profile: the same rows
    Path("mine.yaml").write_text("- sums\n- carrying\n- order\n")
    toy.run()
    assert toy.display.ran == ["skills", "labelled", "missing"]
    assert toy.plan()["skills"][0] == "reuse"


def test_a_wrong_list_is_said_with_its_place_before_anything_runs(
    flow: Callable[[str], Any], cli: Any
) -> None:
    toy = flow("name: toy\nstages:\n  skills: {stage: load_skills, path: mine.yaml}\n")
    for text, told in (
        (None, "no file 'mine.yaml'"),
        ("a: [b]\nc: d\n", "mine.yaml:2: expected a mapping of each task"),
    ):
        if text is not None:
            Path("mine.yaml").write_text(text)
        said = cli("validate", toy.file)
        assert said.code == 2
        assert "stages.skills.path" in said.err
        assert told in said.err


def test_a_student_that_is_right_is_no_error(flow: Callable[[str], Any], cli: Any) -> None:
    write_answers(0)
    again = (
        FLOW.split("  profile:")[0].split("  missing:")[1].replace("rows: answers", "rows: missing")
    )
    toy = flow(f"{FLOW}  again:{again}")
    done = cli("run", toy.file, "--workspace", toy.workspace.root)
    assert (done.code, done.err) == (0, "")
    said = (
        "'missing' has no rows: no question is difficult, or every answer was judged correct. "
        "The student is already right; there is nothing to teach"
    )
    assert done.out.count(said) == 1
    manifest = toy.workspace.latest("profile")
    assert (manifest.rows_out, manifest.warnings) == (0, (said,))
    assert toy.workspace.latest("missing").dropped == {"not difficult": N_ROWS}
    assert toy.workspace.latest("again").rows_out == 0


@pytest.fixture
def server() -> Iterator[Loopback]:
    server = Loopback()
    yield server
    server.close()


def test_labelling_that_is_killed_half_way_asks_only_for_what_is_missing(
    flow: Callable[[str], Any], server: Loopback
) -> None:
    engine = f"{{kind: openai, base_url: '{server.url}', max_concurrency: 2}}"
    Path("mine.yaml").write_text("[adding, carrying]\n")
    toy = flow(
        MODELS.replace("ENGINE", engine)
        + "  skills: {stage: load_skills, path: mine.yaml}\n"
        + FLOW.split("discover.jinja}\n")[1].split("  missing:")[0]
    )

    async def slowly(call: Call) -> web.StreamResponse:
        await asyncio.sleep(0.02)
        return web.json_response(answer_to(call, "<skill>carrying</skill><reason>x</reason>"))

    server.answer = slowly
    process = toy.start()
    until = time.monotonic() + 60
    while len(server.calls) < N_ROWS / 2:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < until
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while server.at_once:
        time.sleep(0.005)
    before = len(server.calls)
    assert before < N_ROWS
    record = toy.run()
    labelled = toy.workspace.find(record.stages["labelled"].artifact)
    rows = toy.rows(record, "labelled")
    assert [row["skills"] for row in rows] == [["carrying"]] * N_ROWS
    calls = Counter(call.prompt for call in server.calls)
    assert len(calls) == N_ROWS
    assert calls.total() - N_ROWS <= 2  # those that were open at the kill
    made = labelled.manifest.completions["made"]
    assert made == calls.total() - before
    assert labelled.manifest.completions["reused"] == N_ROWS - made
    assert all("structured_outputs" in call.body for call in server.calls)
