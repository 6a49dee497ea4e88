"""What docs/judging.md shows is a pipeline that is valid, and the hint that is given."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llm_distill.evaluation.free_answers import FreeAnswers
from llm_distill.evaluation.result_rows import ExamRow
from llm_distill.pipeline.load import load_pipeline
from llm_distill.stage import models_of, rows_of

PAGE = (Path(__file__).parents[2] / "docs" / "judging.md").read_text()
FILES = {
    "faq_train.csv": "prompt,completion",
    "faq_test.csv": "question,reference_answer",
    "graded.csv": "question,reference_answer,answer,grade",
    "ask.jinja": "{{ question }} Answer in one or two sentences.",
}


def test_the_pipeline_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text + "\n")
    shown, _ = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    Path("faq.yaml").write_text(shown)
    stages = load_pipeline("faq.yaml").stages
    assert rows_of(stages["exam"]) == ["test", "people"]
    assert models_of(stages["duel"]) == ["student", "tuned", "judge"]


def test_the_hint_is_that_which_is_given() -> None:
    free = FreeAnswers("exact")
    reference = "Send it back within thirty days."
    free.add({"parent_id": "a", "reference_answer": reference, "answer": None})
    said = free.note([ExamRow(model="m", accuracy=0.0)], is_measured=False)
    assert said is not None
    assert said in " ".join(PAGE.split())
