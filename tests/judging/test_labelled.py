"""The gate: a judge that people do not agree with judges nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from llm_distill.engines.base import Request
from llm_distill.errors import DataError
from llm_distill.rows.columns import Row
from llm_distill.stages.evaluate import Evaluate

Run = Callable[..., Any]
ITEMS = [
    {"id": f"t{i}", "question": f"Why {i}?", "reference_answer": f"because of {i} things"}
    for i in range(4)
]


@pytest.fixture
def exam(tmp_path: Any) -> Callable[..., Evaluate]:
    (tmp_path / "exam.jinja").write_text("{{ question }}")

    def make(min_agreement: float = 0.4, **judge: Any) -> Evaluate:
        labelled = {"rows": "people", "column": "human", "min_agreement": min_agreement}
        return Evaluate(
            stage="evaluate", rows="rows", models=["base", "tuned"], answer_kind="text",
            template=str(tmp_path / "exam.jinja"),
            judge={"model": "judge", "labelled": labelled, **judge},
        )  # fmt: skip

    return make


def text_of(request: Request) -> str:
    assert not isinstance(request.prompt, str)
    return request.prompt[0]["content"]


def labelled(n: int, **more: Any) -> list[Row]:
    return [
        {"id": f"h{i}", "question": "Why 1?", "reference_answer": "x", "answer": f"level {i % 5}",
         "human": i % 5 + 1, **more}
        for i in range(n)
    ]  # fmt: skip


def sees(noise: float = 0.0) -> Callable[[Request], str]:
    """Gives the grade that people gave, or with probability `noise` any."""

    def reply(request: Request) -> str:
        draw = random.Random(request.id)
        said = text_of(request).partition("to grade:\n\n")[2].split()
        grade = int(said[1]) + 1 if said[0] == "level" else 3
        return f"<grade>{draw.randint(1, 5) if draw.random() < noise else grade}</grade>"

    return reply


def run(run_stage: Run, stage: Evaluate, people: list[Row], judge: Any) -> Any:
    answers = {"base": lambda request: "some", "tuned": lambda request: "more", "judge": judge}
    return run_stage(stage, {"rows": ITEMS, "people": people}, answers)


def agreement(found: Any) -> dict[str, dict[str, Any]]:
    (table,) = (t for t in found.metrics["figures"] if t["title"] == "the judge")
    return {row["labels"]["figure"]: row for row in table["rows"]}


def test_a_planted_agreement_is_found(run_stage: Run, exam: Callable[..., Evaluate]) -> None:
    """With grades at random in a share of 0.3, both kappas are 0.7 whatever the scale."""
    found = agreement(run(run_stage, exam(), labelled(1500), sees(0.3)))
    kappa = found["weighted kappa with human"]
    assert kappa["low"] < 0.7 < kappa["high"]
    assert kappa["high"] - kappa["low"] < 0.1
    assert kappa["n"] == 1500
    share = found["agreement with human"]
    assert share["low"] < 0.7 + 0.3 / 5 < share["high"]


def test_too_little_agreement_stops_before_anything_is_judged(
    run_stage: Run, exam: Callable[..., Evaluate]
) -> None:
    asked: list[str] = []

    def judge(request: Request) -> str:
        asked.append(request.id)
        return sees(0.8)(request)

    with pytest.raises(DataError) as error:
        run(run_stage, exam(0.6), labelled(60), judge)
    said = str(error.value)
    assert "agrees too little with 'human' of 'people', so nothing was judged" in said
    assert "min_agreement: 0.6" in said
    assert "weighted_kappa of human, judge: 0." in said
    assert "people-h" in said
    assert len(asked) == 60
    with pytest.raises(DataError, match="weighted_kappa of human, judge: undefined"):
        run(
            run_stage, exam(-1), [{**row, "human": 3, "answer": "x"} for row in labelled(5)], sees()
        )


def test_pairs_are_labelled_a_b_or_tie(run_stage: Run, exam: Callable[..., Evaluate]) -> None:
    def judge(request: Request) -> str:
        a, b = (
            text_of(request).partition(f"Answer {name}:\n\n")[2].split("\n")[0] for name in "AB"
        )
        return f"<winner>{'tie' if a[0] == b[0] else 'A' if a > b else 'B'}</winner>"

    pairs = [("5 is", "2 is", "a"), ("1 is", "2 is", "B"), ("1 is", "1 was", "tie")] * 4
    people = [
        {"id": f"h{i}", "parent_id": "t1", "answer_a": a, "answer_b": b, "human": winner}
        for i, (a, b, winner) in enumerate(pairs)
    ]
    found = agreement(run(run_stage, exam(0.9, mode="pairwise"), people, judge))
    assert found["kappa with human"]["value"] == 1.0
    swapped = [{**row, "human": "a"} for row in people[1:]] + [{**people[0], "human": "b"}]
    with pytest.raises(DataError, match="agrees too little"):
        run(run_stage, exam(0.9, mode="pairwise"), swapped, judge)


def test_what_a_row_lacks_is_taken_from_the_exam_s_item(
    run_stage: Run, exam: Callable[..., Evaluate]
) -> None:
    seen: list[str] = []

    def judge(request: Request) -> str:
        seen.append(text_of(request))
        return sees()(request)

    people = [
        {"id": f"h{i}", "parent_id": f"t{i}", "answer": f"level {i}", "human": f"{i + 1}"}
        for i in range(4)
    ]
    found = run(run_stage, exam(), people, judge)
    (shown,) = (text for text in seen if "level 2" in text)
    assert "Question: Why 2?" in shown
    assert "counts as right: because of 2 things" in shown
    assert not any("does not have" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("people", "said"),
    [
        ([{"parent_id": "t9"}], r"row h0 of 'people' has no question, reference_answer, and its "
                                r"parent_id 't9' is no item of 'rows'; allowed: t0, t1"),
        ([{"id": "h0"}], "row h0 of 'people' has no question.*or the id of an item of 'rows'"),
        ([{"question": "Why?"}], "row h0 of 'people' has no reference_answer"),
        ([{"parent_id": "t1", "human": "9"}], "'human' is '9'; it must be a grade from 1 to 5"),
        ([{"parent_id": "t1", "human": "good"}], "'human' is 'good'; it must be a grade"),
        ([{"parent_id": "t1", "answer": " "}], "'people' has 0 rows with answer and a label"),
        ([{"parent_id": "t1", "human": None}], "'people' has 0 rows with answer and a label"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_compared_are_refused_before_anybody_is_asked(
    run_stage: Run, exam: Callable[..., Evaluate], people: list[Row], said: str
) -> None:
    def never(request: Request) -> str:
        raise AssertionError("asked")

    rows = [{"id": "h0", "answer": "level 1", "human": "2", **row} for row in people]
    with pytest.raises(DataError, match=said):
        run_stage(exam(), {"rows": ITEMS, "people": rows}, dict.fromkeys(
            ("base", "tuned", "judge"), never))  # fmt: skip


def test_other_questions_are_told_of(run_stage: Run, exam: Callable[..., Evaluate]) -> None:
    people = [*labelled(6), *labelled(3, question="Who?"), *labelled(1, human=None)]
    rows = [{**row, "id": f"p{i}"} for i, row in enumerate(people)]
    found = run(run_stage, exam(), rows, sees())
    assert any("3 of 9 labelled rows are about questions that" in w for w in found.warnings)
    assert any("1 row of 'people' without answer or label" in w for w in found.warnings)
