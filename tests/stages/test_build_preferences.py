"""build_preferences: the prompts of either kind, what is dropped, and the counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.methods.parsing import read_blocks, read_tag
from llm_distill.stages.build_preferences import BuildPreferences

Run = Callable[..., Any]


def question(i: int, task: str = "sums") -> dict[str, Any]:
    return {"id": f"{task}{i}", "task": task, "prompt": f"Write one like {i}.",
            "question": f"{i} + 1?", "reference_answer": str(i + 1)}  # fmt: skip


def candidate(
    i: int, strategy: str, score: float | None, task: str = "sums", **more: Any
) -> dict[str, Any]:
    return {
        **question(i, task), "id": f"{task}{i}-{strategy}-0", "parent_id": f"{task}{i}",
        "prompt": f"By {strategy}: {i} + 1?", "strategy": strategy, "score": score,
        "rationale": f"{strategy} of {i}. <ans>{i + 1}</ans>", **more,
    }  # fmt: skip


def graded(n: int, task: str = "sums") -> list[dict[str, Any]]:
    """Question i: 'steps' always better by 0.1, and s_q = i / 40."""
    return [
        candidate(i, strategy, i / 40 + change, task)
        for i in range(n)
        for strategy, change in (("steps", 0.05), ("bare", -0.05))
    ]


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., BuildPreferences]:
    path = tmp_path / "naive.jinja"
    path.write_text("{{ task_description }} Question: {{ question }}\n\nThink.\n")

    def make(**settings: Any) -> BuildPreferences:
        return BuildPreferences(
            **{"stage": "build_preferences", "rows": "rows", "questions": "questions",
               "rationale_template": str(path), "variables": {"task_description": "Add."},
               **settings}
        )  # fmt: skip

    return make


def test_a_rationale_pair_has_the_naive_prompt_and_not_the_strategys(
    run_stage: Run, stage: Callable[..., BuildPreferences]
) -> None:
    run = run_stage(stage(kinds=["rationale"]), {"rows": graded(3)})
    assert [row["id"] for row in run.rows] == [f"rationale-sums{i}" for i in range(3)]
    row = run.rows[1]
    assert row["prompt"] == "Add. Question: 1 + 1?\n\nThink."
    assert row["chosen"] == "steps of 1. <ans>2</ans>"
    assert row["rejected"] == "bare of 1. <ans>2</ans>"
    assert (row["kind"], row["task"], row["margin"]) == ("rationale", "sums", pytest.approx(0.1))
    assert run.metrics["pairs"] == {"rationale": 3}
    assert run.metrics["mean_margin"]["rationale"] == pytest.approx(0.1)
    assert run.metrics["chosen_strategies"] == {"steps": 3}
    assert run.metrics["rejected_strategies"] == {"bare": 3}


def test_a_question_pair_has_the_drafting_prompt_and_text_that_parse_reads(
    run_stage: Run, stage: Callable[..., BuildPreferences]
) -> None:
    questions = [question(i) for i in range(8)]
    given = {"rows": graded(8), "questions": questions}
    run = run_stage(stage(kinds=["question"]), given)
    assert len(run.rows) == 4  # two at either end
    tops, bottoms = set(), set()
    for row in run.rows:
        (chosen,) = read_blocks(row["chosen"], r"Question_\d+")
        (rejected,) = read_blocks(row["rejected"], r"Question_\d+")
        top = int(str(read_tag(chosen, "target"))) - 1
        bottom = int(str(read_tag(rejected, "target"))) - 1
        assert read_tag(chosen, "input") == f"{top} + 1?"
        assert row["prompt"] == f"Write one like {top}."
        assert row["margin"] == pytest.approx((top - bottom) / 40)
        tops.add(top)
        bottoms.add(bottom)
    assert (tops, bottoms) == ({6, 7}, {0, 1})
    assert run.metrics["pairs"] == {"question": 4}
    limited = run_stage(stage(kinds=["question"], question_pairs=3), given)
    assert len(limited.rows) == 3


def test_both_kinds_a_task_at_a_time(
    run_stage: Run, stage: Callable[..., BuildPreferences]
) -> None:
    rows = graded(4, "sums") + graded(8, "dates")
    questions = [question(i, task) for task, n in (("sums", 4), ("dates", 8)) for i in range(n)]
    run = run_stage(stage(), {"rows": rows, "questions": questions})
    assert run.metrics["pairs"] == {"question": 1 + 4, "rationale": 4 + 8}
    assert len({row["id"] for row in run.rows}) == 17
    for row in run.rows:
        if row["kind"] == "question":
            assert row["id"].count(row["task"]) == 2  # never across tasks
        else:
            assert row["prompt"].startswith("Add.")


def test_unscored_rationales_count_for_nothing(
    run_stage: Run, stage: Callable[..., BuildPreferences]
) -> None:
    rows = [
        candidate(0, "steps", 0.4), candidate(0, "bare", None, rationale=None),
        candidate(1, "steps", 0.4), candidate(1, "bare", 0.1), candidate(1, "words", None),
        candidate(2, "steps", None),
    ]  # fmt: skip
    run = run_stage(stage(kinds=["rationale"]), {"rows": rows})
    assert [row["id"] for row in run.rows] == ["rationale-sums1"]
    assert run.dropped == {"rationale pair: fewer than 2 scored candidates": 2}


def test_ties_identical_texts_and_small_margins_are_dropped_and_counted(
    run_stage: Run, stage: Callable[..., BuildPreferences]
) -> None:
    rows = [
        candidate(0, "steps", 0.4), candidate(0, "bare", 0.4),
        candidate(1, "steps", 0.4, rationale="same "), candidate(1, "bare", 0.1, rationale="same"),
        candidate(2, "steps", 0.4), candidate(2, "bare", 0.375),
        candidate(3, "steps", 0.4), candidate(3, "bare", 0.3),
    ]  # fmt: skip
    run = run_stage(stage(kinds=["rationale"], min_margin=0.1), {"rows": rows})
    assert [row["id"] for row in run.rows] == ["rationale-sums3"]
    assert run.dropped == {
        "rationale pair: no margin": 1,
        "rationale pair: identical texts": 1,
        "rationale pair: margin below min_margin": 1,
    }
    assert sum(run.metrics["no_pair"].values()) == 3


def test_no_pair_at_all_says_why_and_what_to_change(
    run_stage: Run, stage: Callable[..., BuildPreferences]
) -> None:
    rows = [candidate(i, strategy, 0.5) for i in range(3) for strategy in ("steps", "bare")]
    given = {"rows": rows, "questions": [question(i) for i in range(3)]}
    with pytest.raises(DataError) as error:
        run_stage(stage(min_margin=0.05), given)
    for part in (
        "rationale pair: no margin: 3", "question pair: fewer than 4 questions: 1",
        "min_margin (now 0.05)", "select_items", "sampling.temperature",
    ):  # fmt: skip
        assert part in str(error.value)


def test_wrong_rationales_are_kept_unless_asked(
    run_stage: Run, stage: Callable[..., BuildPreferences]
) -> None:
    rows = [
        candidate(0, "steps", 0.5, rationale="<ans>99</ans>"), candidate(0, "bare", 0.4),
        candidate(0, "words", 0.1), candidate(0, "null", None, rationale=None),
    ]  # fmt: skip
    settings = {"kinds": ["rationale"]}
    run = run_stage(stage(**settings), {"rows": rows})
    assert run.rows[0]["chosen"] == "<ans>99</ans>"
    strict = run_stage(stage(**settings, drop_wrong=True), {"rows": rows})
    assert strict.rows[0]["chosen"].startswith("bare")
    assert strict.dropped["candidate with a wrong answer"] == 1
    assert "reference_answer" in stage(drop_wrong=True).required_columns()["rows"]


def test_questions_that_do_not_fit_the_candidates_are_an_error(
    run_stage: Run, stage: Callable[..., BuildPreferences]
) -> None:
    questions = [question(i) for i in range(7)]
    with pytest.raises(DataError, match="'questions' has no row 'sums7'"):
        run_stage(stage(), {"rows": graded(8), "questions": questions})
    questions.append({**question(7), "prompt": None})
    with pytest.raises(DataError, match="row sums7 of 'questions' has no prompt"):
        run_stage(stage(), {"rows": graded(8), "questions": questions})


@pytest.mark.parametrize(
    "settings", [{"questions": None}, {"rationale_template": None}, {"quantile": 0.6},
                 {"kinds": []}, {"kinds": ["other"]}, {"min_margin": -0.1}, {"by": {}},
                 {"kinds": ["completion", "rationale"]}, {"pairing": "best_right_best_wrong"},
                 {"kinds": ["completion"], "pairing": "best_right_best_wrong", "min_margin": 0.1},
                 {"kinds": ["completion"], "pairing": "best_right_best_wrong", "drop_wrong": True}]
)  # fmt: skip
def test_settings_that_cannot_be(
    stage: Callable[..., BuildPreferences], settings: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        stage(**settings)


def test_each_kind_needs_only_its_own(stage: Callable[..., BuildPreferences]) -> None:
    only = stage(kinds=["rationale"], questions=None)
    assert set(only.required_columns()) == {"rows"}
    assert "arte/question_block.jinja" not in only.template_variables({"rows": None})
    assert stage(kinds=["question"], rationale_template=None).is_seeded()
    offered = stage().template_variables({"rows": frozenset({"a"}), "questions": frozenset({"b"})})
    assert set(offered.values()) == {
        frozenset({"a", "task_description"}), frozenset({"b", "task_description"})
    }  # fmt: skip


def completion(i: int, k: int, score: float | None, **more: Any) -> dict[str, Any]:
    return {"id": f"s{i}-{k}", "parent_id": f"s{i}", "task": "sums", "prompt": f"Like {i}, {k}.",
            "completion": f"text {k} <ans>{k}</ans>", "reference_answer": "1", "is_correct": k == 1,
            "score": score, **more}  # fmt: skip


def test_completions_are_paired_across_zero_in_any_unit(run_stage: Run) -> None:
    stage = BuildPreferences(
        stage="build_preferences", rows="rows", kinds=["completion"], pairing="across_zero"
    )
    rows = [completion(0, k, s) for k, s in enumerate([2e-7, 1e-7, 0.0, -3e-7, None])]
    rows += [completion(1, k, s) for k, s in enumerate([5.0, float("nan"), float("-inf"), 4.0])]
    run = run_stage(stage, {"rows": rows})
    assert {(r["id"], r["prompt"]) for r in run.rows} == {
        ("completion-s0-0-s0-3", "Like 0, 0."), ("completion-s0-1-s0-3", "Like 0, 1."),
    }  # fmt: skip
    assert sorted(r["margin"] for r in run.rows) == pytest.approx([4e-7, 5e-7], rel=1e-9)
    assert run.rows[0]["kind"] == "completion"
    assert run.metrics["unscored_candidates"] == 3
    assert run.dropped == {"completion pair: no score on one side of zero": 1}


def test_completions_by_columns_of_ones_own(run_stage: Run) -> None:
    """Half of the score by the answer, half by the exam, as in arXiv 2406.14629."""
    rows = [
        {"id": str(k), "asked": "1 + 0?", "said": f"way {k}", "is_correct": k < 2, "exam": exam}
        for k, exam in enumerate([0.4, 1.0, 1.0, 0.0])
    ]
    stage = BuildPreferences(
        stage="build_preferences", rows="rows", kinds=["completion"], pairing="all",
        by={"is_correct": 0.5, "exam": 0.5}, min_margin=0.3, pairs_per_question=8,
        group_column="asked", prompt_column="asked", completion_column="said",
    )  # fmt: skip
    assert stage.required_columns() == {"rows": {"id", "asked", "said", "is_correct", "exam"}}
    run = run_stage(stage, {"rows": rows})
    assert {(r["chosen"], r["rejected"]): r["margin"] for r in run.rows} == {
        ("way 0", "way 3"): pytest.approx(0.7), ("way 1", "way 0"): pytest.approx(0.3),
        ("way 1", "way 2"): pytest.approx(0.5), ("way 1", "way 3"): pytest.approx(1.0),
        ("way 2", "way 3"): pytest.approx(0.5),
    }  # fmt: skip
    assert {r["prompt"] for r in run.rows} == {"1 + 0?"}


def test_wrong_completions_are_left_out_or_rejected(run_stage: Run) -> None:
    rows = [completion(0, k, s) for k, s in enumerate([0.3, 0.6, 0.9])]
    rows += [completion(1, k, s) for k, s in enumerate([0.3, None, 0.9])]
    settings = {"stage": "build_preferences", "rows": "rows", "kinds": ["completion"]}
    by_answer = BuildPreferences(**settings, pairing="best_right_best_wrong")
    assert "reference_answer" in by_answer.required_columns()["rows"]
    run = run_stage(by_answer, {"rows": rows})
    assert [(r["id"], r["margin"]) for r in run.rows] == [
        ("completion-s0-1-s0-2", pytest.approx(-0.3))
    ]
    assert run.dropped == {"completion pair: no right candidate": 1}
    with pytest.raises(DataError, match="fewer than 2 scored candidates: 2"):
        run_stage(BuildPreferences(**settings, drop_wrong=True), {"rows": rows})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"score": "high"}, "row s0-0 of 'rows': 'score' is 'high', not a number"),
        ({"parent_id": None}, "row s0-0 of 'rows' has no parent_id"),
        ({"prompt": " "}, "row s0-0 of 'rows' has no prompt"),
    ],
)
def test_completions_that_cannot_be_paired(
    run_stage: Run, row: dict[str, Any], message: str
) -> None:
    stage = BuildPreferences(stage="build_preferences", rows="rows", kinds=["completion"])
    rows = [{**completion(0, 0, 0.9), **row}, completion(0, 1, 0.1)]
    if "score" in row:
        rows[1]["score"] = "low"  # a column has one type
    with pytest.raises(DataError, match=message):
        run_stage(stage, {"rows": rows})
