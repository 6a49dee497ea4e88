"""From a run to the Hub and back into a run: the command line, the real client, loopback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_distill.digests import fingerprint
from tests.publish.loopback_hub import TOKEN, Fault, LoopbackHub

STUDENT = Path(__file__).parents[2] / "data" / "models" / "tiny-student"

MADE = f"""\
name: made
models:
  teacher:
    model_name_or_path: scripted/teacher
    engine: {{kind: scripted, answers: answers.jsonl}}
  student: {{model_name_or_path: {STUDENT}, prompt_format: text}}
stages:
  items: {{stage: load_dataset, path: data/word_problems, split: test, limit: 4}}
  answers:
    stage: generate
    rows: items
    model: teacher
    template: arte/rationale_bare.jinja
    variables: {{task_description: Solve it.}}
    sampling: {{temperature: 0, max_tokens: 8}}
  tuned:
    stage: train_sft
    rows: answers
    model: student
    max_steps: 1
    peft: {{r: 2}}
  exam:
    stage: evaluate
    rows: items
    models: [student, tuned]
    template: arte/exam.jinja
    variables: {{task_description: Solve it.}}
    sampling: {{temperature: 0, max_tokens: 4}}
"""
STAGES = """\
  published: {stage: push_to_hub, rows: answers, repo_id: me/rows, license: mit}
  whole: {stage: merge_adapter, model: tuned}
  released: {stage: push_to_hub, model: whole, repo_id: me/whole, evaluations: [exam]}
"""
BACK = """\
name: back
models:
  pulled: {model_name_or_path: me/whole, prompt_format: text}
stages:
  rows: {stage: load_dataset, path: me/rows}
  exam:
    stage: evaluate
    rows: rows
    models: [pulled]
    template: arte/exam.jinja
    variables: {task_description: Solve it.}
    sampling: {temperature: 0, max_tokens: 4}
"""


@pytest.fixture
def server() -> Iterator[LoopbackHub]:
    hub = LoopbackHub()
    yield hub
    hub.close()


@pytest.fixture
def command(tmp_path: Path, server: LoopbackHub) -> Any:
    """`llm-distill …` in a new process: its output, after a check of its exit code."""
    (tmp_path / "answers.jsonl").write_text('{"contains": "", "completion": "It is 4."}\n')

    def run(*arguments: str, code: int = 0, **more: str) -> str:
        environment = {
            **os.environ,
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": TOKEN,
            "OMP_NUM_THREADS": "1",
            **more,
        }
        environment.pop("HF_HUB_CACHE", None)
        done = subprocess.run(
            [sys.executable, "-m", "llm_distill", *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        assert TOKEN not in done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.mark.slow
def test_a_pipeline_pushes_and_another_one_works_with_what_it_pushed(tmp_path, server, command):
    (tmp_path / "made.yaml").write_text(MADE + STAGES)
    said = command("run", "made.yaml")
    assert "✓ released: 1 row" in said
    assert set(server.repos) == {"datasets/me/rows", "models/me/whole"}
    assert all(repo.private and len(repo.commits) == 2 for repo in server.repos.values())
    whole = server.repos["models/me/whole"].files
    (merged,) = (tmp_path / "data/artifacts").glob("whole-*")
    for name in ("model.safetensors", "config.json", "tokenizer.json", "generation_config.json"):
        assert whole[name] == (merged / name).read_bytes(), name
    card = whole["README.md"].decode()
    assert "| exam | 4 | 0 |" in card
    assert str(tmp_path) not in card + whole["pipeline.yaml"].decode()

    n_uploads = len(server.uploads)
    again = command("run", "made.yaml")  # the Hub is asked, and has everything
    assert again.count("▶") == 2
    assert "✓ published" in again
    assert "✓ released" in again
    assert all(len(repo.commits) == 2 for repo in server.repos.values())
    assert len(server.uploads) == n_uploads
    changed = MADE.replace("limit: 4", "limit: 3") + STAGES
    (tmp_path / "made.yaml").write_text(changed)
    assert "✓ published" in command("run", "made.yaml", "--until", "published")
    assert len(server.repos["datasets/me/rows"].commits) == 3

    (tmp_path / "made.yaml").write_text(MADE + STAGES)  # and back, to what was pushed once
    assert "✓ published" in command("run", "made.yaml", "--until", "published")
    rows = server.repos["datasets/me/rows"]
    assert len(rows.commits) == 4
    assert rows.files == rows.commits[1]
    (tmp_path / "made.yaml").write_text(changed)
    command("run", "made.yaml", "--until", "published")

    (tmp_path / "back.yaml").write_text(BACK)
    assert "exam: accuracy" in command("run", "back.yaml", "--workspace", "pulled")
    from datasets import load_from_disk

    (pulled,) = (tmp_path / "pulled/artifacts").glob("rows-*")
    rows = load_from_disk(str(pulled))
    newest = max((tmp_path / "data/artifacts").glob("answers-*"), key=lambda p: p.stat().st_mtime)
    assert rows.to_list() == load_from_disk(str(newest)).to_list()
    assert len(rows) == 3
    for log in tmp_path.rglob("*.log"):
        assert TOKEN not in log.read_text()
    for record in (*tmp_path.rglob("manifest.json"), *tmp_path.rglob("run.json")):
        assert TOKEN not in record.read_text()


@pytest.fixture
def cli(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: LoopbackHub) -> Any:
    """The command line in an empty folder and with a Hub: exit code and output."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        code, out, err = cli(*arguments)
        return code, out + err

    return run


