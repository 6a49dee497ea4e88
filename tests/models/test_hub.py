"""Models from the Hub, played by a server on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from llm_distill.models.hub import cached_commit

STUDENT = Path(__file__).parents[2] / "data" / "models" / "tiny-student"
COMMITS = {"old": "a" * 40, "new": "b" * 40}

PIPELINE = """\
name: hub
models:
  student: {model_name_or_path: org/tiny, prompt_format: text}
stages:
  items: {stage: load_dataset, path: data/word_problems, split: test, limit: 2}
  exam:
    stage: evaluate
    rows: items
    models: [student]
    template: arte/exam.jinja
    variables: {task_description: Solve the word problem.}
    sampling: {temperature: 0, max_tokens: 4}
"""


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as loading a model asks for: one model, `main` at some commit."""

    main = COMMITS["old"]
    asked: list[str]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        type(self).asked.append(self.path)
        parts = self.path.partition("?")[0].split("/")
        if parts[1:4] == ["api", "models", "org"]:
            siblings = [{"rfilename": file.name} for file in STUDENT.iterdir()]
            listing = {"id": "org/tiny", "sha": self.main, "siblings": siblings}
            tree = [
                {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": "0" * 40}
                for f in STUDENT.iterdir()
                if len(parts) == 7  # of the folders in it, there is none
            ]
            return self._send(json.dumps(tree if "tree" in parts else listing).encode(), {}, body)
        if len(parts) < 6:  # what the client asks of its own accord, such as which agents there are
            return self._send(b"", {}, body, status=404)
        revision, name = parts[4], "/".join(parts[5:])
        commit = self.main if revision == "main" else revision
        file = STUDENT / name
        if commit not in COMMITS.values() or not file.is_file():
            missing = "EntryNotFound" if commit in COMMITS.values() else "RevisionNotFound"
            headers = {"X-Error-Code": missing, "X-Repo-Commit": commit}
            return self._send(b"", headers, body, status=404)
        content = file.read_bytes()
        etag = hashlib.sha256(content).hexdigest()
        return self._send(content, {"ETag": f'"{etag}"', "X-Repo-Commit": commit}, body)

    def _send(self, content: bytes, headers: dict[str, str], body: bool, status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hub() -> Iterator[type[Hub]]:
    class OneTest(Hub):
        asked: list[str] = []

    server = ThreadingHTTPServer(("127.0.0.1", 0), OneTest)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    OneTest.endpoint = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    yield OneTest
    server.shutdown()


def run(
    tmp_path: Path,
    hub: type[Hub],
    command: str = "run",
    *options: str,
    pipeline: str = PIPELINE,
    code: int = 0,
    **more: str,
) -> str:
    (tmp_path / "hub.yaml").write_text(pipeline)
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.endpoint,  # type: ignore[attr-defined]
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
        "OMP_NUM_THREADS": "1",
        **more,
    }
    done = subprocess.run(
        [sys.executable, "-m", "llm_distill", command, "hub.yaml", *options],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_hub_model_is_downloaded_once_and_stays_at_its_commit(tmp_path, hub, monkeypatch):
    first = run(tmp_path, hub)
    assert "exam: accuracy" in first
    assert any(path.endswith("/model.safetensors") for path in hub.asked)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    assert cached_commit("model", "org/tiny", None) == COMMITS["old"]
    (manifest,) = (tmp_path / "data" / "artifacts").glob("exam-*/manifest.json")
    assert json.loads(manifest.read_text())["models"]["student"]["revision"] == COMMITS["old"]

    hub.asked.clear()
    hub.main = COMMITS["new"]
    assert "▶" not in run(tmp_path, hub)  # the first run's fingerprint already had the commit
    assert "2 to reuse" in run(tmp_path, hub, "plan", HF_HUB_OFFLINE="1")
    assert "✓ exam" in run(tmp_path, hub, "run", "--force", "exam", HF_HUB_OFFLINE="1")
    assert hub.asked == []


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_model_that_a_stage_names_itself_stays_at_its_commit_too(tmp_path, hub, monkeypatch):
    similar = (
        PIPELINE[: PIPELINE.index("  exam:")]
        + """\
  train: {stage: load_dataset, path: data/word_problems}
  near: {stage: select_similar, rows: train, questions: items, model: org/tiny, draws: 1}
"""
    )
    assert "near: 2 rows" in run(tmp_path, hub, pipeline=similar)
    hub.asked.clear()
    hub.main = COMMITS["new"]
    assert "▶" not in run(tmp_path, hub, pipeline=similar)
    assert "near: 2 rows" in run(tmp_path, hub, "run", "--force", "near", pipeline=similar)
    assert not any(COMMITS["new"] in path for path in hub.asked)
    (manifest,) = (tmp_path / "data" / "artifacts").glob("near-*/manifest.json")
    sources = json.loads(manifest.read_text())["identity"]["sources"]
    assert sources == {"org/tiny": COMMITS["old"]}


def test_a_plan_asks_only_whether_models_are_there(tmp_path, hub):
    """And a plan without a network asks nobody."""
    assert "2 to run" in run(tmp_path, hub, "plan")
    assert {path for path in hub.asked if not path.startswith("/api/")} == {
        "/org/tiny/resolve/main/config.json"
    }
    hub.asked.clear()
    run(tmp_path, hub, "plan", HF_HUB_OFFLINE="1", code=4)
    assert hub.asked == []
