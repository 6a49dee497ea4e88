"""check_subtasks: what is no subtask is dropped and counted by its reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llm_distill.stages.check_subtasks import CheckSubtasks

Run = Callable[..., Any]
WHOLE = "9 - 3 = 6. 6 + 4 = 10. <ans>10</ans>"
GIVEN = {
    "half": ("Ann has 9 pens and loses 3. How many are left?", "9 - 3 = 6. <ans>6</ans>"),
    "whole": ("Ann has 9, loses 3 and finds 4. How many?", WHOLE),
    "unsaid": ("Ann finds 4. How many has she now?", "6 + 4 = 10. <ans>10</ans>"),
    "pointing": ("Take 6 and 4 of the previous subtask.", "6 + 4 = 10. <ans>10</ans>"),
    "bare": ("Ann has 9. How many has she?", "<ans>9</ans>"),
}
ROWS = [
    {"id": name, "question": question, "rationale": rationale, "seed_rationale": WHOLE}
    for name, (question, rationale) in GIVEN.items()
]


def stage(**settings: Any) -> CheckSubtasks:
    return CheckSubtasks(stage="check_subtasks", rows="rows", **settings)


def test_what_is_no_subtask_is_counted(run_stage: Run) -> None:
    run = run_stage(stage(), {"rows": ROWS})
    assert [(row["id"], row["n_steps"]) for row in run.rows] == [("half", 1)]
    assert run.dropped == {
        "nearly the whole task": 1, "not self-contained": 2, "too few steps": 1
    }  # fmt: skip


def test_limits_are_settings(run_stage: Run) -> None:
    loose = stage(min_steps=0, max_share=1, constants=[6])
    run = run_stage(loose, {"rows": ROWS})
    assert [row["id"] for row in run.rows] == ["half", "whole", "unsaid", "bare"]


def test_a_row_without_texts_is_data(run_stage: Run) -> None:
    empty = [{**ROWS[0], "question": None}, {**ROWS[0], "id": "b", "rationale": None}]
    run = run_stage(stage(), {"rows": empty})
    assert run.rows == []
    assert sum(run.dropped.values()) == 2
