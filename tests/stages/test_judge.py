"""judge: judges with planted faults over rows, and what is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.engines.base import Request
from llm_distill.errors import DataError
from llm_distill.preview.references import with_references
from llm_distill.rows.columns import Row
from llm_distill.stage import models_of, references
from llm_distill.stages.judge import Judge

Run = Callable[..., Any]
Answer = Callable[[Request], str]
QUALITY = ("false", "poor", "fair", "good", "perfect")


def stage(**settings: Any) -> Judge:
    given = {"model": "judge", **settings}
    if "judges" in settings:
        del given["model"]
    return Judge(stage="judge", rows="rows", **given)


def pairwise(**settings: Any) -> Judge:
    return stage(mode="pairwise", **settings)


def text_of(request: Request) -> str:
    assert not isinstance(request.prompt, str)
    return request.prompt[0]["content"]


def quality(text: str, after: str) -> int:
    return QUALITY.index(text.partition(f"{after}\n\n")[2].split()[0])


def graded(n: int) -> list[Row]:
    """Answers whose first word says how good they are; the truth and people's grade beside."""
    return [
        {"id": f"r{i}", "question": f"Why {i}?", "answer": f"{QUALITY[i % 5]} as it is",
         "grade_by_people": i % 5 + 1, "right": i % 5 + 1, "planted": "xyz"[i // 5 % 3]}
        for i in range(n)
    ]  # fmt: skip


def grader(leniency: int = 0, noise: float = 0.0, name: str = "") -> Answer:
    """Gives the right grade and `leniency` more, and in a share `noise` of the rows any."""

    def reply(request: Request) -> str:
        draw = random.Random(f"{request.id} {name}")
        grade = min(5, quality(text_of(request), "to grade:") + 1 + leniency)
        return f"So. <grade>{draw.randint(1, 5) if draw.random() < noise else grade}</grade>"

    return reply


def pairs(n: int) -> list[Row]:
    """The first is the better one in every other row; ties in every fifth."""
    rows = []
    for i in range(n):
        better, worse = ("good", "poor") if i % 5 else ("fair", "fair")
        first, second = (better, worse) if i % 2 else (worse, better)
        label = "tie" if i % 5 == 0 else "a" if i % 2 else "b"
        rows.append(
            {"id": f"p{i}", "question": f"Why {i}?", "answer_a": f"{first} {i} one",
             "answer_b": f"{second} {i} two", "people": label}
        )  # fmt: skip
    return rows


def chooser(bias: float = 0.0, noise: float = 0.0) -> Answer:
    """Takes what stands first with probability `bias`, and else errs with probability `noise`."""

    def reply(request: Request) -> str:
        draw = random.Random(request.id)
        a, b = (quality(text_of(request), f"Answer {name}:") for name in "AB")
        winner = "A" if (a > b) != (draw.random() < noise) else "B"
        winner = "tie" if a == b else winner
        return f"<winner>{'A' if draw.random() < bias else winner}</winner>"

    return reply


def figures(run: Any, title: str) -> dict[tuple[str, ...], dict[str, Any]]:
    found = [table for table in run.metrics["figures"] if table["title"] == title]
    return {tuple(row["labels"].values()): row for table in found for row in table["rows"]}


# --- grades ---


def test_one_judge_grades_rows(run_stage: Run) -> None:
    made = stage()
    run = run_stage(made, {"rows": graded(10)}, {"judge": grader()})
    assert [row["scores"] for row in run.rows[:3]] == [{"grade": g} for g in (1.0, 2.0, 3.0)]
    assert run.rows[0]["judgements"] == {"judge": {"grade": 1.0}}
    assert run.rows[0]["judge_replies"] == ["So. <grade>1</grade>"]
    assert {row["error"] for row in run.rows} == {None}
    assert figures(run, "grade, 1 to 5")["judge",]["value"] == 3.0
    columns = frozenset(graded(1)[0])
    assert set(made.output_columns({"rows": columns}) or ()) == {*run.rows[0]}


def test_leniency_and_noise_are_told_apart(run_stage: Run) -> None:
    """One is lenient by 1 (of 5 grades the highest cannot be), one errs at random in 10 %."""
    judges = {name: {"model": name} for name in ("exact", "lenient", "noisy", "random")}
    answers = {
        "exact": grader(), "lenient": grader(1), "noisy": grader(0, 0.1, "n"),
        "random": grader(0, 1.0, "r"),
    }  # fmt: skip
    made = stage(judges=judges, truth="right", people="grade_by_people")
    run = run_stage(made, {"rows": graded(400)}, answers)
    found = figures(run, "grade, 1 to 5: against truth")
    assert found["exact", "RMSE"]["value"] == 0.0
    assert found["exact", "the same"]["value"] == 1.0
    assert 0.98 < found["exact", "the same"]["low"] < 1.0  # no miss in 400 is not none ever
    lenient = found["lenient", "mean error"]
    assert lenient["low"] < 0.8 < lenient["high"]
    assert lenient["value"] == pytest.approx(0.8)
    assert abs(found["noisy", "mean error"]["value"]) < 0.1
    noisy = found["noisy", "weighted kappa"]
    assert noisy["low"] < 0.9 < noisy["high"] < 0.97
    chance = found["random", "weighted kappa"]
    assert chance["low"] < 0 < chance["high"]
    # Against truth the order of accuracy and that of the error's size turn.
    assert found["noisy", "the same"]["value"] > found["lenient", "the same"]["value"]
    agreed = figures(run, "grade, 1 to 5: agreement")
    pair = agreed["weighted kappa", "exact, people"]
    assert pair["value"] == 1.0
    everyone = "exact, lenient, noisy, random, people"
    assert agreed["alpha, ordinal", everyone]["value"] > agreed["alpha", everyone]["value"]
    means = figures(run, "grade, 1 to 5")
    together = [row["scores"]["grade"] for row in run.rows]
    assert means["all judges",]["value"] == pytest.approx(sum(together) / 400)


def test_figures_by_group_find_where_a_judge_is_blind(run_stage: Run) -> None:
    """It sees no difference in rows of the kind z."""

    def blind(request: Request) -> str:
        kind = "xyz"[int(request.id[1:]) // 5 % 3]
        return "<grade>5</grade>" if kind == "z" else grader()(request)

    made = stage(truth="right", by="planted")
    run = run_stage(made, {"rows": graded(60)}, {"judge": blind})
    found = figures(run, "grade, 1 to 5: against truth")
    same = {group: found["judge", group, "the same"]["value"] for group in ("all", *"xyz")}
    assert same == {"all": pytest.approx(44 / 60), "x": 1.0, "y": 1.0, "z": 0.2}
    assert found["judge", "z", "RMSE"]["value"] == pytest.approx(6**0.5)
    assert figures(run, "grade, 1 to 5")["judge", "z"]["value"] == 5.0
    without = [{**row, "planted": None} if row["planted"] == "z" else row for row in graded(60)]
    run = run_stage(made, {"rows": without}, {"judge": blind})
    assert figures(run, "grade, 1 to 5")["judge", "(none)"]["value"] == 5.0


def test_a_judge_of_lengths_is_shown_as_one(run_stage: Run) -> None:
    def longest(request: Request) -> str:
        text = text_of(request).partition("to grade:\n\n")[2].split("\n")[0]
        return f"<grade>{min(5, 1 + len(text) // 10)}</grade>"

    draw = random.Random(0)
    rows = [{**row, "answer": row["answer"] + "!" * draw.randint(0, 30)} for row in graded(80)]
    found = {
        name: figures(run_stage(stage(), {"rows": rows}, {"judge": answer}), "the judge judge")
        for name, answer in (("long", longest), ("true", grader()))
    }
    what = ("correlation of grade and length",)
    assert found["long"][what]["low"] > 0.7
    assert found["true"][what]["value"] < 0.5


def test_criteria_are_asked_one_by_one(run_stage: Run) -> None:
    seen: list[str] = []

    def two(request: Request) -> str:
        seen.append(text_of(request))
        return f"<grade>{2 if 'The criterion: right (It is true).' in seen[-1] else 4}</grade>"

    made = stage(
        criteria={"right": "It is true", "kind": "It is friendly"}, people={"right": "right"}
    )
    assert made.most_asked({"rows": 10}) == {"judge": (20, 512)}
    run = run_stage(made, {"rows": graded(10)}, {"judge": two})
    assert run.rows[0]["scores"] == {"right": 2.0, "kind": 4.0}
    assert len(run.rows[0]["judge_replies"]) == 2
    assert figures(run, "right, 1 to 5")["judge",]["value"] == 2.0
    assert figures(run, "right, 1 to 5: against people")
    assert not figures(run, "kind, 1 to 5: against people")
    assert len(seen) == 20


def test_empty_texts_get_the_lowest_grade_and_what_cannot_be_read_none(run_stage: Run) -> None:
    asked: list[str] = []

    def sometimes(request: Request) -> str:
        asked.append(request.id)
        return "I like it." if request.id == "r1" else grader()(request)

    rows = [{**row, "answer": None if row["id"] == "r3" else row["answer"]} for row in graded(5)]
    rows[4]["question"] = " "
    run = run_stage(stage(max_error_rate=0.5), {"rows": rows}, {"judge": sometimes})
    assert [row["scores"]["grade"] for row in run.rows] == [1.0, None, 3.0, 1.0, None]
    assert [row["error"] for row in run.rows[:4]] == [
        None, "no verdict of a judge can be read", None, None,
    ]  # fmt: skip
    assert "question is null or empty" in run.rows[4]["error"]
    assert "r3" not in asked
    assert run.warnings[0].startswith("1 of 5 rows have no text in answer, and get the lowest")
    assert run.warnings[1].startswith("1 of 3 replies of the judge 'judge' have no grade from 1")


def test_a_judge_that_ignores_the_form_is_not_paid_for_long(run_stage: Run) -> None:
    asked: list[str] = []

    def chats(request: Request) -> str:
        asked.append(request.id)
        return "I like it!"

    with pytest.raises(DataError) as error:
        run_stage(stage(), {"rows": graded(60)}, {"judge": chats})
    assert "20 of 20 replies of the judge 'judge' have no grade from 1 to 5" in str(error.value)
    assert "more room with sampling: {temperature: 0, max_tokens: …}" in str(error.value)
    assert len(asked) <= 24


# --- pairs ---


def test_pairs_are_asked_in_both_orders(run_stage: Run) -> None:
    made = pairwise(people="people")
    run = run_stage(made, {"rows": pairs(20)}, {"judge": chooser()})
    assert [row["verdict"] for row in run.rows] == [row["people"] for row in run.rows]
    assert [row["verdict_swapped"] for row in run.rows] == [row["people"] for row in run.rows]
    assert run.rows[1]["judgements"] == {"judge": {"verdict": "a", "swapped": "a"}}
    found = figures(run, "verdicts")
    assert found["judge", "win rate of the first, a tie is half"]["value"] == 0.5
    assert found["judge", "tied"]["value"] == pytest.approx(0.2)
    assert figures(run, "verdicts: against people")["judge", "kappa"]["value"] == 1.0
    columns = frozenset(pairs(1)[0])
    assert set(made.output_columns({"rows": columns}) or ()) == {*run.rows[0]}


def test_turning_all_pairs_round_turns_the_verdicts(run_stage: Run) -> None:
    """Whatever the judge's bias: each pair is shown both ways."""

    def always_first(request: Request) -> str:
        draw = random.Random(text_of(request))  # not of the place in the rows
        return "<winner>A</winner>" if draw.random() < 0.5 else chooser()(request)

    rows = pairs(60)
    turned = [{**row, "answer_a": row["answer_b"], "answer_b": row["answer_a"]} for row in rows]
    found = run_stage(pairwise(), {"rows": rows}, {"judge": always_first})
    other = run_stage(pairwise(), {"rows": turned}, {"judge": always_first})
    swapped = {"a": "b", "b": "a", "tie": "tie"}
    assert [row["verdict"] for row in other.rows] == [swapped[row["verdict"]] for row in found.rows]
    bias = [
        figures(run, "the judge judge")["position bias: first chosen − second chosen",]["value"]
        for run in (found, other)
    ]
    assert bias[0] == pytest.approx(bias[1])
    assert bias[0] > 0.3


def test_a_planted_bias_of_position_is_found(run_stage: Run) -> None:
    run = run_stage(pairwise(), {"rows": pairs(400)}, {"judge": chooser(0.3, 0.1)})
    found = figures(run, "the judge judge")["position bias: first chosen − second chosen",]
    assert found["low"] < 0.3 < found["high"]
    contradicted = figures(run, "verdicts")["judge", "contradicted itself"]["value"]
    assert contradicted > 0.3
    fair = run_stage(pairwise(), {"rows": pairs(60)}, {"judge": chooser()})
    figure = figures(fair, "the judge judge")["position bias: first chosen − second chosen",]
    assert figure["value"] == 0.0
    assert figures(fair, "verdicts")["judge", "contradicted itself"]["value"] == 0.0


def test_several_judges_are_a_majority_with_ties(run_stage: Run) -> None:
    judges = {name: {"model": name} for name in ("one", "two", "wrong")}
    opposite = chooser(0.0, 1.0)
    answers = {"one": chooser(), "two": chooser(), "wrong": opposite}
    run = run_stage(pairwise(judges=judges), {"rows": pairs(20)}, answers)
    assert [row["verdict"] for row in run.rows] == [row["people"] for row in run.rows]
    assert run.rows[1]["judgements"]["wrong"] == {"verdict": "b", "swapped": "b"}
    two = {"one": {"model": "one"}, "wrong": {"model": "wrong"}}
    run = run_stage(pairwise(judges=two), {"rows": pairs(20)}, answers)
    assert {row["verdict"] for row in run.rows} == {"tie"}
    agreed = figures(run, "verdicts: agreement")
    assert agreed["kappa", "one, wrong"]["value"] < 0


def test_candidates_may_be_a_list_and_what_needs_no_judge_is_not_asked(run_stage: Run) -> None:
    asked: list[str] = []

    def counts(request: Request) -> str:
        asked.append(request.id)
        return chooser()(request)

    listed = [
        {"id": "p0", "question": "Why?", "candidates": ["good one", "poor two"]},
        {"id": "p1", "question": "Why?", "candidates": ["good one", " good  one"]},
        {"id": "p2", "question": "Why?", "candidates": ["good one", ""]},
    ]
    made = pairwise(answers=["candidates"])
    run = run_stage(made, {"rows": listed}, {"judge": counts})
    assert [row["verdict"] for row in run.rows] == ["a", "tie", "a"]
    assert sorted(asked) == ["p0-ab", "p0-ba"]
    three = [{**listed[0], "candidates": ["a", "b", "c"]}]
    with pytest.raises(DataError, match="'candidates' has to be a list of two texts"):
        run_stage(made, {"rows": three}, {"judge": counts})


# --- the gate ---


def test_a_judge_that_people_do_not_agree_with_judges_little(run_stage: Run) -> None:
    asked: list[str] = []

    def random_grades(request: Request) -> str:
        asked.append(request.id)
        return grader(0, 1.0)(request)

    rows = [
        {**row, "grade_by_people": row["grade_by_people"] if place >= 50 else None}
        for place, row in enumerate(graded(100))
    ]
    made = stage(people="grade_by_people", min_agreement=0.6)
    with pytest.raises(DataError) as error:
        run_stage(made, {"rows": rows}, {"judge": random_grades})
    said = str(error.value)
    assert "agrees too little with 'grade_by_people' of 'rows', so nothing was judged" in said
    assert "weighted_kappa of grade_by_people, judge" in said
    assert "  r5" in said  # one of those on which they differ
    assert {int(name[1:]) >= 50 for name in asked} == {True}
    assert len(asked) == 50
    run = run_stage(made, {"rows": rows}, {"judge": grader(0, 0.1)})
    assert len(run.rows) == 100
    assert all(row["scores"]["grade"] is not None for row in run.rows)


def test_each_criterion_and_judge_has_to_pass(run_stage: Run) -> None:
    def half(request: Request) -> str:
        is_kind = "The criterion: kind" in text_of(request)
        return "<grade>3</grade>" if is_kind else grader()(request)

    made = stage(
        criteria={"right": "x", "kind": "y"}, min_agreement=0.5,
        people={"right": "right", "kind": "grade_by_people"},
    )  # fmt: skip
    with pytest.raises(DataError, match="agrees too little with 'grade_by_people'"):
        run_stage(made, {"rows": graded(20)}, {"judge": half})
    both = stage(
        judges={"good": {"model": "g"}, "bad": {"model": "b"}}, people="right", min_agreement=0.5
    )
    answers = {"g": grader(), "b": grader(0, 1.0)}
    with pytest.raises(DataError, match="the judge 'bad' agrees too little"):
        run_stage(both, {"rows": graded(40)}, answers)


def test_labels_of_people_are_checked_before_anything_is_asked(run_stage: Run) -> None:
    asked: list[str] = []

    def never(request: Request) -> str:
        asked.append(request.id)
        return grader()(request)

    for changed, said in (
        ({"grade_by_people": 9}, "row r0 of 'rows': 'grade_by_people' is 9; it must be a grade fr"),
        ({"grade_by_people": None}, "has 0 rows with a label in 'grade_by_people'; agreement need"),
    ):
        rows = [{**row, **changed} for row in graded(3)]
        made = stage(people="grade_by_people", min_agreement=0.1)
        with pytest.raises(DataError, match=said):
            run_stage(made, {"rows": rows}, {"judge": never})
    assert asked == []


# --- settings ---


def test_a_conversation_is_written_out_as_the_question(run_stage: Run) -> None:
    seen: list[str] = []

    def look(request: Request) -> str:
        seen.append(text_of(request))
        return grader()(request)

    turns = [{"role": "user", "content": "7 x 8 is 54?"}]
    rows = [{"id": "t1", "messages": turns, "answer": "good try"}]
    made = stage(question_column="messages", roles={"user": "Pupil"})
    run_stage(made, {"rows": rows}, {"judge": look})
    assert "Question: Pupil: 7 x 8 is 54?" in seen[0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": None}, "give one of model and judges"),
        ({"judges": {"all judges": {"model": "x"}}}, "'all judges' is what they are called"),
        ({"scale": [5, 1]}, "a scale goes from a lower to a higher grade"),
        ({"answers": ["a", "b"]}, "answers: mode: grade reads one column"),
        ({"mode": "pairwise", "answers": ["a", "b", "c"]}, "two columns, or one with lists"),
        ({"mode": "pairwise", "criteria": {"a": "b"}}, "go with mode: grade"),
        ({"min_agreement": 0.5}, "name the column with what `people` say"),
        ({"people": {"right": "x"}}, "columns by name are for `criteria`"),
        ({"criteria": {"a": "x"}, "truth": "y"}, "with criteria name the column of each"),
        ({"criteria": {"a": "x"}, "template": "judge/answer.jinja"}, "does not read `criterion`"),
        ({"template": "judge/pair.jinja"}, "does not show the answer"),
        ({"mode": "pairwise", "template": "judge/answer.jinja"}, "does not show both answers"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        stage(**settings)


def test_what_is_asked_is_bounded_and_models_are_found(tmp_path: Path) -> None:
    own = tmp_path / "own.jinja"
    own.write_text("{{ answer_a }} {{ answer_b }}")
    judges = {"one": {"model": "big"}, "two": {"model": "big", "template": str(own)}}
    made = pairwise(judges=judges)
    assert made.most_asked({"rows": 10}) == {"big": (40, 512)}
    assert made.most_asked({"rows": None}) is None
    assert models_of(made) == ["big", "big"]
    assert set(made.template_variables({"rows": None})) == {"judge/pair.jinja", str(own)}
    alone = pairwise(template=str(own))
    assert alone.required_columns() == {"rows": {"id", "answer_a", "answer_b"}}


def test_models_of_judges_have_a_place_and_another_name_can_be_set() -> None:
    made = stage(judges={"one": {"model": "big"}, "two": {"model": "small"}})
    assert references(made) == [
        ("rows", "rows", "rows"),
        ("judges.one.model", "big", "model"),
        ("judges.two.model", "small", "model"),
    ]
    other = with_references(made, {"small": "smaller", "rows": "fewer"})
    assert (models_of(other), other.rows) == (["big", "smaller"], "fewer")  # type: ignore[attr-defined]
    assert models_of(made) == ["big", "small"]


def test_a_number_is_a_text_and_no_text_at_all_is_an_error(run_stage: Run) -> None:
    rows = [{"id": "a", "question": "3 - 3?", "answer": 0}]
    run = run_stage(stage(), {"rows": rows}, {"judge": lambda request: "<grade>4</grade>"})
    assert run.rows[0]["scores"] == {"grade": 4.0}
    nothing = [{**rows[0], "answer": None}, {**rows[0], "id": "b", "answer": None}]
    with pytest.raises(DataError, match="no row of 'rows' has a text in answer, so there is"):
        run_stage(stage(), {"rows": nothing}, {"judge": lambda request: "<grade>4</grade>"})


def test_a_group_may_be_called_as_all_are_and_people_may_say_nothing(run_stage: Run) -> None:
    rows = [
        {"id": str(n), "question": "?", "answer": str(n), "kind": "all", "people": None}
        for n in range(2)
    ]
    run = run_stage(
        stage(by="kind", people="people"), {"rows": rows}, {"judge": lambda r: "<grade>4</grade>"}
    )
    groups = [row["labels"]["group"] for row in run.metrics["figures"][0]["rows"]]
    assert groups == ["(all)", "all"]
    assert run.warnings == ["people: no row of 'rows' has a label; nothing is compared"]
