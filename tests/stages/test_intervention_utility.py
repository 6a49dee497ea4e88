"""intervention_utility: pupils whose utilities are known, and a tiny model's likelihoods."""

from __future__ import annotations

from collections.abc import Callable
from math import exp
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.evaluation.results import Results
from llm_distill.methods.statistics import rank_correlation
from llm_distill.models.sources import ModelSource
from llm_distill.stages.intervention_utility import InterventionUtility
from tests.pupils import RIGHT, MentalModel, items

Run = Callable[..., Any]


def stage(**settings: Any) -> InterventionUtility:
    return InterventionUtility(
        stage="intervention_utility",
        rows="rows",
        model="teacher",
        demonstrations="shown",
        **{"n_demonstrations": 6, **settings},
    )


def run_on(
    run_stage: Run, rows: list[dict[str, Any]], shown: list[dict[str, Any]], **settings: Any
) -> Any:
    engines = {"teacher": MentalModel}
    return run_stage(stage(**settings), {"rows": rows, "shown": shown}, engines=engines)


def test_the_utility_is_that_of_the_pupil(run_stage: Run) -> None:
    run = run_on(run_stage, items("x", 2, "taking"), items("s", 1, "taking"))
    assert len(run.rows) == 12
    for row in run.rows:
        helps = "taking-true" in row["id"]
        harms = "adding-misleading" in row["id"]
        assert row["utility"] == pytest.approx(0.8 if helps else -0.8 if harms else 0)
        assert row["p_without"] == pytest.approx(0.9 if "adding" in row["id"] else 0.1)
        assert row["error"] is None
    assert run.metrics["without_utility"] == 0
    (table,) = Results.from_metrics(run.metrics).own
    found = {figure.labels["figure"]: figure.value for figure in table.figures}
    assert found["utility above 0"] == pytest.approx(1 / 6)


def test_a_model_of_another_pupil_knows_nothing_of_this_one(run_stage: Run) -> None:
    rows = items("x", 2, "taking")
    for lacks, wanted in (("taking", 1), ("adding", 0)):
        found = run_on(run_stage, rows, items("s", 1, lacks)).rows
        truth = [(row["answer_with"] == RIGHT) - (row["answer_without"] == RIGHT) for row in found]
        pairs = [[(row["utility"], is_so)] for row, is_so in zip(found, truth, strict=True)]
        estimate = rank_correlation(pairs)
        assert estimate is not None
        assert estimate.value == pytest.approx(wanted, abs=1e-9)


def test_by_sampled_answers(run_stage: Run) -> None:
    model = MentalModel()
    rows = {"rows": items("x", 1, "taking"), "shown": items("s", 1, "taking")}
    run = run_stage(stage(n_samples=10), rows, {"teacher": model.sample})
    by_id = {row["id"]: row for row in run.rows}
    assert by_id["x-taking-true-0"]["utility"] == pytest.approx(0.8)
    assert by_id["x-adding-misleading-0"]["utility"] == pytest.approx(-0.8)
    assert {row["n_samples"] for row in run.rows} == {10}
    assert stage(n_samples=10).asks("model") == "text"


def test_a_row_is_never_its_own_demonstration(run_stage: Run) -> None:
    pupil = items("x", 2, "taking")
    model = MentalModel()
    rows = {"rows": pupil, "shown": pupil}
    run_stage(stage(n_demonstrations=11), rows, engines={"teacher": lambda: model})
    assert len(model.prompts) == 24
    for prompt in model.prompts:
        *shown, last = prompt.split("Question: ")[1:]
        assert last.partition("\n")[0] not in [each.partition("\n")[0] for each in shown]
        assert len(shown) == 11


def test_the_same_demonstrations_for_all_rows_and_both_models(run_stage: Run) -> None:
    shown = items("s", 3, "taking")
    for number, row in enumerate(shown):
        row["task"] = "ab"[number % 2]
    rows = [{**row, "task": "a"} for row in items("x", 1, "taking")]

    def drawn(**settings: Any) -> set[tuple[str, ...]]:
        model = MentalModel()
        made = stage(n_demonstrations=3, **settings)
        run_stage(made, {"rows": rows, "shown": shown}, engines={"teacher": lambda: model})
        parts = [prompt.split("Question: ")[1:-1] for prompt in model.prompts]
        return {tuple(each.partition("\n")[0] for each in part) for part in parts}

    (of_task,) = drawn()
    tasks = {row["question"]: row["task"] for row in shown}
    assert {tasks[question] for question in of_task} == {"a"}
    (of_all,) = drawn(draw="all")
    assert len(set(of_all)) == 3
    few = {"rows": rows[:1], "shown": shown[:4]}
    with pytest.raises(DataError, match="3 examples of task 'a' are wanted"):
        run_stage(stage(n_demonstrations=3), few, engines={"teacher": MentalModel})


