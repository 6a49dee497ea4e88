"""The tutors' pipelines: what is compared differs in one thing only."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm_distill.paths import bundled_root
from llm_distill.pipeline.load import load_pipeline
from llm_distill.prompts import load_template


def stages_of(name: str) -> dict[str, Any]:
    return dict(load_pipeline(str(bundled_root() / f"pipelines/{name}.yaml")).stages)


def test_every_annotator_meets_the_same_gate_and_report() -> None:
    stages = stages_of("annotate_work")
    annotators = stages["annotated"].annotators
    assert any(each.random for each in annotators.values())  # the control
    gates = [s for s in stages.values() if s.stage == "agreement"]
    assert {gate.annotators[0] for gate in gates} == {f"{name}_mistake" for name in annotators}
    alike = [gate.model_dump(exclude={"annotators"}) for gate in gates]
    assert all(gate == alike[0] for gate in alike)
    assert (gates[0].by_label, gates[0].on_failure) == (True, "mark")
    reports = [s for s in stages.values() if s.stage == "classification_report"]
    assert {s.reference_column for s in reports} == {"misconception"}  # the truth, not people
    assert {"first_person", *(gate.annotators[0] for gate in gates)} == {
        s.label_column for s in reports
    }
    # It is taught on other works than those of the gate.
    assert stages["labelled"].split != stages["work"].split


def test_pupils_take_the_same_exam_whoever_taught_them() -> None:
    """It is a turn of the form that the pupil was trained on, before the dialogue and after it."""
    for name, template in ("mathdial", "pupils/again.jinja"), ("mathdial_paper", None):
        talks = [s for s in stages_of(name).values() if s.stage == "simulate_dialogue"]
        assert len(talks) >= 4
        assert len({(talk.before, talk.after) for talk in talks}) == 1
        assert talks[0].before == talks[0].after is not None
        assert template in (talks[0].before.template, None)
    values = {"misconception": "guess", "question": "Q?", "wrong_solution": "8"}
    turns = [{"speaker": "pupil", "text": "8"}, {"speaker": "tutor", "text": "Think again."}]
    again, pupil = (load_template(f"pupils/{name}.jinja") for name in ("again", "pupil"))
    assert again.render({**values, "turns": []}) == pupil.render({**values, "turns": turns})
    more = [*turns, {"speaker": "pupil", "text": "7"}]
    whole = pupil.render({**values, "turns": [*more, turns[1]]})
    assert again.render({**values, "turns": more}) == whole


def test_the_biases_of_planted_judges_are_found(cli: Callable[..., Any], tmp_path: Path) -> None:
    """The table of docs/judging.md, by the command that stands there."""
    done = cli("run", "pipelines/judge_pairs.yaml", "--workspace", str(tmp_path))
    assert done.code == 0, done.err
    biases = re.findall(r"position bias: [^+-]*− second chosen +([-+][\d.]+)", done.out)
    lengths = re.findall(r"correlation of winning and being longer +(-?[\d.]+)", done.out)
    page = (bundled_root() / "docs/judging.md").read_text(encoding="utf-8")
    table = page.split("### What a judge leans to")[1].split("## What is refused")[0]
    for bias, length in zip(biases, lengths, strict=True):
        assert f"{bias} (".replace("-", "−") in table
        assert f"{float(length):.2f} (" in table
    fair, first, longer = (float(bias) for bias in biases)
    assert max(abs(fair), abs(longer)) < 7 < 20 < first
    assert float(lengths[2]) > 0.3 > 0.15 > max(float(length) for length in lengths[:2])
