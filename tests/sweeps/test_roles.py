"""Runs whose repeats end after different rounds are compared by what a round was in each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_distill.pipeline.load import load_pipeline
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.plan import Selection, planning
from llm_distill.runtime.runner import run_pipeline
from llm_distill.sweeps.measure import measure
from llm_distill.sweeps.outcomes import Measured
from llm_distill.sweeps.roles import Written, before_a_run, named_by_role, roles_of, with_roles
from tests.runtime.conftest import Recorder
from tests.runtime.test_until import TOY as ENDING

TOY = f"{ENDING}  both: {{stage: toy_map, rows: answers@last, also: [answers@best, numbers]}}\n"
BOTH = "stages.both.also"
UNTIL = "stages.rounds.repeat.until"


@pytest.fixture
def run(tmp_path: Path) -> Any:
    (tmp_path / "toy.yaml").write_text(TOY)
    workspace = Workspace(tmp_path / "workspace")

    def go(*assignments: str) -> tuple[Any, dict[str, Any]]:
        pipeline = load_pipeline(str(tmp_path / "toy.yaml"), assignments=assignments)
        resolver = planning(pipeline, workspace)
        roles = roles_of(pipeline, before_a_run)
        recipe = {name: resolver.recipe(name) for name in pipeline.stages}
        before = with_roles(recipe, pipeline, roles)
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


@pytest.mark.parametrize("also", ["[answers@1, answers@best]", "[answers@best, answers@1]"])
def test_a_round_by_its_number_is_itself_beside_one_that_came_to_be_it(run: Any, also: str) -> None:
    record, _ = run(f"{UNTIL}.target=0.1", f"{BOTH}={also}")
    assert (record.loops["rounds"].last, record.loops["rounds"].best) == (1, 1)
    _, elsewhere = run(f"{BOTH}={also}")  # where the best is the third
    assert set(elsewhere["both"]["inputs"]) == {"answers@1", "answers@best", "answers@last"}


def test_a_figure_is_of_every_name_that_its_stage_has_for_it() -> None:
    def figure(model: str) -> Measured:
        return Measured(stage="best", labels={"model": model}, kind="share", value=0.5, n=1)

    def named(model: str, *names: tuple[str, str]) -> list[str]:
        return [f.labels["model"] for f in named_by_role(figure(model), Written(names, {}))]

    best, last = ("trained@best", "trained@3"), ("trained@last", "trained@3")
    assert named("trained@3", best, last) == ["trained@best", "trained@last"]
    assert named("trained@3", best, ("trained@3",) * 2) == ["trained@best", "trained@3"]
    assert named("student", best, last) == ["student"]
    assert named_by_role(figure("trained@3"), None) == [figure("trained@3")]