def test_rows_without_an_explanation_are_kept_and_counted(run_stage: Run) -> None:
    rows = items("x", 1, "taking")
    rows[0]["explanation"], rows[1]["explanation"] = "", None
    rows[2]["reference_answer"] = " "
    shown = items("s", 1, "taking")
    run = run_on(run_stage, rows, shown, max_error_rate=0.5)
    assert [row["utility"] is None for row in run.rows] == [True] * 3 + [False] * 3
    assert "explanation is null or empty" in run.rows[0]["error"]
    assert run.rows[0]["p_without"] == pytest.approx(0.9)
    assert run.rows[2]["error"] == "reference_answer is null or empty"
    assert run.rows[2]["p_without"] is None
    assert run.metrics["without_utility"] == 3
    with pytest.raises(DataError, match="more than max_error_rate"):
        run_on(run_stage, rows, shown)
    hidden = [{**row, "answer_with": ""} for row in shown[:1]] + shown[1:]
    run = run_on(run_stage, rows[3:], hidden, n_demonstrations=5)
    assert "1 of 6 demonstrations of 'shown'" in run.warnings[0]


class Choices(MentalModel):
    """0.2, 0.1 and 0.1 of three answers, whatever is asked."""

    def p(self, prompt: Any, answer: str) -> float:
        self.prompts.append(answer)
        return 0.2 if answer.strip().startswith(RIGHT) else 0.1


def test_the_share_of_the_choices(run_stage: Run) -> None:
    rows = [{**row, "choices": ["7", "8", "9"]} for row in items("x", 1, "taking")]
    rows[0]["choices"] = ["8", "9"]
    model = Choices()
    made = stage(choices_column="choices", ends_with=".")
    given = {"rows": rows, "shown": items("s", 1, "taking")}
    run = run_stage(made, given, engines={"teacher": lambda: model})
    assert "which is none of choices" in run.rows[0]["error"]
    assert [row["p_with"] for row in run.rows[1:]] == pytest.approx([0.5] * 5)
    assert set(model.prompts) == {"7.", "8.", "9."}


def test_what_explanations_are_worth_to_a_student_that_is_right(run_stage: Run) -> None:
    rows = items("x", 2, "taking")
    for row in rows:
        row["is_correct"] = row["answer_without"] == RIGHT
    run = run_on(run_stage, rows, items("s", 1, "taking"), correct_column="is_correct")
    (table,) = Results.from_metrics(run.metrics).own
    found = {(f.labels["rows"], f.labels["figure"]): f.value for f in table.figures}
    assert found["all", "student is right already"] == 0.5
    assert found["student is right already", "utility"] == pytest.approx(-0.8 / 3)
    assert found["student is wrong", "utility"] == pytest.approx(0.8 / 3)


def test_the_likelihood_is_that_of_the_model(run_stage: Run) -> None:
    """By the engine, against a forward pass over the same text."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from llm_distill.engines.transformers.engine import TransformersEngine
    from llm_distill.engines.transformers.settings import TransformersSettings

    path = "data/models/tiny-teacher"
    source = ModelSource("teacher", path)
    settings = TransformersSettings(device="cpu")
    rows = {"rows": items("x", 1, "taking")[:2], "shown": items("s", 1, "taking")}
    prompts: list[Any] = []

    class Watched(TransformersEngine):
        def score(self, requests: Any) -> Any:
            kept = list(requests)
            prompts.extend(kept)
            yield from super().score(kept)

    run = run_stage(
        stage(n_demonstrations=2),
        rows,
        engines={"teacher": lambda: Watched(source, settings)},
        models={"teacher": source},
    )
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path)
    wanted = []
    for request in prompts:
        before = tokenizer.apply_chat_template(
            request.prompt, add_generation_prompt=True, tokenize=False
        )
        first = tokenizer(before, add_special_tokens=False)["input_ids"]
        then = tokenizer(before + request.completion, add_special_tokens=False)["input_ids"]
        assert then[: len(first)] == first
        with torch.no_grad():
            logps = model(torch.tensor([then])).logits[0].log_softmax(-1)
        places = range(len(first), len(then))
        wanted.append(exp(sum(logps[place - 1, then[place]].item() for place in places)))
    found = [p for row in run.rows for p in (row["p_without"], row["p_with"])]
    assert found == pytest.approx(wanted, rel=1e-3)
    assert len(set(found)) == 4
    assert run.rows[0]["utility"] == pytest.approx(wanted[1] - wanted[0], rel=1e-2)


def test_settings() -> None:
    for wrong, said in (
        ({"answer_kind": "math"}, "answer_kind go with n_samples"),
        ({"n_samples": 4, "ends_with": "."}, "are for likelihoods"),
        ({"n_samples": 4, "sampling": {"temperature": 0}}, "the same answer every time"),
    ):
        with pytest.raises(ValidationError, match=said):
            stage(**wrong)
    assert stage().asks("model") == "likelihoods"
    assert stage().most_asked({"rows": 3, "shown": 9}) == {"teacher": (6, 0)}


def test_what_the_student_gets_right_is_true_or_false(run_stage: Run) -> None:
    rows = [{**row, "right": "false"} for row in items("x", 1, "taking")]
    with pytest.raises(DataError, match="right is 'false', neither true nor false"):
        run_on(run_stage, rows, items("s", 1, "taking"), correct_column="right")
    shown = [{**row, "answer_with": None} for row in items("s", 1, "taking")]
    with pytest.raises(DataError, match="no demonstration of 'shown' has all of question"):
        run_on(run_stage, items("x", 1, "taking"), shown)
