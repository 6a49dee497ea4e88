"""A judge in the exam: planted truths are found, and what cannot be believed is not shown."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.engines.base import Request
from llm_distill.errors import DataError
from llm_distill.models.sources import ModelSource
from llm_distill.rows.columns import Row
from llm_distill.stages.evaluate import Evaluate

Run = Callable[..., Any]
Make = Callable[..., Evaluate]
Answer = Callable[[Request], str]

QUALITY = ("false", "poor", "fair", "good", "perfect")


@pytest.fixture
def exam(tmp_path: Any) -> Make:
    (tmp_path / "exam.jinja").write_text("{{ question }}")

    def make(models: tuple[str, ...] = ("base", "tuned"), **judge: Any) -> Evaluate:
        return Evaluate(
            stage="evaluate", rows="rows", models=list(models), answer_kind="text",
            template=str(tmp_path / "exam.jinja"), judge={"model": "judge", **judge},
        )  # fmt: skip

    return make


def items(n: int, **more: Any) -> list[Row]:
    text = "the reference says something that is long"
    return [
        {"id": f"t{i}", "question": f"Why {i}?", "reference_answer": text, **more} for i in range(n)
    ]


def text_of(request: Request) -> str:
    assert not isinstance(request.prompt, str)
    return request.prompt[0]["content"]


def writes(quality: Callable[[int], str]) -> Answer:
    """A student whose answer says how good it is."""
    return lambda request: f"{quality(int(text_of(request)[4:-1]))} answer to {text_of(request)}"


def shown_quality(text: str, after: str) -> int:
    return QUALITY.index(text.partition(f"{after}\n\n")[2].split()[0])


def truthful(request: Request) -> str:
    return f"So it is. <grade>{shown_quality(text_of(request), 'to grade:') + 1}</grade>"


def prefers(bias: float = 0.0, noise: float = 0.0) -> Answer:
    """Takes what stands first with probability `bias`, and else errs with probability `noise`."""

    def reply(request: Request) -> str:
        draw = random.Random(request.id)
        text = text_of(request)
        a, b = (shown_quality(text, f"Answer {name}:") for name in "AB")
        if draw.random() < bias:
            winner = "A"
        else:
            winner = "A" if (a > b) != (draw.random() < noise) else "B"
            winner = "tie" if a == b else winner
        return f"Hm. <winner>{winner}</winner>"

    return reply


def figures(run: Any, title: str) -> dict[tuple[str, ...], dict[str, Any]]:
    found = [table for table in run.metrics["figures"] if table["title"] == title]
    return {tuple(row["labels"].values()): row for table in found for row in table["rows"]}


def test_grades_have_means_intervals_and_paired_differences(run_stage: Run, exam: Make) -> None:
    answers = {
        "base": writes(lambda n: QUALITY[n % 3]), "tuned": writes(lambda n: QUALITY[n % 3 + 1]),
        "judge": truthful,
    }  # fmt: skip
    run = run_stage(exam(), {"rows": items(12)}, answers)
    assert [row["judge_grade"] for row in run.rows[:4]] == [1.0, 2.0, 3.0, 1.0]
    assert run.rows[0]["judge_replies"] == ["So it is. <grade>1</grade>"]
    means = figures(run, "grade of 1 to 5 by judge")
    assert {place: row["value"] for place, row in means.items()} == {
        ("base", "0"): 2.0, ("tuned", "0"): 3.0,
    }  # fmt: skip
    assert means["base", "0"]["low"] < 2 < means["base", "0"]["high"]
    (difference,) = figures(run, "grade of 1 to 5 by judge: paired differences").values()
    assert (difference["value"], difference["low"], difference["n"]) == (1.0, 1.0, 12)
    (note,) = run.metrics["notes"]
    assert "go by the other figures" in note


def test_what_cannot_be_read_is_counted_and_not_guessed(run_stage: Run, exam: Make) -> None:
    def sometimes(request: Request) -> str:
        return "I like it." if request.id.endswith(("t1-tuned-0-0",)) else truthful(request)

    answers = {
        "base": writes(lambda n: "good"), "judge": sometimes,
        "tuned": lambda request: " " if "Why 0" in text_of(request) else writes(
            lambda n: "perfect")(request),
    }  # fmt: skip
    run = run_stage(exam(), {"rows": items(6)}, answers)
    tuned = [row["judge_grade"] for row in run.rows[6:]]
    assert tuned == [1.0, None, 5.0, 5.0, 5.0, 5.0]  # the empty one was not shown to the judge
    assert run.rows[6]["judge_replies"] == []
    (difference,) = figures(run, "grade of 1 to 5 by judge: paired differences").values()
    assert difference["n"] == 5
    counts = {place[0]: row["value"] for place, row in figures(run, "the judge").items()}
    assert counts["unreadable replies"] == 1
    assert counts["replies"] == 11
    assert counts["empty answers, which get the lowest grade"] == 1
    assert any("1 of 11 replies of the judge 'judge' have no grade" in w for w in run.warnings)


def test_a_planted_bias_of_position_is_found(run_stage: Run, exam: Make) -> None:
    """Tuned is the better one in 3 of 4 pairs; bias 0.3, noise 0.1."""
    bias, noise, n = 0.3, 0.1, 400
    answers = {
        "base": writes(lambda n: "fair"),
        "tuned": writes(lambda n: "poor" if n % 4 == 0 else "good"),
        "judge": prefers(bias, noise),
    }
    run = run_stage(exam(mode="pairwise"), {"rows": items(n)}, answers)
    known = figures(run, "the judge")
    position = known["position bias: first chosen − second chosen",]
    assert position["low"] < bias < position["high"]
    assert position["high"] - position["low"] < 0.15
    first, second = bias + (1 - bias) * (1 - noise), (1 - bias) * (1 - noise)
    both_right, both_wrong = first * second, (1 - first) * (1 - second)
    rates = figures(run, "pairs against base by judge")
    won = rates["tuned", "0", "won"]["value"]
    assert won == pytest.approx(0.75 * both_right + 0.25 * both_wrong, abs=0.06)
    contradicted = rates["tuned", "0", "contradicted itself"]["value"]
    assert contradicted == pytest.approx(1 - both_right - both_wrong, abs=0.07)
    assert rates["tuned", "0", "tied"]["value"] == contradicted  # a contradiction is a tie
    rate = rates["tuned", "0", "win rate, a tie is half"]
    assert rate["low"] < rate["value"] < rate["high"] < rate["low"] + 0.1
    fair = run_stage(exam(mode="pairwise"), {"rows": items(60)}, {**answers, "judge": prefers()})
    rates = figures(fair, "pairs against base by judge")
    assert rates["tuned", "0", "won"]["value"] == 0.75
    position = figures(fair, "the judge")["position bias: first chosen − second chosen",]
    assert position["value"] == 0.0


def test_a_judge_of_lengths_is_shown_as_one(run_stage: Run, exam: Make) -> None:
    def longest(request: Request) -> str:
        a, b = (
            text_of(request).partition(f"Answer {name}:\n\n")[2].split("\n")[0] for name in "AB"
        )
        return f"<winner>{'A' if len(a) > len(b) else 'B'}</winner>"

    draw = random.Random(0)
    padded = [" very" * draw.randint(0, 9) for _ in range(60)]
    answers = {
        "base": writes(lambda n: "fair" + " very" * 5), "judge": longest,
        "tuned": writes(lambda n: "fair" + padded[n]),
    }  # fmt: skip
    run = run_stage(exam(mode="pairwise"), {"rows": items(60)}, answers)
    found = figures(run, "the judge")["correlation of winning and being longer",]
    assert found["low"] > 0.6
    assert found["n"] == 60 - padded.count(" very" * 5)  # equal answers tie without being shown


def test_pairs_have_a_baseline_and_several_models_differ_in_wins(
    run_stage: Run, exam: Make
) -> None:
    asked: list[str] = []

    def judge(request: Request) -> str:
        asked.append(request.id)
        return prefers()(request)

    answers = {
        "bad": writes(lambda n: "poor"), "good": writes(lambda n: "good"),
        "mid": lambda request: "" if "Why 0" in text_of(request) else writes(
            lambda n: "fair")(request), "judge": judge,
    }  # fmt: skip
    models = ("bad", "good", "mid")
    run = run_stage(exam(models, mode="pairwise", baseline="mid"), {"rows": items(6)}, answers)
    rates = figures(run, "pairs against mid by judge")
    assert rates["bad", "0", "won"]["value"] == pytest.approx(1 / 6)  # the empty one lost
    assert rates["good", "0", "won"]["value"] == 1.0
    assert len(asked) == 2 * 2 * 5
    assert [row["judge_outcome"] for row in run.rows if row["model"] == "mid"] == [None] * 6
    (difference,) = figures(
        run, "pairs against mid by judge: paired differences of win rates"
    ).values()
    assert difference["labels"]["difference"] == "good − bad"
    assert difference["value"] == pytest.approx(5 / 6)


def test_open_questions_need_no_references(run_stage: Run, exam: Make) -> None:
    questions = [{"id": f"t{i}", "question": f"Why {i}?"} for i in range(6)]
    seen: list[str] = []

    def judge(request: Request) -> str:
        seen.append(text_of(request))
        return truthful(request)

    answers = {"base": writes(lambda n: "good"), "tuned": writes(lambda n: "fair"), "judge": judge}
    run = run_stage(exam(), {"rows": questions}, answers)
    assert "results" not in run.metrics
    assert {row["is_correct"] for row in run.rows} == {None}
    assert figures(run, "grade of 1 to 5 by judge")["base", "0"]["value"] == 4.0
    assert not any("counts as right" in text for text in seen)
    run_stage(exam(), {"rows": items(3)}, {**answers})
    assert "counts as right: the reference says" in seen[-1]
    with pytest.raises(DataError, match="item t2 of 'rows' has no reference_answer"):
        run_stage(exam(), {"rows": [*items(2), {**items(3)[2], "reference_answer": " "}]}, answers)


def test_a_judge_that_ignores_the_form_is_not_paid_for_long(run_stage: Run, exam: Make) -> None:
    asked: list[str] = []

    def chats(request: Request) -> str:
        asked.append(request.id)
        return f"I like it, {len(asked)} of 5!"

    answers = {"base": writes(lambda n: "good"), "tuned": writes(lambda n: "fair"), "judge": chats}
    with pytest.raises(DataError) as error:
        run_stage(exam(), {"rows": items(40)}, answers)
    said = str(error.value)
    assert "20 of 20 replies of the judge 'judge' have no grade from 1 to 5" in said
    assert said.count("I like it, ") == 3
    assert "judge/answer.jinja" in said
    assert len(asked) <= 24
    with pytest.raises(DataError, match="6 of 6 replies of the judge 'judge' have no <winner>"):
        run_stage(exam(mode="pairwise"), {"rows": items(3)}, answers)


def test_a_judge_of_its_own_answers_is_warned_of(run_stage: Run, exam: Make) -> None:
    answers = {"base": writes(lambda n: "good"), "tuned": writes(lambda n: "good"),
               "judge": truthful}  # fmt: skip
    same = {"judge": ModelSource("judge", "scripted/tuned")}
    run = run_stage(exam(), {"rows": items(3)}, answers, models=same)
    assert run.warnings[0].startswith("the judge 'judge' is the model 'tuned', whose answers")
    other = run_stage(exam(), {"rows": items(3)}, answers)
    assert not any("whose answers" in warning for warning in other.warnings)


def test_what_does_not_fit_together_is_said_at_once(exam: Make, tmp_path: Any) -> None:
    blind = tmp_path / "blind.jinja"
    blind.write_text("Grade what was answered to {{ question }} {{ answer_a }}")
    for wrong, said in (
        ({"scale": [3, 3]}, "a scale goes from a lower to a higher grade"),
        ({"scale": [5, 1]}, "a scale goes from a lower to a higher grade"),
        ({"template": str(blind)}, "does not show the answer"),
        ({"template": str(blind), "mode": "pairwise"}, "does not show both answers"),
        ({"scale": [1, 5], "mode": "pairwise"}, "scale goes with mode: grade"),
        ({"baseline": "base"}, "baseline goes with mode: pairwise"),
        ({"baseline": "tunned", "mode": "pairwise"}, "did you mean 'tuned'"),
        ({"models": ("base",), "mode": "pairwise"}, "name two or more"),
    ):
        with pytest.raises(ValidationError, match=said):
            exam(**wrong)


def test_what_is_asked_is_bounded_before_the_run(exam: Make) -> None:
    labelled = {"rows": "people", "column": "grade", "min_agreement": 0.4}
    graded = exam(labelled=labelled).most_asked({"rows": 10, "people": 7})
    assert graded == {"base": (10, 256), "tuned": (10, 256), "judge": (27, 512)}
    paired = exam(mode="pairwise", labelled=labelled).most_asked({"rows": 10, "people": 7})
    assert paired is not None
    assert paired["judge"] == (34, 512)
    own = exam(("judge", "tuned")).most_asked({"rows": 10})
    assert own is not None
    assert own["judge"] == (30, 512)
    assert exam(labelled=labelled).most_asked({"rows": 10, "people": None}) is None


def test_answers_are_paired_with_those_of_the_same_draw(run_stage: Run) -> None:
    """Of a conversation; the third of tuned's answers is worse than base's."""
    asked: list[str] = []

    def draws(best: int) -> Answer:
        return lambda request: QUALITY[min(int(request.id[-1]), best)] + f" {request.id}"

    def judge(request: Request) -> str:
        asked.append(text_of(request))
        return prefers()(request)

    rows = [
        {"id": f"t{i}", "reference_answer": "none of these words",
         "messages": [{"role": "user", "content": f"Why {i}?"},
                      {"role": "assistant", "content": "?"}]}
        for i in range(3)
    ]  # fmt: skip
    stage = Evaluate(
        stage="evaluate", rows="rows", models=["base", "tuned"], messages_column="messages",
        samples=3, sampling={"temperature": 0.7}, answer_kind="text", variables={"answer_a": "x"},
        judge={"model": "judge", "mode": "pairwise"},
    )  # fmt: skip
    answers = {"base": draws(2), "tuned": draws(1), "judge": judge}
    run = run_stage(stage, {"rows": rows}, answers)
    tuned = [row for row in run.rows if row["model"] == "tuned"]
    assert [row["judge_outcome"] for row in tuned] == ["tied", "tied", "lost"] * 3
    rate = figures(run, "pairs against base by judge")["tuned", "0", "win rate, a tie is half"]
    assert (rate["value"], rate["n"]) == (pytest.approx(1 / 3), 3)
    assert all("Question: Why" in text and "?\n\nAn answer that counts" in text for text in asked)