def recorded(made: Any, distilled: dict[str, Any], pipeline: dict[str, Any]) -> None:
    """A run of the pipeline whose stages have these artifacts."""
    folder = made.workspace.runs / "toy" / "20260101-000000"
    folder.mkdir(parents=True)
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
    stages = {a.manifest.name: {"artifact": a.path.name} for a in distilled.values()}
    stages["elsewhere"] = {"state": "failed"}
    values = {"name": "toy/20260101-000000", "state": "done", "pipeline": "toy.yaml"}
    rest = {"profile": None, "seed": 3, "pid": 1, "started": 0.0}
    (folder / "run.json").write_text(json.dumps({**values, **rest, "stages": stages}))


def test_the_push_command(made, distilled, pipeline, hub, cli):
    recorded(made, distilled, pipeline)
    there = ("--workspace", str(made.workspace.root))
    code, dry = cli("push", "toy", "distilled", "--repo-id", "me/toy", "--dry-run", *there)
    assert code == 0
    assert "would push 5 files" in dry
    assert "1,000  adapter_model.safetensors" in dry
    assert "library_name: peft" in dry
    assert "warning: model 'org/teacher'" in dry
    assert hub.repos == {}

    hub.faults.append(Fault("POST", "/commit/", 429, "Slow"))
    code, broken = cli("push", "toy", "distilled", "--repo-id", "me/toy", *there)
    assert code == 7
    assert "error: the Hub asks to slow down" in broken
    code, done = cli("push", "toy", "distilled", "--repo-id", "me/toy", *there)
    assert code == 0
    assert f"pushed to {hub.url}/me/toy (commit " in done
    assert len(hub.uploads) == 1
    repo = hub.repos["models/me/toy"]
    assert repo.private
    assert repo.messages[1] == "Push toy/20260101-000000, stage distilled, with llm-distill"
    assert b"50.0% (30.0% to 70.0%)" in repo.files["README.md"]

    public = ("--public", "--license", "mit")
    assert cli("push", "toy", "clean", "--repo-id", "me/rows", *public, *there)[0] == 0
    assert not hub.repos["datasets/me/rows"].private
    assert set(hub.repos["datasets/me/rows"].files) >= {"data/train-00000-of-00001.parquet"}
    form = ("--conversation-form", "trl", "--dry-run")
    code, dry = cli("push", "toy", "clean", "--repo-id", "me/rows", *form, *there)
    assert code == 0
    assert "They are in TRL's form: `prompt` and `completion`" in dry


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("clean", "--repo-id", "rows"), 2, "has no owner"),
        (("clean", "--repo-id", "me/rows", "--license", "mti"), 2, "did you mean 'mit'"),
        (("clean", "--repo-id", "me/rows", "--merge"), 2, "gives rows, not an adapter"),
        (("clean", "--repo-id", "me/rows", "--conversation-form", "gpt"), 2, "'openai', "),
        (("distilled", "--repo-id", "me/toy", "--conversation-form", "trl"), 2, "gives a model"),
        (("test", "--repo-id", "me/rows", "--conversation-form", "trl"), 3, "neither messages nor"),
        (("claen", "--repo-id", "me/rows"), 5, "has no stage 'claen'; did you mean 'clean'"),
        (("elsewhere", "--repo-id", "me/rows"), 5, "has nothing to push: it is failed"),
    ],
)
def test_what_cannot_be_pushed(made, distilled, pipeline, hub, cli, arguments, code, says):
    recorded(made, distilled, pipeline)
    found, said = cli("push", "toy", *arguments, "--workspace", str(made.workspace.root))
    assert (found, says in said) == (code, True), said
    assert hub.repos == {}


