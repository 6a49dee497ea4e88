"""tutoring_report: tutors and pupils whose worth is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import ConfigError, DataError
from llm_distill.pipeline.load import load_pipeline
from llm_distill.stages.simulate_dialogue import SimulateDialogue
from llm_distill.stages.tutoring_report import TutoringReport
from tests.scripted_talks import ALL, PROMPT, ROWS

Run = Callable[..., Any]
Hold = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def hold(run_stage: Run, tmp_path: Path) -> Hold:
    """Dialogues of a scripted tutor with a scripted pupil, by their names."""
    (tmp_path / "talk.jinja").write_text(PROMPT)
    prompt = str(tmp_path / "talk.jinja")

    def held(tutor: str, pupil: str, rows: Any = ROWS, **settings: Any) -> list[dict[str, Any]]:
        alone = {"speaker": "student", "template": prompt}
        talk = SimulateDialogue(
            stage="simulate_dialogue",
            rows="rows",
            speakers={
                "tutor": {"model": "t", "template": prompt, "act_tag": "act"},
                "student": {"model": "s", "template": prompt},
            },
            opening=[
                {"speaker": "tutor", "text": "How did you solve it?"},
                {"speaker": "student", "column": "wrong_solution"},
            ],
            stop=[{"speaker": "student", "answers": "reference_answer"}],
            max_turns=8,
            before=alone,
            after=alone,
            **settings,
        )
        found: list[dict[str, Any]] = run_stage(
            talk, {"rows": rows}, {"t": ALL[tutor], "s": ALL[pupil]}
        ).rows
        return found

    return held


def report(*tutors: str, **settings: Any) -> TutoringReport:
    return TutoringReport(
        stage="tutoring_report", dialogues={name: name for name in tutors}, **settings
    )


def figures(run: Any, title: str) -> dict[tuple[str, ...], Any]:
    (table,) = (t for t in run.metrics["figures"] if t["title"].startswith(title))
    return {tuple(row["labels"].values()): row for row in table["rows"]}


def test_tutors_of_known_worth(run_stage: Run, hold: Hold) -> None:
    """Only the right remedy brings success without telling."""
    names = ("knows_the_remedy", "tells", "thinks_again", "gives_the_wrong_remedy")
    run = run_stage(report(*names), {name: hold(name, "learns") for name in names})
    found = figures(run, "success against telling at 4 turns")
    shares = {
        name: [
            found[name, measure]["value"]
            for measure in ("success", "telling", "success without telling")
        ]
        for name in names
    }
    assert {found[name, "dialogues"]["value"] for name in names} == {4}
    assert shares == {
        "knows_the_remedy": [1, 0, 1],
        "tells": [1, 1, 0],
        "thinks_again": [0, 0, 0],
        "gives_the_wrong_remedy": [0, 0, 0],
    }
    differences = figures(run, "differences from knows_the_remedy at 4 turns")
    assert differences["tells", "success without telling"]["value"] == -1
    assert differences["tells", "success"]["value"] == 0
    assert differences["thinks_again", "success"]["kind"] == "points"
    acts = figures(run, "acts of the tutor")
    assert acts["tells", "telling"]["value"] == acts["thinks_again", "generic"]["value"] == 1
    gains = figures(run, "before and after")
    assert [gains["tells", m]["value"] for m in ("before", "after", "gain")] == [0, 1, 1]
    assert [gains["thinks_again", m]["value"] for m in ("before", "after", "gain")] == [0, 0, 0]
    assert gains["tells", "before"]["high"] > 0
    assert {row["tutor"] for row in run.rows} == set(names)
    assert run.rows[0] == {
        "id": "q1-knows_the_remedy",
        "parent_id": "q1",
        "tutor": "knows_the_remedy",
        "success_turn": 1,
        "telling_turn": None,
        "n_turns": 2,
        "stop_reason": "answered",
        "before_is_correct": False,
        "after_is_correct": True,
    }


def test_a_pupil_that_gives_in_makes_the_null_tutor_succeed(run_stage: Run, hold: Hold) -> None:
    """Success alone says nothing then: the curve shows that it comes with the third turn."""
    names = ("knows_the_remedy", "thinks_again")
    run = run_stage(report(*names), {name: hold(name, "yields") for name in names})
    curve = figures(run, "tutoring by turns of the pupil")
    for name in names:  # the wrong solution is the first of its own turns
        assert [curve[name, str(k), "success"]["value"] for k in (1, 2, 3)] == [0, 0, 1]
        assert curve[name, "3", "success without telling"]["value"] == 1
    differences = figures(run, "differences from knows_the_remedy at 3 turns")
    assert differences["thinks_again", "success"]["value"] == 0
    assert {row["success_turn"] for row in run.rows} == {3}


def test_given_turns_do_not_count(run_stage: Run, hold: Hold) -> None:
    """Every wrong solution contains the right number."""
    talks = hold("thinks_again", "never_stops")
    assert all(row["reference_answer"] in row["messages"][1]["content"] for row in talks)
    opened = [
        {**row, "messages": [{**row["messages"][0], "content": "The answer is 22."}] * 2
         + row["messages"][2:]}
        for row in talks
    ]  # fmt: skip
    for rows in (talks, opened):
        run = run_stage(report("t"), {"t": rows})
        assert {(row["success_turn"], row["telling_turn"]) for row in run.rows} == {(None, None)}


def test_intervals_are_over_items(run_stage: Run, hold: Hold) -> None:
    """Ten copies of each dialogue tell no more than one."""
    rows = hold("tells", "learns")[:2] + hold("thinks_again", "never_stops")[2:]
    rows = [{**row, "item": row["id"]} for row in rows]
    copies = [{**row, "id": f"{row['id']}-{i}"} for row in rows for i in range(10)]
    once, often = (
        figures(run_stage(report("t", item_column="item"), {"t": of}), "tutoring by turns")
        for of in (rows, copies)
    )
    assert once["t", "4", "success"] == often["t", "4", "success"]
    assert (once["t", "4", "success"]["value"], once["t", "4", "success"]["n"]) == (0.5, 4)
    apart = figures(run_stage(report("t"), {"t": copies}), "tutoring by turns")
    wide, narrow = (f["t", "4", "success"]["high"] for f in (once, apart))
    assert narrow < wide


def test_dialogues_on_other_items_are_said_to_be(run_stage: Run, hold: Hold) -> None:
    rows = {"tells": hold("tells", "learns"), "thinks_again": hold("thinks_again", "learns")[1:]}
    run = run_stage(report("tells", "thinks_again"), rows)
    (warning,) = run.warnings
    assert warning == (
        "thinks_again is compared with tells on the 3 items of both: it has 3, and tells 4"
    )
    assert figures(run, "differences")["thinks_again", "success"]["n"] == 3
    assert figures(run, "differences")["thinks_again", "items"]["value"] == 3


def test_dialogues_that_failed_are_dropped(run_stage: Run, hold: Hold) -> None:
    rows = hold("tells", "learns", [{**ROWS[0], "wrong_solution": ""}, *ROWS[1:]], max_error_rate=1)
    run = run_stage(report("t"), {"t": rows})
    assert (len(run.rows), run.dropped) == (3, {"the dialogue failed": 1})
    with pytest.raises(DataError, match="every dialogue of 't' failed"):
        run_stage(report("t"), {"t": rows[:1]})


def test_nobody_of_that_name(run_stage: Run, hold: Hold) -> None:
    rows = {"t": hold("tells", "learns")}
    with pytest.raises(DataError, match=r"nobody in 't' is called 'studnt' \(student\); did you"):
        run_stage(report("t", student="studnt"), rows)
    with pytest.raises(ValidationError, match="tutor and student are both 'tutor'"):
        report("t", student="tutor")


TALKS = """\
name: talks
models:
  pupil: {model_name_or_path: data/models/tiny-pupil}
