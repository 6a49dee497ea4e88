"""The documentation's examples are executed, and its names checked."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

import llm_distill
from llm_distill.methods.skill_list import read_skill_list
from llm_distill.pipeline.load import load_pipeline
from llm_distill.pipeline.schema import ModelConfig
from llm_distill.sweeps.grid import read_axis

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES_OF_NAMES = ("docs/architecture.md", "docs/papers.md", "CONTRIBUTING.md")
TOP_LEVEL = {path.stem for path in (ROOT / "llm_distill").iterdir()}
FOLDERS = ("llm_distill/", "tests/", "docs/", "pipelines/", "scripts/", "benchmarks/")


def _block(page: str, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert found
    return found.group(1)


def test_repeat(tmp_path: Path) -> None:
    from llm_distill.pipeline.load import load_pipeline

    (tmp_path / "rounds.yaml").write_text(_block("repeat.md", "yaml"))
    stages = load_pipeline(str(tmp_path / "rounds.yaml")).stages
    assert list(stages)[2:4] == ["drawn@1", "right@1"]
    assert list(stages)[-2:] == ["trained@3", "exam"]


def test_watching_rollouts(tmp_path: Path) -> None:
    (tmp_path / "watched.yaml").write_text(_block("watching-rollouts.md", "yaml"))
    stages = load_pipeline(str(tmp_path / "watched.yaml")).stages
    befores = [stages[f"watched@{number}"].before for number in (1, 2)]  # type: ignore[attr-defined]
    assert befores == [None, "watched@1"]


def test_teacher_hacking(tmp_path: Path) -> None:
    (tmp_path / "watched.yaml").write_text(_block("teacher-hacking.md", "yaml"))
    stages = load_pipeline(str(tmp_path / "watched.yaml")).stages
    watch = stages["taught"].watch_hacking  # type: ignore[attr-defined]
    assert (watch.rows, watch.golden_rows, watch.every) == ("held_out", "held_out", 20)
    assert stages["taught"].lr_scheduler_type == "constant"  # type: ignore[attr-defined]


def test_preview(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]) -> None:
    """What is sampled may differ; the rest of what is shown may not."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sums.yaml").write_text(_block("preview.md", "yaml"))
    shown = cli("preview", "sums.yaml", "-n", "2").out
    sampled = r"completion|answer: |validation-\d|…$|answers generate|enough select|is_correct"
    lines = [line for line in _block("preview.md", "text").split("\n") if line.strip(" …")]
    fixed = [line for line in lines if not re.search(sampled, line)]
    assert len(fixed) >= 8
    for line in fixed:
        assert line in shown
    assert re.search(r"answers generate  2 rows in, \d out; dropped: .*wrong answer", shown)


