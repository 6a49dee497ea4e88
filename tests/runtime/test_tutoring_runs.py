"""The example of docs/dialogues.md with scripted models: run, report and preview."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_distill.engines.base import Request
from llm_distill.engines.scripted.engine import prompt_text
from tests.scripted_talks import ROWS

PAGE = Path(__file__).parents[2] / "docs" / "dialogues.md"


def tutor(request: Request) -> str:
    assert "Right answer:" in prompt_text(request)
    return "<act>probing</act> Why do you think so?"


def telling(request: Request) -> str:
    answer = re.findall(r"Right answer: (\d+)", prompt_text(request))[0]
    return f"<act>telling</act> The answer is {answer}."


def pupil(request: Request) -> str:
    """Believes what it is told; the prompt has no right answer of its own."""
    text = prompt_text(request)
    assert "Right answer" not in text
    assert "<act>" not in text
    told = re.findall(r"tutor: The answer is (\d+)", text)
    return f"The answer is {told[-1]}." if told else "I do not know & <b>."


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    file = yaml.safe_load(text)
    for name, function in ("tutor", "tutor"), ("other", "telling"), ("pupil", "pupil"):
        engine = {"kind": "scripted", "function": f"{__name__}:{function}"}
        file["models"][name] = {"model_name_or_path": name, "engine": engine}
    (tmp_path / "tutors.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
    rows = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "problems.jsonl").write_text(rows)
    return "tutors.yaml"


def test_the_example_runs_and_its_report_reads_as_a_chat(
    cli: Callable[..., Any], pipeline: str, tmp_path: Path
) -> None:
    done = cli("run", pipeline, "--workspace", "out")
    assert done.code == 0, done.err
    assert re.search(r"other .*100\.0% .*100\.0% .*0\.0%", done.out)
    (page,) = (tmp_path / "out").rglob("report.html")
    html = page.read_text()
    turn = '<p class="label">tutor <span class="tag">telling</span></p><div class="text">'
    assert f'<div class="entry on-left">{turn}The answer is 22.</div></div>' in html
    assert '<div class="entry on-right"><p class="label">student</p>' in html
    assert "I do not know &amp; &lt;b&gt;." in html
    assert 'class="entries as-chat"' in html
    assert "repeated: a speaker repeats itself, after 6 new turns" in html


def test_a_preview_says_who_speaks(cli: Callable[..., Any], pipeline: str) -> None:
    shown = cli("preview", pipeline, "-n", "1")
    assert shown.code == 0, shown.err
    assert "tutor: Can you walk me through your solution?" in shown.out
    assert "student: 7 + 5 is 22" in shown.out