stages:
  cases: {stage: load_dataset, path: data/tutoring, split: test}
  talks: &talks
    stage: simulate_dialogue
    rows: cases
    speakers:
      tutor: {says: pupils/think_again.jinja}
      pupil: {model: pupil, template: pupils/pupil.jinja}
    opening: [{speaker: pupil, column: wrong_solution}]
  other: {<<: *talks, max_turns: 4}
  some: {stage: select, rows: talks, n: 9, order: random}
  report: {stage: tutoring_report, dialogues: {a: other, b: some}, student: pupil}
"""


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            "student: pupl",
            "stages.report.student: nobody in 'other' is called 'pupl' (student); did you mean "
            "'pupil'? allowed: pupil, tutor",
        ),
        # Nothing is set: the default is what nobody is called. Rows that are passed on say it too.
        (
            "answer_kind: math",
            "stages.report.student: nobody in 'other' is called 'student' (student); allowed: "
            "pupil, tutor",
        ),
        (
            "dialogues: {b: some}, student: pupil, tutor: teacher",
            "stages.report.tutor: nobody in 'some' is called 'teacher' (tutor); allowed: pupil, "
            "tutor",
        ),
    ],
)
def test_a_misnamed_speaker_is_found_before_anyone_is_paid(
    tmp_path: Path, asked: str, message: str
) -> None:
    text = TALKS.replace("student: pupil}", asked + "}")
    if asked.startswith("dialogues"):
        text = text.replace("dialogues: {a: other, b: some}, ", "")
    file = tmp_path / "talks.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_pipeline(str(file))
    assert str(caught.value).splitlines() == [
        f"1 problem in {file}:",
        f"  {file}:15: {message}",
    ]
    file.write_text(TALKS)
    load_pipeline(str(file))


def test_a_number_in_passing(run_stage: Run, hold: Hold) -> None:
    rows = hold("thinks_again", "never_stops")
    passing = [
        {**row, "messages": [*row["messages"][:2], {**row["messages"][2],
         "content": f"It is {row['reference_answer']}, since 7 + 5 is 12."}, *row["messages"][3:]]}
        for row in rows[1:]
    ]  # fmt: skip
    for reading, turn in ("final", None), ("anywhere", 1):
        run = run_stage(report("t", telling_in=reading), {"t": passing})
        assert {row["telling_turn"] for row in run.rows} == {turn}


def test_how_far_the_curve_goes(run_stage: Run, hold: Hold) -> None:
    rows = {"t": hold("thinks_again", "yields")}
    for settings, last in ({}, 3), ({"max_k": 2}, 2), ({"max_k": 5}, 5):
        curve = figures(run_stage(report("t", **settings), rows), "tutoring by turns")
        assert max(int(k) for _, k, _ in curve) == last


def test_answers_before_may_be_numbers_and_items_are_named(run_stage: Run, hold: Hold) -> None:
    talks = [{**row, "before": 5, "about": None} for row in hold("knows_the_remedy", "learns")]
    run = run_stage(report("helps"), {"helps": talks})
    assert {row["before_is_correct"] for row in run.rows} <= {True, False}
    with pytest.raises(DataError, match="failed or has no reference_answer or about"):
        run_stage(report("helps", item_column="about"), {"helps": talks})
