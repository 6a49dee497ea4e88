"""find_missing_skills: which answers are shown, and what the teacher says of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.engines.base import Request
from llm_distill.errors import DataError
from llm_distill.stages.find_missing_skills import FindMissingSkills

Run = Callable[..., Any]

SKILLS = [
    {"id": f"sums/{name}", "task": "sums", "skill": name} for name in ("adding", "carrying", "c")
] + [{"id": "dates/leap_years", "task": "dates", "skill": "leap_years"}]
BAD = "<reason>5 < 7, so it adds.</reason> <judge>incorrect</judge> <skill>carrying, adding</skill>"


def answers(*difficult: bool | None, **more: Any) -> dict[str, Any]:
    rows = [
        {
            "id": f"v{i}",
            "task": "sums",
            "question": f"{i} + 1?",
            "completion": f"<ans>{i}</ans>",
            "is_difficult": flag,
            **more,
        }
        for i, flag in enumerate(difficult)
    ]
    return {"rows": rows, "skills": SKILLS}


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., FindMissingSkills]:
    path = tmp_path / "missing.jinja"
    path.write_text("{{ skills | join(',') }}|{{ question }}|{{ completion }}|{{ max_skills }}")

    def make(**settings: Any) -> FindMissingSkills:
        return FindMissingSkills(
            stage="find_missing_skills", rows="rows", skills="skills", model="m",
            template=str(path), **settings,
        )  # fmt: skip

    return make


def prompt(request: Request) -> str:
    return str(request.prompt[0]["content"])


def test_only_difficult_questions_are_shown(
    run_stage: Run, stage: Callable[..., FindMissingSkills]
) -> None:
    seen: list[str] = []

    def answer(request: Request) -> str:
        seen.append(prompt(request))
        return BAD

    given = answers(True, False, None, True)
    run = run_stage(stage(), given, {"m": answer})
    assert sorted(seen) == [
        "adding,carrying,c|0 + 1?|<ans>0</ans>|3", "adding,carrying,c|3 + 1?|<ans>3</ans>|3"
    ]  # fmt: skip
    assert run.rows[0] == {
        **given["rows"][0],
        "judge": "incorrect",
        "reason": "5 < 7, so it adds.",
        "missing_skills": ["carrying", "adding"],
        "error": None,
    }
    assert [row["id"] for row in run.rows] == ["v0", "v3"]
    assert run.dropped == {"not difficult": 1, "is_difficult is null": 1}
    assert (run.metrics["n_difficult"], run.metrics["labels"]) == (2, 4)
    said = stage().output_columns({"rows": frozenset(given["rows"][0]), "skills": None})
    assert said == set(run.rows[0])


def test_of_many_difficult_ones_some_are_drawn(
    run_stage: Run, stage: Callable[..., FindMissingSkills]
) -> None:
    given = answers(*[True] * 9, False)

    def drawn(seed: int, rows: list[dict[str, Any]]) -> list[str]:
        rows_in = {**given, "rows": rows}
        run = run_stage(stage(max_questions=3), rows_in, {"m": lambda r: BAD}, seed=seed)
        assert run.dropped == {"not difficult": 1, "over max_questions": 6}
        assert run.metrics["requests"] == 3
        return [row["id"] for row in run.rows]

    first = drawn(1, given["rows"])
    assert len(first) == 3
    assert drawn(1, given["rows"][::-1]) == first[::-1]
    assert any(drawn(seed, given["rows"]) != first for seed in (2, 3, 4))


@pytest.mark.parametrize("judged", ["correct", " Correct. ", "**CORRECT**"])
def test_a_setting_decides_on_answers_that_are_judged_correct(
    run_stage: Run, stage: Callable[..., FindMissingSkills], judged: str
) -> None:
    def answer(request: Request) -> str:
        is_first = "|0 + 1?|" in prompt(request)
        return f"<judge>{judged}</judge><reason>x</reason><skill>c</skill>" if is_first else BAD

    dropped = run_stage(stage(), answers(True, True), {"m": answer})
    assert [row["id"] for row in dropped.rows] == ["v1"]
    assert dropped.dropped == {"judged correct": 1}
    assert (dropped.metrics["judged_correct"], dropped.metrics["labels"]) == (1, 2)
    kept = run_stage(stage(if_judged_correct="keep"), answers(True, True), {"m": answer})
    assert [row["missing_skills"] for row in kept.rows] == [["c"], ["carrying", "adding"]]
    assert kept.rows[0]["judge"] == "correct"
    assert (kept.dropped, kept.metrics["judged_correct"]) == ({}, 1)


def test_what_is_off_the_list_or_cannot_be_read_is_counted(
    run_stage: Run, stage: Callable[..., FindMissingSkills]
) -> None:
    texts = iter(
        [
            "<judge>incorrect</judge><skill>leap years, C, telepathy</skill>",
            "<judge>perhaps</judge><reason>who knows</reason>",
            "<judge>incorrect</judge><reason>cut of",
            "<skill>adding, carrying, c, adding, telepathy</skill>",
        ]
    )
    run = run_stage(stage(max_skills=2), answers(*[True] * 4), {"m": lambda r: next(texts)})
    assert len(run.rows) == 4
    assert sorted(tuple(row["missing_skills"]) for row in run.rows) == [
        (), (), ("adding", "carrying"), ("c",)
    ]  # fmt: skip
    metrics = run.metrics
    assert metrics["off_list"] == {"telepathy": 2, "leap_years": 1}
    counted = ("off_list_labels", "unreadable", "unlabelled", "surplus_labels", "no_verdict")
    assert [metrics[name] for name in counted] == [3, 2, 2, 1, 2]
    assert (metrics["requests"], metrics["errors"], metrics["labels"]) == (4, 0, 3)


@pytest.mark.parametrize("completion", [None, "", " \n"])
def test_a_student_that_wrote_nothing_is_shown_as_such(
    run_stage: Run, stage: Callable[..., FindMissingSkills], completion: str | None
) -> None:
    for settings, text in (({}, "(no answer)"), ({"empty_completion": "∅"}, "∅")):
        seen: list[str] = []

        def answer(request: Request, seen: list[str] = seen) -> str:
            seen.append(prompt(request))
            return BAD

        given = answers(True, True)
        given["rows"][0]["completion"] = completion
        run = run_stage(stage(**settings), given, {"m": answer})
        assert any(f"|0 + 1?|{text}|" in shown for shown in seen)
        assert run.rows[0]["completion"] == completion  # the row is as it was
        assert run.metrics["errors"] == 0


def test_no_difficult_question_is_no_error(
    run_stage: Run, stage: Callable[..., FindMissingSkills]
) -> None:
    def never(request: Request) -> str:
        raise AssertionError

    run = run_stage(stage(), answers(False, False), {"m": never})
    assert (run.rows, run.dropped) == ([], {"not difficult": 2})
    assert (run.metrics["n_difficult"], run.metrics["requests"], run.warnings) == (0, 0, [])


def test_a_task_without_a_list(run_stage: Run, stage: Callable[..., FindMissingSkills]) -> None:
    given = answers(True, task="algebra")
    with pytest.raises(DataError, match="'skills' has no skills for task 'algebra' .row v0"):
        run_stage(stage(), given, {"m": lambda r: BAD})
    easy = answers(False, task="algebra")  # of which nobody is asked
    assert run_stage(stage(), easy, {"m": lambda r: BAD}).rows == []


def test_an_engine_that_can_is_held_to_the_form(
    run_stage: Run, stage: Callable[..., FindMissingSkills]
) -> None:
    forms: list[Any] = []

    def answer(request: Request) -> str:
        forms.append(request.structure)
        return BAD

    run_stage(stage(), answers(True), {"m": answer}, structured=frozenset({"m"}))
    form = re.compile(forms[0].regex)
    assert form.fullmatch(BAD)
    assert form.fullmatch(f" {BAD}")
    for other in ("leap_years", "adding, adding, adding, adding"):
        assert not form.fullmatch(BAD.replace("carrying, adding", other))
    assert not form.fullmatch(BAD.replace("incorrect", "maybe"))
    run_stage(stage(), answers(True), {"m": answer})
    assert forms[1] is None