def test_add_a_stage(tmp_path: Path) -> None:
    """The example as a third-party package: a module and an entry point, both on the path."""
    package = tmp_path / "site" / "my_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "keep_short.py").write_text(_block("add-a-stage.md", "python"))
    info = tmp_path / "site" / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    toml = _block("add-a-stage.md", "toml")
    entry = toml.split("\n", 1)[1].replace('"', "")
    (info / "entry_points.txt").write_text(f"[llm_distill.stages]\n{entry}")
    (tmp_path / "short.yaml").write_text(_block("add-a-stage.md", "yaml"))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-m", "llm_distill", "run", "short.yaml", "--workspace", "out"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"short: \d+ rows, dropped \d+ \(too long: \d+\)", done.stdout)
    assert "short: words per text" in done.stdout  # its own figures
    shown = subprocess.run(
        [sys.executable, "-m", "llm_distill", "stages", "keep_short"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "max_words" in shown.stdout


class LlamaCpp(BaseHTTPRequestHandler):
    """Answers as llama.cpp's server does, with the prompt itself."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = {"content": body["prompt"].upper(), "stop_type": "eos"}
        text = json.dumps({**answer, "tokens_evaluated": 3, "tokens_predicted": 2}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None: ...


def test_add_an_engine(tmp_path: Path) -> None:
    """The example in a copy of the package; the new server is not mistaken for local weights."""
    copy = tmp_path / "site" / "llm_distill"
    shutil.copytree(Path(llm_distill.__file__).parent, copy)
    page = (DOCS / "engines.md").read_text().split("## Another engine")[1]
    settings, engine, listed = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    folder = copy / "engines" / "llama_cpp"
    folder.mkdir()
    for name, text in ("__init__", ""), ("settings", settings), ("engine", engine):
        (folder / f"{name}.py").write_text(text)
    kinds = (copy / "engines" / "kinds.py").read_text()
    added, n = re.subn(r"^Kinds = .*$", listed.rstrip(), kinds, flags=re.MULTILINE)
    assert n == 1
    (copy / "engines" / "kinds.py").write_text(added)

    server = HTTPServer(("127.0.0.1", 0), LlamaCpp)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (pipeline,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    pipeline = pipeline.replace("localhost:8080", f"127.0.0.1:{server.server_port}")
    (tmp_path / "served.yaml").write_text(pipeline)
    trained = "  trained: {stage: train_sft, rows: answers, model: teacher}\n"
    (tmp_path / "trained.yaml").write_text(pipeline + trained)
    (tmp_path / "questions.jsonl").write_text('{"id": "a", "question": "why"}\n')
    (tmp_path / "ask.jinja").write_text("{{ question }} so")

    def llm(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "llm_distill", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "no_proxy": "*"},
            capture_output=True,
            text=True,
            timeout=120,
        )

    try:
        done = llm("run", "served.yaml", "--workspace", "out")
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        server.shutdown()
        server.server_close()
    from datasets import load_from_disk

    (artifact,) = (tmp_path / "out" / "artifacts").glob("answers-*")
    assert load_from_disk(str(artifact))["completion"][0] == "WHY SO"
    manifest = json.loads((artifact / "manifest.json").read_text())
    assert manifest["models"]["teacher"]["identity"] == {"served": "qwen/any"}
    assert "base_url" not in json.dumps(manifest["identity"]["models"])
    again = llm("run", "served.yaml", "--workspace", "out")  # the server is gone
    assert again.returncode == 0, again.stdout + again.stderr
    refused = llm("validate", "trained.yaml")
    assert "'teacher' is on a server (engine kind llama_cpp)" in refused.stdout + refused.stderr


def test_sweeps(cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of the page, and the values of its table, are valid."""
    monkeypatch.chdir(tmp_path)
    for line in _block("sweeps.md", "bash").splitlines():
        said = cli(*shlex.split(line)[1:], "--plan")
        assert said.code == 0, said.err
        assert "to run" in said.out
    assert list(tmp_path.iterdir()) == []
    rows = re.findall(r"^\| `'?([^|]*=.*?)'?` \| (.*) \|$", (DOCS / "sweeps.md").read_text(), re.M)
    assert [len(read_axis(text).values) for text, _ in rows] == [2, 2, 2, 2, 1]


def test_disk(cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "runs").mkdir(parents=True)
    for line in _block("disk.md", "bash").splitlines():
        said = cli(*shlex.split(line, comments=True)[1:])
        assert (said.code, "nothing is to go" in said.out) == (0, True), said.err


def test_own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command writes the file that is shown, and the one by hand is valid."""
    command, by_hand = _block("own-data.md", "bash"), (DOCS / "own-data.md").read_text()
    shown, by_hand = re.findall(r"```yaml\n(.*?)```", by_hand, re.DOTALL)
    rows = (ROOT / "data/word_problems/train.jsonl").read_text().splitlines()[:40]
    pairs = [(r["question"], r["reference_answer"]) for r in map(json.loads, rows)]
    (tmp_path / "own").mkdir()
    lines = "problem,solution\n" + "".join(f'"{question}",{answer}\n' for question, answer in pairs)
    for name in ("problems", "own/seeds", "own/validation", "own/test"):
        (tmp_path / f"{name}.csv").write_text(lines)
    words = shlex.split(command.replace("\\\n", "").splitlines()[0])[1:]
    done = subprocess.run(
        [sys.executable, "-m", "llm_distill", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "mine" / "mine.yaml").read_text() == shown
    assert shown.count("\n") <= 25
    monkeypatch.chdir(tmp_path)
    (tmp_path / "by_hand.yaml").write_text(by_hand)
    stages = load_pipeline("by_hand.yaml").stages
    assert dict(stages["seeds"])["path"] == "own"


def test_skills(tmp_path: Path) -> None:
    """The pipeline is valid, and the list can be read."""
    (tmp_path / "skills_page.yaml").write_text(_block("skills.md", "yaml"))
    assert list(load_pipeline(str(tmp_path / "skills_page.yaml")).stages)[-1] == "labelled_train"
    blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / "skills.md").read_text(), re.DOTALL)
    assert read_skill_list(blocks[-1], "x") == {
        "word_problems": ["addition", "subtraction", "making_change"]
    }


def test_dataenvgym() -> None:
    """The settings on the page are those of the shipped file, or such as the stages take."""
    from llm_distill.pipeline.registry import find_stage

    blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / "dataenvgym.md").read_text(), re.DOTALL)
    found = {name: raw for block in blocks for name, raw in yaml.safe_load(block).items()}
    assert set(found) == {"plan", "written", "unknown"}
    for raw in found.values():
        kind = find_stage(raw["stage"])
        assert kind is not None
        kind.model_validate({**raw, "variables": {}})
    shipped = yaml.safe_load((ROOT / "pipelines/dataenvgym_skill_list.yaml").read_text())
    assert shipped["stages"]["rounds"]["repeat"]["stages"]["plan"] == found["plan"]
    paper = yaml.safe_load((ROOT / "pipelines/dataenvgym_paper.yaml").read_text())
    assert paper["stages"]["rounds"]["repeat"]["stages"]["written"] == found["written"]


@pytest.mark.parametrize("page", PAGES_OF_NAMES)
def test_what_a_page_names_exists(page: str) -> None:
    """Paths such as llm_distill/stage.py, and names such as `stages.generate.Generate.run`."""
    named = re.findall(
        r"`([^`\n]+)`", re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.S)
    )
    paths = [name for name in named if name.startswith(FOLDERS) and "NAME" not in name]
    dotted = [name for name in named if re.fullmatch(r"\w+(\.\w+)+", name)]
    ours = [name for name in dotted if name.split(".")[0] in TOP_LEVEL and not _is_file(name)]
    assert len(paths) + len(ours) > 5
    assert [path for path in paths if not (ROOT / path.split("::")[0]).exists()] == []
    assert [name for name in ours if not _is_defined(name)] == []


def test_the_layers_are_those_of_the_contract() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (shown,) = re.findall(r"```text\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert shown.splitlines() == contract["contracts"][0]["layers"]


def test_the_workflow_calls_targets_that_there_are() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    files = sorted((ROOT / ".github/workflows").glob("*.yml"))
    jobs = [job for file in files for job in yaml.safe_load(file.read_text())["jobs"].values()]
    assert all("timeout-minutes" in job for job in jobs)
    steps = [step.get("run", "") for job in jobs for step in job["steps"]]
    called = {run.split()[1] for run in steps if run.startswith("make ")}
    shown = re.findall(r"^make ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert called == {"test", "test-all", "fuzz", "chaos", "docs"}
    assert called | set(shown) <= targets


def _is_file(name: str) -> bool:
    return name.endswith((".py", ".md", ".yaml", ".toml"))


def _is_defined(name: str) -> bool:
    """Whether a module, or a function, class, method or field in it, read without importing it."""
    parts = name.split(".")
    folder = ROOT / "llm_distill"
    while parts and (folder / parts[0]).is_dir():
        folder /= parts.pop(0)
    if not parts:
        return True
    module, inside = folder / f"{parts[0]}.py", parts[1:]
    if not module.is_file():
        return False
    body = ast.parse(module.read_text()).body
    for part in inside:
        found = [node for node in body if part in _names_of(node)]
        if not found:
            return False
        body = getattr(found[0], "body", [])
    return True


def _names_of(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def test_the_student_on_a_server_of_the_engines_page_is_one() -> None:
    page = (DOCS / "engines.md").read_text().partition("### A student on a server")[2]
    (block,) = re.findall(r"```yaml\n(.*?)```", page.partition("\n## ")[0], re.DOTALL)
    student = ModelConfig.model_validate(yaml.safe_load(block)["models"]["student"])
    assert student.engine.has_weights_here()
    assert student.engine.served_name(student.model_name_or_path) == "smollm2"