def test_an_artifact_that_was_damaged_is_not_pushed(made, distilled, pipeline, hub, cli):
    recorded(made, distilled, pipeline)
    (distilled["student"].path / "adapter_model.safetensors").write_bytes(b"x")
    there = ("--workspace", str(made.workspace.root))
    code, said = cli("push", "toy", "distilled", "--repo-id", "me/toy", *there)
    assert code == 5
    assert "is damaged" in said
    assert hub.repos == {}


@pytest.mark.parametrize("which", ["answers", "exam"])
def test_a_push_that_would_quote_a_damaged_artifact_is_refused(
    made, distilled, pipeline, hub, cli, which
):
    recorded(made, distilled, pipeline)
    file = distilled[which].path / "manifest.json"
    file.write_text(file.read_text().replace('"rows_out": 4', '"rows_out": 9'))
    there = ("--workspace", str(made.workspace.root))
    code, said = cli("push", "toy", "distilled", "--repo-id", "me/toy", *there)
    assert code == 5
    assert f"error: {distilled[which].path} is damaged (manifest.json was edited" in said
    assert hub.repos == {}


def test_a_push_says_of_which_run_and_refuses_settings_that_were_edited(
    made, distilled, pipeline, hub, cli
):
    recorded(made, distilled, pipeline)
    folder = made.workspace.runs / "toy" / "20260101-000000"
    raw = json.loads((folder / "run.json").read_text())
    raw["settings_digest"] = fingerprint((folder / "pipeline.yaml").read_text())
    (folder / "run.json").write_text(json.dumps(raw))
    arguments = ("push", "toy", "distilled", "--repo-id", "me/toy", "--dry-run")
    code, said = cli(*arguments, "--workspace", str(made.workspace.root))
    assert code == 0
    began = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(0))
    assert f"from toy/20260101-000000, started {began}, done\n" in said
    with (folder / "pipeline.yaml").open("a") as file:
        file.write("\n# better\n")
    code, said = cli(*arguments, "--workspace", str(made.workspace.root))
    assert code == 5
    assert "pipeline.yaml is not as the run wrote it" in said


@pytest.mark.slow
@pytest.mark.exhaustive
def test_push_merges_what_a_run_has_trained(tmp_path, server, command):
    base = shutil.copytree(STUDENT, tmp_path / "base")
    (tmp_path / "made.yaml").write_text(MADE.replace(str(STUDENT), str(base)))
    command("run", "made.yaml")
    command("push", "made", "tuned", "--repo-id", "me/tuned", "--merge")
    files = server.repos["models/me/tuned"].files
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(files)
    assert "adapter_config.json" not in files
    (exam,) = (tmp_path / "data/artifacts").glob("exam-*/manifest.json")
    results = json.loads(exam.read_text())["metrics"]["results"]
    share = next(row["accuracy"] for row in results if row["model"] == "tuned")
    assert f"{share:.1%}" in files["README.md"].decode()
    sent = len(server.uploads)
    command("push", "made", "tuned", "--repo-id", "me/tuned", "--merge")
    assert len(server.uploads) == sent == 1  # merged again, to the same bytes

    with (base / "config.json").open("a") as config:
        config.write("\n")
    said = command("push", "made", "tuned", "--repo-id", "me/tuned", "--merge", code=4)
    assert "the base 'student' has changed since run made/" in " ".join(said.split())
    assert len(server.repos["models/me/tuned"].commits) == 2
