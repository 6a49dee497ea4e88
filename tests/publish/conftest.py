"""Fixtures: a loopback Hub for the real client, and artifacts with the manifests of a run."""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_distill.runtime.artifact import Artifact, Workspace
from tests.publish.loopback_hub import TOKEN, LoopbackHub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """The client reads its environment when it is imported, so its constants are set as well."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    server = LoopbackHub()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(_http, "time", types.SimpleNamespace(sleep=server.waits.append))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.close()


class Made:
    """A workspace with artifacts, each with the manifest that a run would have written."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root)
        self.workspace.prepare()
        self._root = root

    def artifact(
        self,
        name: str,
        stage: str,
        *,
        rows: list[dict[str, Any]] | None = None,
        files: dict[str, bytes] | None = None,
        inputs: dict[str, Artifact] | None = None,
        models: dict[str, dict[str, Any]] | None = None,
        settings: dict[str, Any] | None = None,
        sources: dict[str, str] | None = None,
        **more: Any,
    ) -> Artifact:
        """rows: of a dataset; files: of a model."""
        digest = f"{len(list(self.workspace.artifacts.iterdir())):012x}" + "0" * 52
        work = self._root / "work" / name
        work.mkdir(parents=True)
        features = None
        if rows is not None:
            from datasets import Dataset

            dataset = Dataset.from_list(rows)
            dataset.save_to_disk(str(work))
            features = dataset.features.to_dict()
        for file, content in (files or {}).items():
            (work / file).write_bytes(content)
        manifest = {
            "name": name,
            "stage": stage,
            "fingerprint": digest,
            "identity": {"sources": sources or {}},
            "settings": {"stage": stage, **(settings or {})},
            "inputs": {
                n: {"artifact": a.path.name, "content_digest": a.content_digest}
                for n, a in (inputs or {}).items()
            },
            "models": models or {},
            "features": features,
            "rows_out": None if rows is None else len(rows),
            "dropped": {},
            "metrics": {},
            "packages": {"python": "3.11", "llm-distill": "0.1.0"},
            "device": "cpu (x86_64)",
            **more,
        }
        return self.workspace.publish(self.workspace.address(name, digest), work, manifest)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "workspace")


ADAPTER = {
    "adapter_config.json": json.dumps({"peft_type": "LORA"}).encode(),
    "adapter_model.safetensors": b"\0" * 1000,
    "tokenizer.json": b"{}",
}
WHOLE = {
    "config.json": b"{}",
    "model.safetensors": bytes(range(256)) * 40,
    "tokenizer.json": b"{}",
}
TEACHER: dict[str, Any] = {"path": "org/teacher", "revision": "c" * 40, "adapters": []}
STUDENT: dict[str, Any] = {"path": "org/student", "revision": "d" * 40, "adapters": []}
for _model in (TEACHER, STUDENT):
    _model["identity"] = {"hub": _model["path"], "revision": _model["revision"]}


@pytest.fixture
def distilled(made: Made) -> dict[str, Artifact]:
    """Seeds from a file, a teacher's answers, near test items left out, a student, its exam."""
    rows = [{"id": f"r{i}", "question": f"What is {i} + 1?"} for i in range(4)]
    answered = [{**row, "prompt": "p", "completion": str(i)} for i, row in enumerate(rows)]
    local = {"name": None, "split": "train", "revision": None}
    seeds = made.artifact(
        "seeds",
        "load_dataset",
        rows=rows,
        settings={"path": "/home/ann/private/seeds.jsonl", **local},
        sources={"seeds.jsonl": "e" * 64},
    )
    test = made.artifact(
        "test",
        "load_dataset",
        rows=rows,
        settings={"path": "org/exam", "name": "main", "split": "test", "revision": None},
        sources={"org/exam": "f" * 40},
    )
    more = made.artifact(
        "more",
        "load_dataset",
        rows=rows,
        settings={"path": "org/seeds", **local},
        sources={"org/seeds": "a" * 40},
    )
    answers = made.artifact(
        "answers",
        "generate",
        rows=answered,
        inputs={"seeds": seeds, "more": more},
        models={"teacher": TEACHER},
        settings={
            "rows": "seeds",
            "model": "teacher",
            "template": "ask.jinja",
            "sampling": {"temperature": 0.7, "max_tokens": 64},
        },
    )
    clean = made.artifact(
        "clean",
        "decontaminate",
        rows=answered[:3],
        inputs={"answers": answers, "test": test},
        settings={"rows": "answers", "against": ["test"], "ngram": 13, "column": "question"},
        dropped={"overlaps test": 1},
    )
    student = made.artifact(
        "distilled",
        "train_sft",
        files=ADAPTER,
        inputs={"clean": clean},
        models={"student": STUDENT},
        settings={"rows": "clean", "model": "student", "learning_rate": 0.001},
    )
    results = [
        {"model": "student", "shots": 0, "accuracy": 0.25, "low": 0.1, "high": 0.4, "n": 4},
        {"model": "distilled", "shots": 0, "accuracy": 0.5, "low": 0.3, "high": 0.7, "n": 4},
    ]
    difference = {"model": "distilled", "baseline": "student", "shots": 0, "n": 4}
    exam = made.artifact(
        "exam",
        "evaluate",
        rows=rows,
        inputs={"test": test, "distilled": student},
        models={"student": STUDENT, "distilled": {**STUDENT, "adapters": [student.path.name]}},
        settings={"rows": "test", "models": ["student", "distilled"]},
        metrics={
            "results": results,
            "differences": [{**difference, "difference": 0.25, "low": -0.1, "high": 0.5}],
        },
    )
    return {"clean": clean, "student": student, "exam": exam, "answers": answers, "test": test}


PIPELINE = {
    "name": "toy",
    "seed": 3,
    "models": {
        "teacher": {"model_name_or_path": "org/teacher"},
        "student": {"model_name_or_path": "org/student"},
        "unused": {"model_name_or_path": "org/other"},
    },
    "stages": {
        "seeds": {"stage": "load_dataset", "path": "/home/ann/private/seeds.jsonl"},
        "test": {"stage": "load_dataset", "path": "org/exam", "split": "test"},
        "more": {"stage": "load_dataset", "path": "org/seeds"},
        "answers": {"stage": "generate", "rows": "seeds", "model": "teacher"},
        "clean": {"stage": "decontaminate", "rows": "answers", "against": ["test"]},
        "distilled": {"stage": "train_sft", "rows": "clean", "model": "student"},
        "exam": {"stage": "evaluate", "rows": "test", "models": ["student", "distilled"]},
        "elsewhere": {"stage": "select", "rows": "test", "n": 1},
    },
}


@pytest.fixture
def pipeline() -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(PIPELINE))
    return values


@pytest.fixture
def origin(distilled: dict[str, Artifact], pipeline: dict[str, Any]) -> Callable[[str], Any]:
    """The origin of a card for one of the artifacts."""
    from llm_distill.publish.cards import Origin
    from llm_distill.publish.lineage import read_lineage

    def make(name: str) -> Any:
        exams = (read_lineage(distilled["exam"].path),) if name == "student" else ()
        return Origin(read_lineage(distilled[name].path), exams, pipeline)

    return make
