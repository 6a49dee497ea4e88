"""The tutors' pipelines: what is compared differs in one thing only."""

from __future__ import annotations

from typing import Any

from llm_distill.paths import bundled_root
from llm_distill.pipeline.load import load_pipeline


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
