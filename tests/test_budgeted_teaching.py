"""The pipeline of docs/budgeted-teaching.md, with a pupil whose utilities are known."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.engines.base import Request
from llm_distill.engines.scripted.engine import prompt_text
from tests.pupils import HELP, SKILLS, MentalModel, answers, items

PAGE = Path(__file__).parents[1] / "docs" / "budgeted-teaching.md"
LACKS = "taking"


def _in(text: str, names: tuple[str, ...]) -> str:
    return next(name for name in names if name in text)


def student(request: Request) -> str:
    """It lacks a skill, and reads the explanation if there is one."""
    question, _, told = prompt_text(request).partition("A teacher explains: ")
    hint = _in(told, HELP) if told else None
    return f"<ans>{answers(_in(question, SKILLS), hint, LACKS)}</ans>"


def teacher(request: Request) -> str:
    """Explains as the question says, and otherwise is the mental model."""
    text = prompt_text(request)
    if "Student's answer:" in text:
        return MentalModel().sample(request)
    return f"This is a {_in(text, HELP)} hint."


def test_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for name, path in (("teacher", "Qwen2.5-7B"), ("student", "Qwen2.5-0.5B")):
        engine = f'engine: {{kind: scripted, function: "{__name__}:{name}"}}'
        block = block.replace(f"Qwen/{path}-Instruct}}", f"{name}, {engine}}}")
    block = block.replace("n_demonstrations: 4", "n_demonstrations: 12\n    n_samples: 10")
    monkeypatch.chdir(tmp_path)
    for name, n in (("practice", 2), ("questions", 4)):
        rows = [
            {key: row[key] for key in ("id", "question", "reference_answer")}
            for row in items(name, n, LACKS)
        ]
        Path(f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    Path("p.yaml").write_text(block)
    said = cli("run", "p.yaml", "--workspace", "ws")
    assert said.code == 0, said.err
    curve = list(_rows(tmp_path, "curve"))
    at = {(row["ranking"], row["budget"]): row["accuracy"] for row in curve}
    assert at["utility", 0.2] == at["oracle", 0.2] == pytest.approx(0.5 + 4 / 24)
    assert at["random", 0.2] == pytest.approx(0.5)
    assert at["misaligned", 0.2] == pytest.approx(0.5 - 4 / 24)
    for budget in (0, 1):
        assert len({value for (_, b), value in at.items() if b == budget}) == 1


def _rows(folder: Path, stage: str) -> Any:
    from datasets import load_from_disk

    (found,) = (folder / "ws").glob(f"**/artifacts/{stage}-*")
    return load_from_disk(str(found))
