"""synthesise: what the teacher is shown, what is read, and what is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llm_distill.engines.base import Completion, Request
from llm_distill.errors import DataError
from llm_distill.models.sources import ModelSource
from llm_distill.stages.synthesise import Synthesise

Run = Callable[..., Any]

PROFILE = [
    {"id": "s/sub", "task": "s", "skill": "sub", "question_ids": ["v1", "v2"]},
    {"id": "s/add", "task": "s", "skill": "add", "question_ids": ["v1"]},
]
SOLVED = [
    {
        "id": f"{skill}{i}-0",
        "parent_id": f"{skill}{i}",
        "task": "s",
        "question": f"{skill} {i}?",
        "rationale": f"way {i} <ans>{i}</ans>",
        "skills": [skill],
    }
    for skill, n in (("sub", 9), ("add", 2))
    for i in range(n)
]
TWO = (
    "<reason>r1</reason><draft>d1</draft><question>new one?</question>"
    "<reason>r2</reason><draft>d2</draft><question>new two?</question>"
)


def stage(**settings: Any) -> Synthesise:
    return Synthesise(
        stage="synthesise",
        profile="profile",
        references="solved",
        model="m",
        template="stat/synthesise.jinja",
        variables={"task_description": "Solve."},
        **settings,
    )


def data(**more: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    return {"profile": PROFILE, "solved": SOLVED, **more}


def test_asking_again_shows_other_references_and_writes_other_questions(run_stage: Run) -> None:
    asked = []
    once = run_stage(stage(), data(), {"m": lambda r: asked.append(r) or TWO})
    again = run_stage(stage(n=3), data(), {"m": lambda r: asked.append(r) or TWO})
    assert (again.metrics["requests"], len(again.rows)) == (9, 18)
    assert len({r.seed for r in asked[3:]}) == 9
    shown = {tuple(row["reference_ids"]) for row in again.rows if row["id"].startswith("v1/sub")}
    assert len(shown) == 3
    assert [row for row in again.rows if "/0/" in row["id"]] == once.rows


def test_every_question_of_an_answer_is_a_row(run_stage: Run) -> None:
    run = run_stage(stage(), data(), {"m": lambda r: TWO})
    assert [row["id"] for row in run.rows] == [
        "v1/add/0/0", "v1/add/0/1", "v1/sub/0/0", "v1/sub/0/1", "v2/sub/0/0", "v2/sub/0/1"
    ]  # fmt: skip
    first, second = run.rows[:2]
    assert (first["parent_id"], first["task"], first["skill"]) == ("v1", "s", "add")
    assert (first["skills"], first["error"]) == (["add"], None)
    assert (first["question"], first["reason"], first["draft"]) == ("new one?", "r1", "d1")
    assert (second["question"], second["reason"], second["draft"]) == ("new two?", "r2", "d2")
    assert stage().output_columns({}) == set(first)
    assert run.metrics == {
        "needs": 3,
        "skills_short_of_references": {"s/add": 2},
        "needs_without_references": {},
        "requests": 3,
        "questions": 6,
        "requests_with_fewer_questions": 0,
        "truncated": 0,
        "errors": 0,
    }


def test_each_request_shows_its_own_references_with_the_skill(run_stage: Run) -> None:
    profile = [{**PROFILE[0], "question_ids": [f"v{i}" for i in range(12)]}]
    run = run_stage(stage(), data(profile=profile), {"m": lambda r: TWO})
    shown = {row["parent_id"]: row["reference_ids"] for row in run.rows}
    by_id = {row["id"]: row for row in SOLVED}
    assert len({tuple(ids) for ids in shown.values()}) > 6
    for row in run.rows:
        assert len(set(row["reference_ids"])) == 3
        assert row["prompt"].count("Solution: ") == 3
        for identity in row["reference_ids"]:
            assert by_id[identity]["skills"] == ["sub"]
            assert f"Question: {by_id[identity]['question']}" in row["prompt"]
        assert "that need the skill sub:" in row["prompt"]
        assert "Write 2 new questions" in row["prompt"]
    mixed = run_stage(stage(), data(profile=profile, solved=SOLVED[::-1]), {"m": lambda r: TWO})
    assert mixed.rows == run.rows


def test_seeds_belong_to_the_need_and_the_model(run_stage: Run) -> None:
    def seeds(model: str, seed: int) -> set[str]:
        settings = stage().model_copy(update={"model": model})
        answer = {model: lambda r: f"<question>{r.seed}</question>"}
        return {row["question"] for row in run_stage(settings, data(), answer, seed=seed).rows}

    assert len(seeds("m", 1)) == 3
    assert seeds("m", 1) == seeds("m", 1)
    assert not seeds("m", 1) & seeds("m", 2)
    assert not seeds("m", 1) & seeds("n", 1)


def test_a_question_is_shown_once_however_often_it_was_solved(run_stage: Run) -> None:
    again = [{**row, "id": f"{row['id']}b"} for row in SOLVED]
    run = run_stage(stage(n_references=9), data(solved=again + SOLVED), {"m": lambda r: TWO})
    assert [len(row["reference_ids"]) for row in run.rows] == [2, 2, 9, 9, 9, 9]
    unsolved = [{**row, "rationale": None} for row in SOLVED if row["skills"] == ["add"]]
    solved = [row for row in SOLVED if row["skills"] == ["sub"]]
    run = run_stage(stage(), data(solved=unsolved + solved), {"m": lambda r: TWO})
    assert {row["skill"] for row in run.rows} == {"sub"}
    assert run.metrics["needs_without_references"] == {"s/add": 1}
    assert run.dropped == {"no reference with the skill": 1}
    assert "labelled with s/add: 1 of 3 pairs" in run.warnings[0]


def test_fewer_questions_than_asked_are_counted(run_stage: Run) -> None:
    def answer(request: Request) -> str:
        text = str(request.prompt)
        return "<question>one?</question>" if "skill add" in text else "nothing of the kind"

    run = run_stage(stage(), data(), {"m": answer})
    assert [(row["question"], row["reason"]) for row in run.rows] == [("one?", None)]
    assert run.metrics["requests_with_fewer_questions"] == 3
    assert run.dropped == {"no <question>": 2}


class _Fails:
    def generate(self, requests: Any) -> Any:
        for index, request in enumerate(requests):
            if index == 0:
                yield Completion(request.id, "", "error", error="prompt too long")
            else:
                yield Completion(request.id, TWO[:80], "length")

    def close(self) -> None: ...


def test_what_the_engine_fails_on_is_a_counted_row(run_stage: Run) -> None:
    settings: dict[str, Any] = {
        "models": {"m": ModelSource("m", "scripted/m")},
        "engines": {"m": _Fails},
    }
    run = run_stage(stage(max_error_rate=0.5), data(), **settings)
    bad = run.rows[0]
    assert (bad["id"], bad["question"], bad["error"]) == ("v1/add/0/0", None, "prompt too long")
    assert (run.metrics["errors"], run.metrics["truncated"]) == (1, 2)
    with pytest.raises(DataError, match=r"1 of 3 failed.*v1/add/0: prompt too long"):
        run_stage(stage(), data(), **settings)


def test_references_are_never_questions_that_the_student_was_judged_on(run_stage: Run) -> None:
    answers = {"m": lambda r: TWO}
    leaked = [*SOLVED, {**SOLVED[0], "id": "x", "parent_id": "v2"}]
    with pytest.raises(DataError, match="row x of 'solved' has the id of a question of 'profile'"):
        run_stage(stage(), data(solved=leaked), answers)
    hard = [{"id": "v1", "question": "SUB 3"}]
    with pytest.raises(DataError, match="row sub3-0 of 'solved' asks the same as a question"):
        run_stage(stage(questions="hard"), data(hard=hard), answers)


def test_a_student_that_is_already_right_gives_nothing(run_stage: Run) -> None:
    run = run_stage(stage(), data(profile=[]), {"m": lambda r: TWO})
    assert (run.rows, run.metrics["requests"]) == ([], 0)
    assert set(stage().may_be_empty()) == {"profile"}


def test_constants_of_the_template(run_stage: Run) -> None:
    settings = stage().model_copy(update={"variables": {"task_description": "Count."}})
    run = run_stage(settings, data(), {"m": lambda r: TWO})
    assert run.rows[0]["prompt"].startswith("Count.")


PLAN = [
    {
        "id": "2/s/sub",
        "task": "s",
        "skill": "sub",
        "subskill": None,
        "n": 5,
        "question_ids": ["v1"],
    },
    {"id": "2/s/x/add", "task": "s", "skill": "x", "subskill": "add", "n": 1, "question_ids": []},
    {"id": "2/s/mul", "task": "s", "skill": "mul", "subskill": None, "n": 0, "question_ids": []},
]


def test_a_plan_says_how_many_questions_each_row_gets(run_stage: Run) -> None:
    planned = stage(n_column="n", questions="difficult")
    given = data(profile=PLAN, difficult=[{"id": "v1", "question": "9 - 3?"}])
    run = run_stage(planned, given, {"m": lambda r: TWO})
    assert [(r["skill"], r["subskill"], r["skills"], r["parent_id"]) for r in run.rows] == [
        *[("sub", None, ["sub"], "2/s/sub")] * 5,  # of three requests for two each, one is over
        ("x", "add", ["add"], "2/s/x/add"),  # asked for the part, as its references are labelled
    ]
    assert planned.output_columns({}) == set(run.rows[0])
    assert (run.metrics["requests"], run.dropped) == (4, {"more than planned": 2})
    assert len({row["id"] for row in run.rows}) == 6
    assert len({tuple(row["reference_ids"]) for row in run.rows[:5]}) == 3
    turned = run_stage(planned, {**given, "profile": PLAN[::-1]}, {"m": lambda r: TWO})
    assert sorted(r["id"] for r in turned.rows) == sorted(r["id"] for r in run.rows)


def test_a_plan_without_rows_to_make_asks_nothing(run_stage: Run) -> None:
    nothing = [{**row, "n": 0} for row in PLAN]
    run = run_stage(stage(n_column="n"), data(profile=nothing), {"m": lambda r: TWO})
    assert (run.rows, run.metrics["requests"]) == ([], 0)
    unknown = [{**PLAN[0], "skill": "day"}]
    with pytest.raises(DataError, match="no solved row of 'solved' is labelled with a skill"):
        run_stage(stage(n_column="n"), data(profile=unknown), {"m": lambda r: TWO})
    wrong = [{**PLAN[0], "id": "p", "n": None}]
    with pytest.raises(DataError, match="row p of 'profile': n is None and its skill 'sub'; take"):
        run_stage(stage(n_column="n"), data(profile=wrong), {"m": lambda r: TWO})
    judged = [{**PLAN[0], "question_ids": ["sub1"]}]
    with pytest.raises(DataError, match="which the student was judged on"):
        run_stage(stage(n_column="n"), data(profile=judged), {"m": lambda r: TWO})
    with pytest.raises(ValueError, match="n and n_column exclude each other"):
        stage(n_column="n", n=2)
