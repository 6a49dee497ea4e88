"""A judged exam from the file to the terminal, report, comparison and trackers."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_distill.runtime.scalars import metric_scalars
from tests.conftest import Said

QUESTIONS = ("a lamp", "a chair", "a clock", "a tent")
WRITTEN = {"student": "I do not know.", "tuned": "Within 30 days."}
GRADES = {"I do not know": 1, "Within 30 days": 5}


def table(name: str, entries: dict[str, str]) -> dict[str, Any]:
    lines = (json.dumps({"contains": k, "completion": v}) for k, v in entries.items())
    Path(f"{name}.jsonl").write_text("\n".join(lines))
    engine = {"kind": "scripted", "answers": f"{name}.jsonl"}
    return {"model_name_or_path": name, "engine": engine}


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    with Path("faq.csv").open("w", newline="") as file:
        written = csv.writer(file)
        written.writerow(["question", "reference_answer"])
        for what in QUESTIONS:
            written.writerow([f"May I return {what}?", f"Yes, {what} within thirty days."])
    with Path("people.csv").open("w", newline="") as file:
        written = csv.writer(file)
        written.writerow(["question", "reference_answer", "answer", "human"])
        for what, (text, grade) in zip(QUESTIONS, list(GRADES.items()) * 2, strict=True):
            reference = f"Yes, {what} within thirty days."
            written.writerow([f"May I return {what}?", reference, f"{text}.", grade])
    Path("ask.jinja").write_text("{{ question }}")
    answers = {f"to grade:\n\n{text}": f"<grade>{g}</grade>" for text, g in GRADES.items()}
    models = {name: table(name, {"return": text}) for name, text in WRITTEN.items()}
    labelled = {"rows": "people", "column": "human", "min_agreement": 0.8}
    exam = {
        "stage": "evaluate", "rows": "faq", "models": list(WRITTEN), "template": "ask.jinja",
        "answer_kind": "text", "judge": {"model": "judge", "labelled": labelled},
    }  # fmt: skip
    stages = {
        "faq": {"stage": "load_dataset", "path": "faq.csv"},
        "people": {"stage": "load_dataset", "path": "people.csv"},
        "exam": exam,
    }
    return {"name": "judged", "models": {**models, "judge": table("judge", answers)},
            "stages": stages}  # fmt: skip


def write(file: dict[str, Any]) -> str:
    Path("judged.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
    return "judged.yaml"


def test_it_is_shown_wherever_results_are(cli: Callable[..., Said], judged: dict[str, Any]) -> None:
    said = cli("run", write(judged), "--workspace", "out")
    assert said.code == 0, said
    assert "exam: grade of 1 to 5 by judge" in said.out
    assert "tuned − student 0 +4 +4 to +4 4" in " ".join(said.out.split())
    assert "weighted kappa with human" in said.out
    assert "go by the other figures" in said.out
    (report,) = Path("out").rglob("report.html")
    assert "exam: grade of 1 to 5 by judge" in report.read_text()
    (manifest,) = Path("out/artifacts").glob("exam-*/manifest.json")
    scalars = metric_scalars(json.loads(manifest.read_text())["metrics"])
    assert scalars["figures/grade of 1 to 5 by judge/tuned/0/value"] == 5.0
    judged["stages"]["exam"]["judge"]["scale"] = [1, 10]
    assert cli("run", write(judged), "--workspace", "out").code == 0
    first, second = sorted(f"judged/{run.name}" for run in Path("out/runs/judged").iterdir())
    compared = cli("compare", first, second, "--workspace", "out")
    assert "grade of 1 to 5 by judge, tuned, 0-shot" in compared.out
    assert "grade of 1 to 10 by judge, tuned, 0-shot" in compared.out


def test_mistakes_are_found_as_the_file_is_read(
    cli: Callable[..., Said], judged: dict[str, Any]
) -> None:
    Path("blind.jinja").write_text("Grade {{ question }}")
    judge = judged["stages"]["exam"]["judge"]
    judge["template"] = "blind.jinja"
    said = cli("validate", write(judged))
    assert said.code == 2
    assert "stages.exam.judge: template blind.jinja does not show the answer" in said.err
    Path("blind.jinja").write_text("Grade {{ answer }} to {{ questoin }}")
    judge["labelled"]["column"] = "humann"
    said = cli("validate", write(judged))
    assert "'people' gives no column 'humann'; did you mean 'human'?" in said.err
    assert "stages.exam.judge.template: template blind.jinja reads 'questoin'" in said.err


@pytest.mark.slow
def test_it_can_be_rehearsed(cli: Callable[..., Said], judged: dict[str, Any]) -> None:
    """A stand-in for the judge keeps to the form; nobody agrees with it, so there is no gate."""
    duel = {**judged["stages"]["exam"], "judge": {"model": "judge", "mode": "pairwise"}}
    judged["stages"]["duel"] = duel
    said = cli("rehearse", write(judged), "--workspace", "out")
    assert said.code == 0, said
    manifests = Path("out").rglob("artifacts/*/manifest.json")
    metrics = {m.parent.name.partition("-")[0]: json.loads(m.read_text()) for m in manifests}
    for name in ("exam", "duel"):
        titles = [table["title"] for table in metrics[name]["metrics"]["figures"]]
        assert titles[-1] == "the judge"
