"""Runs whose repeats end after different rounds are compared by what a round was in each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_distill.pipeline.load import load_pipeline
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.loops import LoopRecord
from llm_distill.runtime.plan import Selection, planning
from llm_distill.runtime.runner import run_pipeline
from llm_distill.sweeps.measure import measure
from llm_distill.sweeps.outcomes import Measured
from llm_distill.sweeps.roles import named_by_role, of_pipeline
from tests.runtime.conftest import Recorder
from tests.runtime.test_until import TOY as ENDING

TOY = f"{ENDING}  both: {{stage: toy_map, rows: answers@last, also: [answers@best, numbers]}}\n"
UNTIL = "stages.rounds.repeat.until"


@pytest.fixture
def run(tmp_path: Path) -> Any:
    (tmp_path / "toy.yaml").write_text(TOY)
    workspace = Workspace(tmp_path / "workspace")

    def go(*assignments: str) -> tuple[Any, dict[str, Any]]:
        pipeline = load_pipeline(str(tmp_path / "toy.yaml"), assignments=assignments)
        resolver = planning(pipeline, workspace)
        before = of_pipeline({n: resolver.recipe(n) for n in pipeline.stages}, pipeline)
        record = run_pipeline(pipeline, workspace, Selection(), Recorder())
        assert measure(record, workspace).recipe == before
        return record, before

    return go


def test_a_recipe_is_known_before_it_is_known_when_rounds_end(run: Any) -> None:
    """Each `run` asserts it; here the best is another round than the last, and the same."""
    record, of_two = run()
    assert (record.loops["rounds"].last, record.loops["rounds"].best) == (4, 3)
    record, of_target = run(f"{UNTIL}.target=0.75")
    assert (record.loops["rounds"].last, record.loops["rounds"].best) == (2, 2)
    rest = {name: of for name, of in of_two.items() if name != "rounds"}
    assert rest == {name: of for name, of in of_target.items() if name != "rounds"}
    assert of_two["rounds"] != of_target["rounds"]  # two ends are two recipes
    assert set(rest) == {"numbers", "answers@1", "trained@1", "exam@1", "best", "both"}
    assert rest["best"]["settings"]["model"] == "trained@best"
    assert rest["both"]["settings"]["also"] == ["answers@best", "numbers"]


def test_a_figure_is_of_every_role_that_its_stage_names(run: Any) -> None:
    record, _ = run()

    def figure(model: str) -> Measured:
        return Measured(stage="best", labels={"model": model}, kind="share", value=0.5, n=1)

    record.loops["rounds"] = LoopRecord(
        times=5,
        last=3,
        best=3,
        why="",
        stages=("trained",),
        named={"best": {"models[1]": "trained@best", "models[2]": "trained@last"}},
    )
    named = [f.labels["model"] for f in named_by_role(figure("trained@3"), "best", record)]
    assert named == ["trained@best", "trained@last"]
    assert named_by_role(figure("student"), "best", record) == [figure("student")]
    assert named_by_role(figure("trained@3"), "other", record) == [figure("trained@3")]
