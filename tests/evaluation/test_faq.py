"""Forty questions with free answers, as somebody would bring them, on the bundled models."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Said

HINT = "an accuracy of 0.0% says little: the references are free text"
SUBJECTS = ("a lamp", "a chair", "a kettle", "a shelf", "a clock", "a carpet", "a mirror", "a tent")
FORMS = (
    ("How do I return {}?", "Send {} back within 30 days, together with its receipt."),
    ("Is {} in stock?", "You can see on its page whether {} is in stock in your shop."),
    ("Who repairs {}?", "Bring {} to the desk at the entrance; a repair takes about a week."),
    ("Can {} be delivered?", "Yes, we deliver {} on workdays between nine and five."),
    ("What if {} is broken?", "Take a photo of {} and write to us; you get a new one."),
)


def exam(rows: str, template: str, max_tokens: int, **more: Any) -> dict[str, Any]:
    sampling = {"temperature": 0, "max_tokens": max_tokens}
    return {"stage": "evaluate", "rows": rows, "models": ["student", "teacher"],
            "template": template, "sampling": sampling, **more}  # fmt: skip


@pytest.mark.slow
def test_forty_free_answers_do_not_end_in_zero_without_a_hint(
    cli: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    with Path("faq.csv").open("w", newline="") as file:
        written = csv.writer(file)
        written.writerow(["question", "reference_answer"])
        written.writerows([q.format(s), a.format(s)] for s in SUBJECTS for q, a in FORMS)
    Path("ask.jinja").write_text("Question: {{ question }}\nAnswer:")
    models = {
        name: {"model_name_or_path": f"data/models/tiny-{name}", "prompt_format": "text"}
        for name in ("student", "teacher")
    }
    stages = {
        "faq": {"stage": "load_dataset", "path": "faq.csv"},
        "sums": {"stage": "load_dataset", "path": "data/word_problems", "split": "test",
                 "limit": 10},
        "exam": exam("faq", "ask.jinja", 12),
        "measured": exam("faq", "ask.jinja", 12, answer_kind="text",
                         measures=["token_f1", "rouge_l"]),
        "numeric": exam("sums", "ask.jinja", 2, answer_in="any"),
    }  # fmt: skip
    file = {"name": "faq", "models": models, "stages": stages}
    Path("faq.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
    said = cli("run", "faq.yaml", "--workspace", "out")
    assert said.code == 0, said
    warned, _, tables = said.out.partition("exam: accuracy")
    assert warned.count(f"{HINT}, and") == 2  # of exam, and of measured
    assert "measures: [token_f1, rouge_l], or have a model grade" in tables
    of_measured, _, of_numeric = tables.partition("measured: accuracy")[2].partition("numeric: ")
    assert "go by the other figures" in of_measured
    assert "measured: text measures" in of_measured
    assert "teacher − student" in of_measured
    assert "0.0%" in of_numeric
    assert "says little" not in of_numeric
    (report,) = Path("out").rglob("report.html")
    assert report.read_text().count(f"<strong>{HINT}") == 2
