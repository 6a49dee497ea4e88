"""score_influence with the bundled student: what is scored, refused, kept and found."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Value
from pydantic import ValidationError

from llm_distill.distillation.gradients.student import Student
from llm_distill.errors import DataError, ModelError
from llm_distill.models.sources import ModelSource
from llm_distill.stages.score_influence import ScoreInfluence

STUDENT = ModelSource("student", "data/models/tiny-student", prompt_format="text")
PROMPT = "Question: {}\nAnswer: Let's think step by step."
ASKED = {
    f"Ann has {i} pens and buys {j} more. How many pens does Ann have now?": f"{i} + {j} = {i + j}."
    for i, j in [(3, 4), (5, 6), (2, 9), (8, 3), (7, 7), (4, 8)]
}
ROWS = [
    {"id": f"r{i}", "prompt": PROMPT.format(question), "completion": f"{way} <ans>{way}</ans>"}
    for i, (question, way) in enumerate(ASKED.items())
]


def shuffled(row: dict[str, Any], seed: int) -> dict[str, Any]:
    """The same words, which say nothing any more."""
    words = row["completion"].split()
    letters = list(" ".join(words))
    random.Random(seed).shuffle(letters)
    return {**row, "id": f"{row['id']}-shuffled", "completion": "".join(letters)}


@pytest.fixture
def score(run_stage: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Runs the stage, in a folder of its own unless one is given."""
    folders = (tmp_path / f"run-{i}" for i in range(99))

    def run(
        rows: list[dict[str, Any]],
        reference: list[dict[str, Any]] = ROWS[4:],
        work_dir: Path | None = None,
        **settings: Any,
    ) -> Any:
        given = {"learning_rate": 1e-3, "peft": None, **settings}
        stage = ScoreInfluence(
            stage="score_influence", rows="rows", reference="reference", model="student", **given
        )
        inputs = {"rows": rows, "reference": reference, "warm": ROWS}
        return run_stage(
            stage, inputs, models={"student": STUDENT}, work_dir=work_dir or next(folders)
        )

    return run


def test_rows_keep_their_columns_and_get_scores(score: Any) -> None:
    rows = [{**row, "strategy": "formula"} for row in ROWS[:3]]
    run = score(rows)
    for row, given in zip(run.rows, rows, strict=True):
        assert {name: row[name] for name in given} == given
        assert row["score"] == row["reference_loss_before"] - row["reference_loss_after"]
        assert row["metric"] == "influence_adamw"
        assert row["error"] is None
        assert row["n_tokens"] > 5
        assert row["mean_nll"] > 0
    assert len({row["score"] for row in run.rows}) == 3
    assert run.features["score"] == run.features["mean_nll"] == Value("float64")
    assert run.features["n_tokens"] == Value("int64")
    assert run.metrics["reference_rows"] == 2
    assert run.metrics["cost"]["backward_passes"] == 3
    assert run.metrics["cost"]["forward_passes"] == 3 + 2 * (3 + 1)
    assert score(rows, optimizer="sgd").rows[0]["metric"] == "influence_sgd"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "sgd", "learning_rate": 1e-2},
        {"peft": {"r": 4}},
        {"warm_up": "warm", "max_steps": 3},
    ],
)
def test_what_repeats_the_reference_is_better_than_noise(score: Any, settings: Any) -> None:
    good = [{**row, "id": f"{row['id']}-again"} for row in ROWS[4:]]
    bad = [shuffled(row, seed) for row in ROWS[4:] for seed in (0, 1)]
    bad = [{**row, "id": f"bad{i}"} for i, row in enumerate(bad)]
    scores = {row["id"]: row["score"] for row in score([*bad, *good], **settings).rows}
    lowest = min(scores[row["id"]] for row in good)
    assert lowest > max(scores[row["id"]] for row in bad)
    assert lowest > 0


def test_neither_order_nor_batches_count(score: Any) -> None:
    first = score(ROWS[:4]).rows
    again = score(ROWS[3::-1], reference=ROWS[:3:-1], batch_tokens=1).rows
    for row, other in zip(first, reversed(again), strict=True):
        assert other["id"] == row["id"]
        assert other["score"] == pytest.approx(row["score"], abs=1e-6)


def test_equal_candidates_are_scored_once(score: Any) -> None:
    twin = {**ROWS[0], "id": "twin", "completion": f"  {ROWS[0]['completion']} "}
    run = score([ROWS[0], ROWS[1], twin])
    assert run.rows[0]["score"] == run.rows[2]["score"] != run.rows[1]["score"]
    assert run.metrics["cost"]["backward_passes"] == 2
    assert (run.metrics["candidates_scored"], run.metrics["candidates_repeated"]) == (2, 1)


