"""label_skills: what a question is asked, and which labels stay."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.engines.base import Completion, Request
from llm_distill.errors import DataError
from llm_distill.models.sources import ModelSource
from llm_distill.stages.label_skills import LabelSkills

Run = Callable[..., Any]

ROWS = [
    {"id": "q1", "task": "sums", "question": "1 + 1?", "skills": ["gold"]},
    {"id": "q2", "task": "dates", "question": "Which day?", "skills": ["gold"]},
    {"id": "q3", "task": "sums", "question": "2 + 2?", "skills": ["gold"]},
]
SKILLS = [
    {"id": "sums/adding", "task": "sums", "skill": "adding"},
    {"id": "sums/solving", "task": "sums", "skill": "Solving Equations"},
    {"id": "dates/adding", "task": "dates", "skill": "adding"},
    {"id": "dates/leap", "task": "dates", "skill": "leap_years"},
]
GIVEN = {"rows": ROWS, "skills": SKILLS}


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., LabelSkills]:
    path = tmp_path / "label.jinja"
    path.write_text("{{ about }}|{{ skills | join(',') }}|{{ question }}|{{ max_skills }}")

    def make(**settings: Any) -> LabelSkills:
        settings = {"variables": {"about": "A"}, **settings}
        return LabelSkills(
            stage="label_skills", rows="rows", skills="skills", model="m", template=str(path),
            **settings,
        )  # fmt: skip

    return make


def prompt(request: Request) -> str:
    return str(request.prompt[0]["content"])


def test_a_question_is_shown_with_its_own_tasks_list(
    run_stage: Run, stage: Callable[..., LabelSkills]
) -> None:
    seen: dict[str, str] = {}

    def answer(request: Request) -> str:
        seen[request.id] = prompt(request)
        return "<skill>adding</skill>"

    run = run_stage(stage(), GIVEN, {"m": answer})
    assert seen == {  # and not the column `skills` that the rows came with
        "q1": "A|adding,solving_equations|1 + 1?|5",
        "q2": "A|adding,leap_years|Which day?|5",
        "q3": "A|adding,solving_equations|2 + 2?|5",
    }
    assert run.rows[0] == {**ROWS[0], "skills": ["adding"], "error": None}
    assert [row["id"] for row in run.rows] == ["q1", "q2", "q3"]
    said = stage().output_columns({"rows": frozenset(ROWS[0]), "skills": None})
    assert said == set(run.rows[0])


def test_labels_off_the_list_are_counted_and_never_kept(
    run_stage: Run, stage: Callable[..., LabelSkills]
) -> None:
    answers = {
        "q1": "<skill>Leap years, ADDING, telepathy</skill>",  # leap years are of another task
        "q2": "<skill>solving_equations; Telepathy</skill>",
        "q3": "I cannot say",
    }
    run = run_stage(stage(), GIVEN, {"m": lambda r: answers[r.id]})
    assert [row["skills"] for row in run.rows] == [["adding"], [], []]
    assert run.dropped == {}
    assert run.metrics == {
        "requests": 3,
        "errors": 0,
        "truncated": 0,
        "labels": 1,
        "unreadable": 1,
        "unlabelled": 2,
        "surplus_labels": 0,
        "off_list_labels": 4,
        "off_list": {"telepathy": 2, "leap_years": 1, "solving_equations": 1},
        "questions_by_skill": [
            {"skill": "sums/adding", "count": 1},
            {"skill": "sums/solving_equations", "count": 0},
            {"skill": "dates/adding", "count": 0},
            {"skill": "dates/leap_years", "count": 0},
        ],
    }


def test_spelling_does_not_matter_and_no_more_than_the_most_are_kept(
    run_stage: Run, stage: Callable[..., LabelSkills]
) -> None:
    text = "<skill>solving equations, Solving-Equations.</skill> <skill>adding</skill>"
    run = run_stage(stage(max_skills=1), {**GIVEN, "rows": ROWS[:1]}, {"m": lambda r: text})
    assert run.rows[0]["skills"] == ["solving_equations"]
    assert run.metrics["surplus_labels"] == 1


def test_a_task_without_a_list_is_an_error_before_anything_is_asked(
    run_stage: Run, stage: Callable[..., LabelSkills]
) -> None:
    def never(request: Request) -> str:
        raise AssertionError

    for skills, told in (
        (SKILLS[:2], "'skills' has no skills for task 'dates' .row q2"),
        ([{"id": "a", "skill": "adding"}], "has no skills for task 'sums' .*allowed: .no task"),
    ):
        with pytest.raises(DataError, match=told):
            run_stage(stage(), {"rows": ROWS, "skills": skills}, {"m": never})


def test_bad_rows_are_kept_and_counted(run_stage: Run, stage: Callable[..., LabelSkills]) -> None:
    class Failing:
        def generate(self, requests: Any) -> Any:
            for request in requests:
                yield Completion(request.id, "", "error", error="prompt too long")

        def close(self) -> None: ...

    rows = [
        {"id": "1", "question": None, "error": None},
        {"id": "2", "question": "b", "error": "cut"},
        {"id": "3", "question": "c", "error": None},
    ]
    given = {"rows": rows, "skills": [{"id": "a", "skill": "adding"}]}
    run = run_stage(stage(max_error_rate=0.5), given, {"m": lambda r: "<skill>adding</skill>"})
    assert [row["skills"] for row in run.rows] == [[], ["adding"], ["adding"]]
    assert "question is null or empty" in run.rows[0]["error"]
    assert [row["error"] for row in run.rows[1:]] == ["cut", None]
    assert (run.metrics["errors"], run.metrics["unlabelled"]) == (1, 0)
    models = {"m": ModelSource("m", "scripted/m")}
    with pytest.raises(DataError, match="1 of 3 failed.*question is null"):
        run_stage(stage(), given, {"m": lambda r: ""})
    with pytest.raises(DataError, match="prompt too long"):
        run_stage(stage(), GIVEN, models=models, engines={"m": Failing})


def test_an_engine_that_can_is_held_to_the_list(
    run_stage: Run, stage: Callable[..., LabelSkills]
) -> None:
    forms: dict[str, str | None] = {}

    def answer(request: Request) -> str:
        forms[request.id] = request.structure.regex if request.structure else None
        return "<skill>adding</skill>"

    run_stage(stage(max_skills=2), GIVEN, {"m": answer}, structured=frozenset({"m"}))
    ours, theirs = (re.compile(str(forms[name])) for name in ("q1", "q2"))
    reason = "<reason>Two are\nadded.</reason>"
    assert ours.fullmatch(f" <skill>adding, solving_equations</skill> {reason}")
    assert ours.fullmatch(f"<skill>adding</skill>{reason}")
    assert theirs.fullmatch(f"<skill>leap_years</skill>\n{reason}")
    for wrong in ("leap_years", "", "adding, adding, adding", "Adding"):
        assert not ours.fullmatch(f"<skill>{wrong}</skill> {reason}")
    for settings, structured in (({}, frozenset()), ({"constrain": False}, frozenset({"m"}))):
        run_stage(stage(**settings), GIVEN, {"m": answer}, structured=structured)
        assert set(forms.values()) == {None}


def test_what_is_needed_and_offered(stage: Callable[..., LabelSkills]) -> None:
    made = stage()
    assert made.required_columns() == {"rows": {"id", "question"}, "skills": {"id", "skill"}}
    offered = made.template_variables({"rows": frozenset({"question"}), "skills": None})
    assert set(offered.values()) == {frozenset({"question", "about", "skills", "max_skills"})}
    assert not made.is_seeded()
    assert stage(sampling={"temperature": 0.5}).is_seeded()


def test_a_model_that_names_one_skill_everywhere_is_warned_of(
    run_stage: Run, stage: Callable[..., LabelSkills]
) -> None:
    rows = [{**ROWS[0], "id": f"q{n}"} for n in range(20)]
    given = {**GIVEN, "rows": rows}
    run = run_stage(stage(), given, {"m": lambda request: "<skill>adding</skill>"})
    assert any("names 'adding' in 20 of 20 questions of 'sums'" in said for said in run.warnings)
