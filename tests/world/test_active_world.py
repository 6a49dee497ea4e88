"""Seeds that nobody can answer: the loss falls for them, and not where the teacher checks first."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm_distill.engines.transformers.engine import TransformersEngine
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.models.sources import ModelSource
from llm_distill.pipeline.load import load_pipeline
from llm_distill.stages.selection_report import SelectionReport

Run = Callable[..., Any]

FILE = Path(__file__).resolve().parents[2] / "data/word_seeds/train.jsonl"
STUDENT = ModelSource("student", "data/models/tiny-stat-student", prompt_format="text")
TEACHER = ModelSource("teacher", "data/models/tiny-stat-teacher")
GAPS = {"subtraction", "weekday"}


def test_the_loss_chooses_what_nobody_can_answer_unless_the_teacher_checks_it(
    run_stage: Run,
) -> None:
    stages: Any = load_pipeline("pipelines/active.yaml").stages
    loss_alone = load_pipeline(
        "pipelines/active.yaml", assignments=["stages.rounds.repeat.stages.chosen.rows=by_loss"]
    )
    seeds = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    settings = TransformersSettings(device="cpu")
    models = {"student": STUDENT, "teacher": TEACHER}
    engines = {name: lambda s=s: TransformersEngine(s, settings) for name, s in models.items()}

    def run(stage: Any, rows: Any) -> Any:
        return run_stage(stage, {stage.rows: rows}, models=models, engines=engines).rows

    losses = run(stages["losses@1"], seeds)
    by_loss = run(loss_alone.stages["by_loss@1"], losses)
    checked = run(stages["checked@1"], run(stages["hardest@1"], losses))
    by_checked_loss = run(stages["by_checked_loss@1"], checked)

    assert len(by_loss) == len(by_checked_loss) == 12
    assert {row["state"] for row in by_loss} == {"unanswerable"}  # though 36 seeds are of the gaps
    states = Counter(row["state"] for row in by_checked_loss)
    assert states["unanswerable"] <= 2  # gold guessed by luck
    assert sum(row["skills"][0] in GAPS for row in by_checked_loss) >= 10

    def preferred(chosen: Any) -> set[str]:
        report = SelectionReport(
            stage="selection_report", rows="chosen", pool="seeds", by=("state", "skills")
        )
        return set(run_stage(report, {"chosen": chosen, "seeds": seeds}).metrics["preferred"])

    assert "unanswerable" in preferred(by_loss)
    assert not preferred(by_loss) & GAPS
    assert preferred(by_checked_loss) <= {*GAPS} != set()
