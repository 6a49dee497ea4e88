"""A pipeline that takes a moment: scripted students whose answers depend on the seed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_distill.sweeps.outcomes import Items, Measured, Outcome, SweepFile, marks_of

PIPELINE = """\
name: quick
seed: 7
variables: {hint: low}
models:
  weak: &scripted
    model_name_or_path: weak
    prompt_format: text
    engine: {kind: scripted, function: "quick_students:weak"}
  strong: {<<: *scripted, engine: {kind: scripted, function: "quick_students:strong"}}
stages:
  items: {stage: load_dataset, path: items.jsonl}
  exam:
    stage: evaluate
    rows: items
    models: [weak, strong]
    template: exam.jinja
    sampling: {temperature: 1, max_tokens: 8}
    by: [skills]
"""
STUDENTS = '''\
"""Students who guess: right where a number drawn with the request's seed is small enough."""

from random import Random


def _answer(request, chance):
    number = request.prompt.split()[-1]
    right = Random(f"{request.seed} {chance} {request.prompt}").random() < chance
    return f"<ans>{number if right else 'no idea'}</ans>"


def weak(request):
    return _answer(request, 0.3)


def strong(request):
    if "crash" in request.prompt and request.seed % 2:
        raise MemoryError("out of memory")
    return _answer(request, 0.9 if "high" in request.prompt else 0.5)
'''


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The pipeline's file, in a folder of its own that is the current one."""
    (tmp_path / "quick_students.py").write_text(STUDENTS)
    (tmp_path / "exam.jinja").write_text("{{ hint }} {{ question }}")
    rows = [
        {
            "id": f"t{i:02}",
            "question": f"repeat {i}",
            "reference_answer": str(i),
            "skills": ["even" if i % 2 == 0 else "odd"],
        }
        for i in range(30)
    ]
    (tmp_path / "items.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "quick.yaml").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("llm_distill.cli.sweep_command.quiet_libraries", lambda: None)
    yield tmp_path / "quick.yaml"
    sys.modules.pop("quick_students", None)


Exam = dict[str, list[int]]
"""Model to whether its answer to each item is right."""


@pytest.fixture
def file_of() -> Callable[..., SweepFile]:
    """A sweep's file from {(n, seed): exam}; `n` is the setting of the only place."""

    def make(exams: dict[tuple[Any, int], Exam], items: str = "x", **more: Any) -> SweepFile:
        file = SweepFile(pipeline="quick", places=("stages.x.n",), **more)
        for (n, seed), exam in exams.items():
            figures = [
                Measured(
                    stage="exam",
                    labels={"model": model, "shots": "0"},
                    kind="share",
                    value=sum(right) / len(right),
                    n=len(right),
                    items=items,
                    marks=marks_of(right, 1),
                )
                for model, right in exam.items()
            ]
            n_items = len(next(iter(exam.values())))
            first = "1" + "0" * (n_items - 1)
            outcome = Outcome(
                settings={"stages.x.n": n},
                seed=seed,
                state="done",
                run=f"quick/{n}-{seed}",
                recipe=f"r{n}",
                figures=tuple(figures),
            )
            groups = {"skills": {"first": first, "all": "1" * n_items}}
            file.put(outcome, {"x": _stage(n)}, {items: Items(n=n_items, groups=groups)})
        return file

    return make


def _stage(n: Any) -> dict[str, Any]:
    return {"stage": "select", "version": 1, "settings": {"n": n, "order": "random"}}
