"""score_in_context: a student whose answers depend on its example, in ways known beforehand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from llm_distill.engines.base import Completion, Request
from llm_distill.errors import DataError
from llm_distill.models.sources import ModelSource
from llm_distill.stages.score_in_context import ScoreInContext

Run = Callable[..., Any]

ITEMS = [
    {"id": f"v{i}", "task": "sums", "question": f"{i} + 1?", "reference_answer": str(i + 1)}
    for i in range(4)
]
TEXT = "{{ task }}\n{% for e in examples %}\nQuestion: {{ e.question }}\nAnswer: {{ e.rationale }}\n{% endfor %}\nQuestion: {{ question }}\nAnswer:"  # noqa: E501


def candidate(name: str, rationale: str | None, **more: Any) -> dict[str, Any]:
    return {
        "id": name, "parent_id": name.split("-")[0], "task": "sums", "strategy": "s",
        "question": "7 + 7?", "rationale": rationale, "error": None, **more,
    }  # fmt: skip


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., ScoreInContext]:
    path = tmp_path / "exam.jinja"
    path.write_text(TEXT)

    def make(**settings: Any) -> ScoreInContext:
        return ScoreInContext(
            **{"stage": "score_in_context", "rows": "rows", "items": "items", "model": "student",
               "template": str(path), **settings}
        )  # fmt: skip

    return make


def text_of(request: Request) -> str:
    prompt = request.prompt
    return prompt if isinstance(prompt, str) else prompt[0]["content"]


def student(request: Request) -> str:
    """Adds rightly after a 'good' example, for even numbers after 'half', says nothing else."""
    text = text_of(request)
    number = int(text.split("Question: ")[-1].split(" ")[0])
    if "good" in text or ("half" in text and number % 2 == 0):
        return f" so <ans>{number + 1}</ans> or <ans>99</ans>"
    return " so <ans>99</ans> or <ans>" + str(number + 1) if "half" in text else " dunno"


def test_scores_are_accuracies_and_no_answer_is_wrong_and_counted_apart(
    run_stage: Run, stage: Callable[..., ScoreInContext]
) -> None:
    rows = [candidate("a-0", "good"), candidate("a-1", "half"), candidate("a-2", "bad")]
    run = run_stage(stage(), {"rows": rows, "items": ITEMS}, {"student": student})
    assert [row["score"] for row in run.rows] == [1.0, 0.5, 0.0]  # the first answer counts
    assert [row["parse_failures"] for row in run.rows] == [0, 0, 4]
    assert [row["n_items"] for row in run.rows] == [4, 4, 4]
    assert run.metrics["parse_failures"] == 4
    assert run.metrics["mean_score"] == {"s": 0.5}
    assert run.metrics["answers"] == 12


def test_bad_candidates_are_passed_on_without_a_score_and_counted(
    run_stage: Run, stage: Callable[..., ScoreInContext]
) -> None:
    rows = [candidate("a-0", None), candidate("a-1", "good", error="no tag"), candidate("a-2", " "),
            candidate("a-3", "good")]  # fmt: skip
    run = run_stage(stage(), {"rows": rows, "items": ITEMS}, {"student": student})
    assert [row["score"] for row in run.rows] == [None, None, None, 1.0]
    assert [row["n_items"] for row in run.rows] == [0, 0, 0, 4]
    assert run.metrics["unscored"] == 3


def test_equal_candidates_are_scored_once(
    run_stage: Run, stage: Callable[..., ScoreInContext]
) -> None:
    asked: list[str] = []

    def counting(request: Request) -> str:
        asked.append(request.id)
        return student(request)

    rows = [candidate("a-0", "half"), candidate("a-1", "good"), candidate("a-2", "half ")]
    run = run_stage(stage(), {"rows": rows, "items": ITEMS}, {"student": counting})
    assert len(asked) == 8
    assert [row["score"] for row in run.rows] == [0.5, 1.0, 0.5]
    assert (run.metrics["candidates_repeated"], run.metrics["candidates_scored"]) == (1, 2)


def test_an_item_is_not_asked_with_itself_as_the_example(
    run_stage: Run, stage: Callable[..., ScoreInContext]
) -> None:
    rows = [candidate("a-0", "half", question="0  + 1? "), candidate("b-0", "half")]
    run = run_stage(stage(), {"rows": rows, "items": ITEMS}, {"student": student})
    assert [(row["n_items"], row["score"]) for row in run.rows] == [(3, 1 / 3), (4, 0.5)]


def test_requests_with_the_same_beginning_follow_each_other_and_stop_at_a_question(
    run_stage: Run, stage: Callable[..., ScoreInContext]
) -> None:
    asked: list[Request] = []

    class Engine:
        def generate(self, requests: Any) -> Any:
            for request in requests:
                asked.append(request)
                yield Completion(request.id, student(request), "stop")

        def close(self) -> None: ...

    rows = [candidate(f"a-{i}", rationale) for i, rationale in enumerate(["good", "half", "bad"])]
    models = {"student": ModelSource("student", "x", prompt_format="text")}
    run_stage(stage(), {"rows": rows, "items": ITEMS}, models=models, engines={"student": Engine})
    heads = [text_of(request).rpartition("Question:")[0] for request in asked]
    changes = sum(a != b for a, b in pairwise(heads))
    assert changes == 2
    assert all("\nQuestion:" in request.sampling.stop for request in asked)
    assert all(request.sampling.temperature == 0 for request in asked)
    assert heads[0].count("Question:") == 1  # a single example
    assert not stage().is_seeded()
    assert stage(sampling={"temperature": 1.0}).is_seeded()


def test_truncations_and_failures_are_counted(
    run_stage: Run, stage: Callable[..., ScoreInContext]
) -> None:
    class Engine:
        def generate(self, requests: Any) -> Any:
            for index, request in enumerate(requests):
                if index == 0:
                    yield Completion(request.id, "", "error", error="too long")
                else:
                    yield Completion(request.id, student(request), "length")

        def close(self) -> None: ...

    models = {"student": ModelSource("student", "x")}
    given = {"rows": [candidate("a-0", "half")], "items": ITEMS}
    engines = {"student": Engine}
    run = run_stage(stage(max_error_rate=0.25), given, models=models, engines=engines)
    assert (run.metrics["truncated"], run.metrics["errors"]) == (3, 1)
    assert (run.rows[0]["n_items"], run.rows[0]["score"]) == (3, pytest.approx(1 / 3))
    with pytest.raises(DataError, match="1 of 4 failed"):
        run_stage(stage(), given, models=models, engines=engines)


def test_only_items_of_the_candidates_task_are_asked(
    run_stage: Run, stage: Callable[..., ScoreInContext]
) -> None:
    items = [*ITEMS, {**ITEMS[0], "id": "d0", "task": "dates", "reference_answer": "x"}]
    run = run_stage(stage(), {"rows": [candidate("a-0", "good")], "items": items},
                    {"student": student})  # fmt: skip
    assert run.rows[0]["n_items"] == 4
    other = [candidate("a-0", "good", task="other")]
    with pytest.raises(DataError, match="no item of task 'other'"):
        run_stage(stage(), {"rows": other, "items": items}, {"student": student})


def test_an_item_without_a_reference_is_an_error(
    run_stage: Run, stage: Callable[..., ScoreInContext]
) -> None:
    items = [*ITEMS, {**ITEMS[0], "id": "v9", "reference_answer": None}]
    with pytest.raises(DataError, match="item v9 of 'items' has no reference_answer"):
        run_stage(stage(), {"rows": [candidate("a-0", "x")], "items": items}, {"student": student})


def test_columns(stage: Callable[..., ScoreInContext]) -> None:
    settings = stage(variables={"task_description": "Add."})
    assert settings.output_columns({"rows": frozenset({"id"}), "items": frozenset()}) == {
        "id", "score", "n_items", "parse_failures"
    }  # fmt: skip
    offered = settings.template_variables({"rows": frozenset(), "items": frozenset({"question"})})
    assert list(offered.values()) == [{"question", "task_description", "examples"}]


def test_nothing_that_can_be_scored_is_an_error(
    run_stage: Run, stage: Callable[..., ScoreInContext]
) -> None:
    unusable = [candidate("a-0", None)]
    with pytest.raises(DataError, match="no candidate of 'rows' has a score"):
        run_stage(stage(), {"rows": unusable, "items": ITEMS}, {"student": student})


def test_only_items_that_match_and_at_most_n_the_same_for_a_questions_candidates(
    run_stage: Run, stage: Callable[..., ScoreInContext]
) -> None:
    items = [{**item, "skills": ["even", "sum"] if i % 2 == 0 else ["odd"]}
             for i, item in enumerate(ITEMS * 3)]  # fmt: skip
    items = [{**item, "id": f"v{i}"} for i, item in enumerate(items)]
    asked: dict[str, set[str]] = {}

    def listens(request: Request) -> str:
        head, _, last = text_of(request).rpartition("Question: ")
        asked.setdefault(head.partition("Answer: ")[2].split("\n")[0], set()).add(last)
        return student(request)

    even, odd = {"skills": ["even", "sum"]}, {"skills": ["odd"]}
    rows = [candidate("a-0", "half", **even), candidate("b-0", "half of", **odd)]
    run = run_stage(stage(match="skills"), {"rows": rows, "items": items}, {"student": listens})
    assert [row["score"] for row in run.rows] == [1.0, 0.0]
    assert [row["n_items"] for row in run.rows] == [6, 6]
    assert asked["half"] == {"0 + 1?\nAnswer:", "2 + 1?\nAnswer:"}
    assert stage(match="skills").required_columns()["items"] >= {"skills"}

    asked.clear()
    many = [{**ITEMS[0], "id": f"v{i}", "question": f"{i} + 1?"} for i in range(40)]
    two = [candidate("a-0", "good"), candidate("a-1", "half")]
    run = run_stage(stage(n=5), {"rows": two, "items": many}, {"student": listens})
    assert [row["n_items"] for row in run.rows] == [5, 5]
    assert asked["good"] == asked["half"]
    first = asked["good"]
    asked.clear()
    run_stage(stage(n=5), {"rows": two, "items": many}, {"student": listens}, seed=1)
    assert asked["good"] != first
    assert stage(n=5).is_seeded()
    alone = [candidate("a-0", "good", skills=["other"])]
    with pytest.raises(DataError, match=r"no item with skills \['other'\] \(row a-0\)"):
        run_stage(stage(match="skills"), {"rows": alone, "items": items}, {"student": listens})


def test_of_several_students_all_answers_count(
    run_stage: Run, stage: Callable[..., ScoreInContext]
) -> None:
    rows = [candidate("a-0", "good"), candidate("a-1", "half")]
    answers = {"one": student, "two": lambda _: "<ans>1</ans>"}
    settings = {"model": ["one", "two"]}
    run = run_stage(stage(**settings), {"rows": rows, "items": ITEMS}, answers)
    assert [row["score"] for row in run.rows] == [(4 + 1) / 8, (2 + 1) / 8]
    assert [row["n_items"] for row in run.rows] == [8, 8]
    assert run.metrics["mean_score_of_student"] == {"one": 0.75, "two": 0.25}
    for wrong in ([], ["one", "one"]):
        with pytest.raises(ValueError, match="each once"):
            stage(model=wrong)
