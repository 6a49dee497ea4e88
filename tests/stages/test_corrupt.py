"""corrupt: as many rows at any rate, wrong by as much as is asked for."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.evaluation.results import Results
from llm_distill.stages.corrupt import Corrupt

Run = Callable[..., Any]


def stage(rate: float = 0.5, **settings: Any) -> Corrupt:
    return Corrupt(stage="corrupt", rows="rows", rate=rate, **settings)


def solved(n: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"q{i}",
            "question": f"{i}?",
            "rationale": f"{i} + 4 = {i + 4}. {i + 4} + 2 = {i + 6}. <ans>{i + 6}</ans>",
            "reference_answer": str(i + 6),
            "answer": str(i + 6),
        }
        for i in range(n)
    ]


ROWS = solved(40)


@pytest.mark.parametrize("what", ["outcome", "step"])
@pytest.mark.parametrize("errors", ["random", "one_more"])
def test_the_same_rows_at_any_rate_and_what_is_wrong_stays_so(
    what: str, errors: str, run_stage: Run
) -> None:
    rates = [0, 0.1, 0.5, 0.9, 1]
    runs = [run_stage(stage(rate, what=what, errors=errors), {"rows": ROWS}) for rate in rates]
    for run, rate in zip(runs, rates, strict=True):
        assert [row["id"] for row in run.rows] == [row["id"] for row in ROWS]
        assert sum(not row["is_correct"] for row in run.rows) == round(rate * len(ROWS))
        for row in run.rows:
            wrong = 0 if row["is_correct"] or what == "outcome" else 2
            assert (row["step_errors"], row["n_steps"]) == (wrong, 2)
            assert row["is_correct"] == (row["answer"] == row["reference_answer"])
            assert row["rationale"].endswith(f"<ans>{row['answer']}</ans>")
        assert run.dropped == {}
    for fewer, more in pairwise(runs):
        wrong = {row["id"]: row for row in fewer.rows if not row["is_correct"]}
        assert wrong.items() <= {row["id"]: row for row in more.rows}.items()
    mixed = run_stage(stage(0.5, what=what, errors=errors), {"rows": ROWS[::-1]})
    assert mixed.rows == runs[2].rows[::-1]
    other = run_stage(stage(0.5, what=what, errors=errors), {"rows": ROWS}, seed=1)
    assert other.rows != runs[2].rows


def test_the_share_of_steps_is_set_apart_from_that_of_answers(run_stage: Run) -> None:
    run = run_stage(stage(0.5, what="step", step_rate=0.5), {"rows": ROWS})
    assert [row["step_errors"] for row in run.rows if not row["is_correct"]] == [1] * 20
    (table,) = Results.from_metrics(run.metrics).own
    assert [(figure.value, figure.n) for figure in table.figures] == [(0.5, 40), (0.25, 80)]


def test_what_cannot_be_made_wrong_is_left_out_at_any_rate(run_stage: Run) -> None:
    no_number = {**ROWS[0], "id": "day", "rationale": "<ans>Monday</ans>"}
    no_number |= {"reference_answer": "Monday"}
    no_step = {**ROWS[1], "id": "bare", "rationale": "<ans>7</ans>", "reference_answer": "7"}
    given = {"rows": [no_number, *ROWS, no_step, {**ROWS[2], "id": "none", "rationale": None}]}
    for rate in (0, 0.5, 1):
        run = run_stage(stage(rate, what="step"), given)
        assert len(run.rows) == len(ROWS)
        assert run.dropped == {"no wrong solution can be made of it": 3}
    assert len(run_stage(stage(what="outcome"), given).rows) == len(ROWS) + 1


def sampled(**of: list[tuple[str, bool]]) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{question}-{i}",
            "parent_id": question,
            "rationale": text,
            "is_correct": right,
            "reference_answer": "4",
            "answer": text[-7],
            "gold": "1 + 1 = 2. 2 + 2 = 4. <ans>4</ans>",
        }
        for question, solutions in of.items()
        for i, (text, right) in enumerate(solutions)
    ]


RIGHT = ("1 + 1 = 2. 2 + 2 = 4. <ans>4</ans>", True)
WRONG_END = ("1 + 1 = 2. 2 + 2 = 4. <ans>5</ans>", False)
WRONG_STEP = ("1 + 1 = 3. 3 + 2 = 5. <ans>5</ans>", False)
WRONG_STEPS = ("1 + 1 = 3. 3 + 2 = 6. <ans>6</ans>", False)
CANDIDATES = sampled(
    both=[WRONG_STEP, RIGHT, WRONG_STEPS, WRONG_END],
    right=[RIGHT, RIGHT],
    wrong=[WRONG_STEPS],
)


def test_of_sampled_solutions_one_right_and_one_wrong_are_taken(run_stage: Run) -> None:
    given = {"rows": CANDIDATES}
    for rate, what, expected in [
        (0, "outcome", RIGHT), (1, "outcome", WRONG_END), (1, "step", WRONG_STEPS)
    ]:  # fmt: skip
        run = run_stage(stage(rate, what=what, errors="sampled"), given)
        (row,) = run.rows
        assert (row["id"], row["parent_id"]) == ("both", "both")
        assert (row["rationale"], row["is_correct"]) == expected
        assert run.dropped == {
            "a question without a wrong solution": 1, "a question without a right solution": 1
        }  # fmt: skip


def test_gold_stands_in_for_a_right_solution(run_stage: Run) -> None:
    gold = {"errors": "sampled", "gold_column": "gold"}
    for rate in (0, 0.5, 1):
        run = run_stage(stage(rate, **gold), {"rows": CANDIDATES})
        assert [row["id"] for row in run.rows] == ["both", "wrong"]
        assert sum(not row["is_correct"] for row in run.rows) == 2 * rate
        assert all((row["rationale"] == RIGHT[0]) == row["is_correct"] for row in run.rows)
        assert all((row["answer"] == "4") == row["is_correct"] for row in run.rows)
    nothing = [{**row, "gold": None} for row in CANDIDATES]
    assert [row["id"] for row in run_stage(stage(0, **gold), {"rows": nothing}).rows] == ["both"]


def test_solutions_of_another_length_are_left_out(run_stage: Run) -> None:
    given = [{**row, "rationale": row["rationale"] * 3} for row in CANDIDATES[:1]] + CANDIDATES[1:4]
    settings = {"errors": "sampled", "gold_column": "gold", "length_ratio": [0.5, 1.5]}
    run = run_stage(stage(1, **settings), {"rows": given})
    assert run.dropped == {"shorter or longer than length_ratio": 1}
    assert [row["rationale"] for row in run.rows] == [WRONG_END[0]]


def test_a_solution_of_no_question(run_stage: Run) -> None:
    given = [{**CANDIDATES[0], "parent_id": None}, CANDIDATES[1]]
    with pytest.raises(DataError, match="both-0 of 'rows' has no parent_id"):
        run_stage(stage(errors="sampled"), {"rows": given})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"errors": "sampled", "what": "step", "step_rate": 0.5}, "as they were written"),
        ({"step_rate": 0.5}, "what: step"),
        ({"gold_column": "gold"}, "errors: sampled"),
        ({"errors": "sampled", "length_ratio": [0.5, 1.5]}, "needs gold_column"),
        ({"errors": "sampled", "gold_column": "g", "length_ratio": [2, 1]}, "shortest"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        stage(**settings)


def test_columns() -> None:
    assert stage().required_columns() == {"rows": {"id", "rationale", "reference_answer"}}
    assert stage(errors="sampled", gold_column="gold").required_columns() == {
        "rows": {"id", "parent_id", "rationale", "is_correct", "gold"}
    }


def test_swapped_solutions_are_right_ones_of_other_questions(run_stage: Run) -> None:
    rows = [{**row, "skills": [["sum"], ["product"]][i % 2]} for i, row in enumerate(ROWS)]
    rows[3] |= {"rationale": rows[5]["rationale"], "reference_answer": rows[5]["reference_answer"]}
    owner = {row["rationale"]: row for row in rows}
    all_of_them = run_stage(stage(1, errors="swapped"), {"rows": rows})
    assert [row["id"] for row in all_of_them.rows] == [row["id"] for row in rows]
    # Each solution once: its words and steps are those of right ones.
    assert sorted(row["rationale"] for row in all_of_them.rows) == sorted(
        row["rationale"] for row in rows
    )
    for given, row in zip(rows, all_of_them.rows, strict=True):
        assert (
            row["answer"] == owner[row["rationale"]]["reference_answer"] != row["reference_answer"]
        )
        assert {**row, "rationale": given["rationale"], "answer": given["answer"]} == {
            **given, "is_correct": False, "step_errors": 0, "n_steps": 2,
        }  # fmt: skip
    assert any(owner[r["rationale"]]["skills"] != r["skills"] for r in all_of_them.rows)
    within = run_stage(stage(1, errors="swapped", within="skills"), {"rows": rows})
    assert all(owner[row["rationale"]]["skills"] == row["skills"] for row in within.rows)
    half = run_stage(stage(0.5, errors="swapped"), {"rows": rows[::-1]})
    wrong = {row["id"]: row for row in half.rows if not row["is_correct"]}
    assert len(wrong) == 20
    assert wrong.items() <= {row["id"]: row for row in all_of_them.rows}.items()
    assert run_stage(stage(1, errors="swapped"), {"rows": rows}, seed=1).rows != all_of_them.rows


def test_swapped_leaves_out_what_has_nobody_to_swap_with(run_stage: Run) -> None:
    rows = [{**row, "skills": "sum"} for row in solved(6)]
    rows[0] |= {"skills": "alone"}
    rows[1] |= {"skills": None}
    rows[2] |= {"rationale": ""}
    run = run_stage(stage(1, errors="swapped", within="skills"), {"rows": rows})
    assert [row["id"] for row in run.rows] == ["q3", "q4", "q5"]
    assert run.dropped == {"no other question's solution can be had for it": 3}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"errors": "swapped", "what": "step"}, "the whole solution is wrong"),
        ({"within": "skills"}, "within goes with errors: swapped"),
    ],
)
def test_settings_that_swapping_has_no_use_for(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        stage(**settings)
