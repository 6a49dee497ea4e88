"""score_judge: a judge whose grades are known, and one that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.engines.base import Completion, Request
from llm_distill.errors import DataError
from llm_distill.evaluation.results import Results
from llm_distill.stages.score_judge import ScoreJudge

Run = Callable[..., Any]
SAMPLED = {"sampling": {"temperature": 1.0}}


def candidate(name: str, completion: str | None, **more: Any) -> dict[str, Any]:
    return {"id": name, "parent_id": "q", "question": "2 + 2?", "completion": completion,
            "strategy": name[0], "error": None, **more}  # fmt: skip


def stage(**settings: Any) -> ScoreJudge:
    return ScoreJudge(stage="score_judge", rows="rows", model="judge", **settings)


def text_of(request: Request) -> str:
    prompt = request.prompt
    return prompt if isinstance(prompt, str) else prompt[0]["content"]


def judge(request: Request) -> str:
    """The grade that stands in the answer; of several, one for each time that it is asked."""
    given = text_of(request).split("Answer: ")[1].split("\n")[0].split()
    said = given[int(request.id.rsplit("-", 1)[1]) % len(given)]
    return f"As it is. <grade>{said}</grade>"


def test_the_score_is_the_mean_of_the_grades_that_can_be_read(run_stage: Run) -> None:
    rows = [
        candidate("a-0", "8 9 x"), candidate("a-1", "x"), candidate("b-0", None),
        candidate("b-1", "5", error="cut"), candidate("b-2", "3"),
    ]  # fmt: skip
    run = run_stage(stage(n=3, **SAMPLED), {"rows": rows}, {"judge": judge})
    assert [row["score"] for row in run.rows] == [8.5, None, None, None, 3.0]
    assert [row["n_grades"] for row in run.rows] == [2, 0, 0, 0, 3]
    assert [row["parse_failures"] for row in run.rows] == [1, 3, 0, 0, 0]
    assert {row["metric"] for row in run.rows} == {"judge"}
    assert run.metrics["requests"] == 9
    assert run.metrics["parse_failures"] == 4
    assert run.metrics["mean_score"] == {"a": 8.5, "b": 3.0}
    assert run.metrics["grades"] == {"3": 3, "8": 1, "9": 1}
    (table,) = Results.from_metrics(run.metrics).own
    assert [(f.labels, f.value, f.n) for f in table.figures] == [
        ({"strategy": "a"}, 8.5, 1), ({"strategy": "b"}, 3.0, 1),
    ]  # fmt: skip
    assert run.warnings == ["3 of 5 candidates have no score"]


def test_a_failed_request_is_no_grade(run_stage: Run) -> None:
    class Fails:
        def generate(self, requests: Any) -> Any:
            for request in requests:
                error = "no" if request.id == "a-0-1" else None
                yield Completion(request.id, "<grade>4</grade>", "stop", error=error)

        def close(self) -> None: ...

    settings = stage(n=2, max_error_rate=0.5, **SAMPLED)
    run = run_stage(settings, {"rows": [candidate("a-0", "1")]}, engines={"judge": Fails})
    assert [(row["score"], row["n_grades"]) for row in run.rows] == [(4.0, 1)]


@pytest.mark.parametrize("holds", [True, False])
def test_constrained_where_the_engine_can(run_stage: Run, holds: bool) -> None:
    seen: list[Request] = []

    def number(request: Request) -> str:
        seen.append(request)
        return "4" if request.structure else "<grade>4</grade>"

    run = run_stage(
        stage(constrain=True, lowest=0, highest=4), {"rows": [candidate("a-0", "1")]},
        {"judge": number}, structured=frozenset({"judge"} if holds else ()),
    )  # fmt: skip
    assert run.rows[0]["score"] == 4.0
    (request,) = seen
    if holds:
        assert request.structure is not None
        assert request.structure.choice == ("0", "1", "2", "3", "4")
        assert "nothing else" in text_of(request)
    else:
        assert request.structure is None
        assert "<grade>" in text_of(request)


def test_grades_are_drawn_independently_and_a_template_is_ones_own(
    run_stage: Run, tmp_path: Any
) -> None:
    path = tmp_path / "rubric.jinja"
    path.write_text("{{ prompt }} {{ text }} {{ wanted }}: {{ lowest }} to {{ highest }}")
    seeds = set()

    def any_grade(request: Request) -> str:
        seeds.add(request.seed)
        assert text_of(request) == "Write. it short: 1 to 5"
        return "<grade>2</grade>"

    settings = stage(template=str(path), highest=5, n=4, variables={"wanted": "short"}, **SAMPLED)
    offered = settings.template_variables({"rows": frozenset({"prompt", "text"})})
    assert offered[str(path)] >= {"prompt", "text", "wanted", "lowest", "highest", "constrained"}
    assert settings.is_seeded()
    assert not stage().is_seeded()
    run_stage(settings, {"rows": [{"id": "a", "prompt": "Write.", "text": "it"}]},
              {"judge": any_grade})  # fmt: skip
    assert len(seeds) == 4


def test_what_cannot_be_graded_is_said(run_stage: Run) -> None:
    with pytest.raises(DataError, match="no row of 'rows' can be graded: each has an error, or"):
        run_stage(stage(), {"rows": [candidate("a-0", " ")]}, {"judge": judge})
    with pytest.raises(DataError, match="none of 1 answers of 'judge' has a grade from 1 to 10"):
        run_stage(stage(), {"rows": [candidate("a-0", "none")]}, {"judge": judge})
    for wrong in ({"lowest": 5, "highest": 5}, {"n": 2}):
        with pytest.raises(ValidationError):
            stage(**wrong)
