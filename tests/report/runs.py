"""Runs for tests, and a parser of the report's page."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from llm_distill.report.collect import RunView, collect
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.record import RunRecord, StageRecord

HOSTILE = '</script><script>document.title = "taken"</script><img src=x onerror="alert(1)">'


@dataclass
class Made:
    """A run's record in a workspace; `stage` adds a stage with its artifact."""

    workspace: Workspace
    record: RunRecord

    @property
    def view(self) -> RunView:
        return collect(self.record, self.workspace)

    def stage(
        self,
        name: str,
        kind: str,
        rows: list[dict[str, Any]] | None = None,
        inputs: tuple[str, ...] = (),
        metrics: dict[str, Any] | None = None,
        **manifest: Any,
    ) -> Path:
        from datasets import Dataset

        digest = hashlib.sha256(f"{self.record.name}/{name}".encode()).hexdigest()
        address = self.workspace.address(name, digest)
        folder = self.workspace.work_dir(address)
        features = None
        if rows is None:
            folder.mkdir(parents=True)
            (folder / "config.json").write_text("{}")
        else:
            dataset = Dataset.from_list(rows)
            dataset.save_to_disk(str(folder))
            features = dataset.features.to_dict()
        said = {
            "name": name,
            "stage": kind,
            "fingerprint": digest,
            "inputs": {n: {"artifact": f"{n}-0", "content_digest": ""} for n in inputs},
            "features": features,
            "rows_out": None if rows is None else len(rows),
            "metrics": metrics or {},
            **manifest,
        }
        artifact = self.workspace.publish(address, folder, said)
        self.record.stages[name] = StageRecord(
            state="done",
            artifact=artifact.path.name,
            rows=said["rows_out"],
            dropped=manifest.get("dropped", {}),
            seconds=1.5,
            why="it has never run in this workspace",
        )
        self.record.save()
        return artifact.path


def result(model: str, shots: int, accuracy: float, n: int = 100, **more: Any) -> dict[str, Any]:
    """A row of an evaluation's `results`."""
    return {
        "model": model,
        "shots": shots,
        "accuracy": accuracy,
        "low": max(0.0, accuracy - 0.1),
        "high": min(1.0, accuracy + 0.1),
        "n": n,
        "parse_failures": 0,
        "truncated": 0,
        "errors": 0,
        **more,
    }


def answer(item: int, model: str, right: bool, **more: Any) -> dict[str, Any]:
    """A row of an evaluation."""
    return {
        "id": f"t{item}-{model}-0",
        "parent_id": f"t{item}",
        "model": model,
        "shots": 0,
        "question": f"What is {item} + 1?",
        "reference_answer": str(item + 1),
        "completion": f"<ans>{item + 1 if right else 0}</ans>",
        "is_correct": right,
        "error": None,
        **more,
    }


def candidate(question: int, strategy: str, score: float | None) -> dict[str, Any]:
    """A row of `score_in_context`."""
    return {
        "id": f"q{question}-{strategy}",
        "parent_id": f"q{question}",
        "question": f"Question {question}?",
        "rationale": f"The {strategy} way of {question}.",
        "strategy": strategy,
        "score": score,
        "n_items": 4,
    }


def traced(made: Made) -> Made:
    """Seeds, drafts from them, those that were kept, pairs, and an exam with drafts as items."""
    seeds = [{"id": f"s{n}", "question": f"Seed {n}?"} for n in range(40)]
    made.stage("seeds", "load_dataset", seeds)
    drafts = [
        {"id": f"s{n}-0", "parent_id": f"s{n}", "question": f"Draft {n}?", "completion": "…"}
        for n in range(40)
    ]
    made.stage("drafts", "generate", drafts, ("seeds",))
    made.stage("kept", "select", drafts[10:], ("drafts",), dropped={HOSTILE: 10})
    pair = {"kind": "question", "prompt": "Write.", "chosen": "A", "rejected": "B", "margin": 0.5}
    pairs = [{"id": f"question-s{n}-0-s{n + 1}-0", **pair} for n in (10, 20)]
    made.stage("pairs", "build_preferences", pairs, ("kept",))
    made.stage("student", "train_sft", None, ("kept",))
    exam = [
        {
            **answer(n, model, model == "after" or n == 10),
            "id": f"s{n}-0-{model}",
            "parent_id": f"s{n}-0",
            "prompt": f"One plus one is 2.\nWhat is {n} + 1?",
            "answer": None if model == "before" and n < 13 else "0",
            "finish_reason": "length" if n == 12 else "stop",
            "reasoning": f"It is {HOSTILE}" if n == 11 else None,
        }
        for model in ("before", "after")
        for n in range(10, 40)
    ]
    made.stage("exam", "evaluate", exam, ("kept", "student"))
    log = made.record.log_of("kept")
    log.parent.mkdir(exist_ok=True)
    log.write_text(f"2026-01-01 INFO select: \x1b[31mred\x1b[0m {HOSTILE}\n")
    return made


@dataclass
class Page(HTMLParser):
    """A parsed page: its elements, and its text except script and style."""

    source: str
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is None:
            self.text += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]