def test_what_cannot_be_scored_has_no_score(score: Any) -> None:
    bad = [
        {**ROWS[0], "id": "empty", "completion": " ", "error": None},
        {**ROWS[0], "id": "failed", "error": "the server failed"},
        {**ROWS[0], "id": "long", "completion": "and " * 200, "error": None},
    ]
    run = score([*bad, {**ROWS[0], "error": None}], max_length=100)
    *rows, good = run.rows
    for row in rows:
        assert row["score"] is row["mean_nll"] is row["n_tokens"] is None
        assert row["reference_loss_after"] is None
    assert [row["error"] for row in rows] == [
        "empty completion", "the server failed", "longer than max_length",
    ]  # fmt: skip
    assert good["score"] is not None
    assert run.metrics["unscored"] == 3
    assert "3 of 4 candidates have no score: 1 empty completion" in run.warnings[0]


def test_a_loss_that_is_no_number_gives_no_score(
    score: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Student.gradients

    def exploding(self: Student, text: Any) -> Any:
        loss, found = original(self, text)
        factor = float("nan") if text.name == "r0" else 1.0
        return loss, {name: gradient * factor for name, gradient in found.items()}

    monkeypatch.setattr(Student, "gradients", exploding)
    run = score(ROWS[:2])
    assert run.rows[0]["score"] is None
    assert run.rows[0]["error"] == "the loss is not finite"
    assert run.rows[1]["score"] is not None
    assert run.metrics["unscored"] == 1


class Cut(BaseException):
    """Stands for Ctrl-C."""


@pytest.mark.parametrize("settings", [{}, {"peft": {"r": 4}, "warm_up": "warm", "max_steps": 2}])
def test_a_stage_that_was_killed_goes_on(
    score: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    whole = score(ROWS, work_dir=tmp_path / "whole", **settings)
    original = Student.gradients
    asked: list[str] = []

    def counted(self: Student, text: Any) -> Any:
        if len(asked) == 3:
            asked.append("")
            raise Cut
        asked.append(text.name)
        return original(self, text)

    monkeypatch.setattr(Student, "gradients", counted)
    with pytest.raises(Cut):
        score(ROWS, work_dir=tmp_path / "cut", **settings)
    run = score(ROWS, work_dir=tmp_path / "cut", **settings)
    assert asked == ["r0", "r1", "r2", "", "r3", "r4", "r5"]
    assert json.dumps(run.rows) == json.dumps(whole.rows)
    assert run.metrics["candidates_of_an_earlier_run"] == 3


def test_reference_rows_may_have_other_columns(score: Any, tmp_path: Path) -> None:
    template = tmp_path / "ask.jinja"
    template.write_text("Question: {{ question }}\nAnswer: Let's think step by step.")
    reference = [
        {"id": row["id"], "question": question, "rationale": row["completion"]}
        for row, question in zip(ROWS, ASKED, strict=True)
    ][4:]
    bad = {"id": "bad", "question": None, "rationale": "4."}
    more = {
        "reference_prompt_template": str(template), "reference_completion_column": "rationale"
    }  # fmt: skip
    run = score(ROWS[:2], reference=[*reference, bad], **more)
    assert [row["score"] for row in run.rows] == [row["score"] for row in score(ROWS[:2]).rows]
    assert run.warnings == ["reference rows are left out: 1 empty prompt"]


def test_columns_are_asked_for() -> None:
    base = {"stage": "score_influence", "rows": "r", "reference": "v", "model": "m"}
    own = ScoreInfluence(**base, reference_completion_column="rationale", warm_up="w")
    assert own.required_columns() == {
        "r": {"id", "prompt", "completion"},
        "v": {"id", "prompt", "rationale"},
        "w": {"id", "prompt", "completion"},
    }
    talks = {**base, "messages_column": "messages"}
    assert ScoreInfluence(**talks).required_columns()["v"] == {"id", "messages"}
    assert ScoreInfluence(**talks).read_as_text() == {"r": set(), "v": set()}
    with pytest.raises(ValidationError, match="reference_completion_column needs rows with"):
        ScoreInfluence(**talks, reference_completion_column="rationale")
    template = "arte/exam.jinja"
    exam = ScoreInfluence(**base, prompt_template=template, warm_up="w")
    known = {"r": frozenset({"question", "a"}), "v": frozenset({"question", "b"}), "w": None}
    offered = exam.template_variables(known)[template]
    assert offered is not None
    assert "question" in offered
    assert not offered & {"a", "b"}
    assert exam.template_variables(dict.fromkeys("rvw"))[template] is None


def test_what_cannot_be_done_is_said(score: Any) -> None:
    empty = [{"id": "a", "prompt": "What?", "completion": ""}]
    with pytest.raises(DataError, match="no row of 'rows' has a text to score with: 1 empty compl"):
        score(empty)
    with pytest.raises(DataError, match="no row of 'reference' has a text to score with: 1 empty"):
        score(ROWS, reference=empty)
    with pytest.raises(ModelError, match=r"no LoRA adapter for model 'student' with peft\.target"):
        score(ROWS, peft={"target_modules": ["nothing"]})
