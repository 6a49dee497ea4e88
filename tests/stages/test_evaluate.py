"""evaluate: predictions as rows, few-shot examples, and the tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.engines.base import Request
from llm_distill.errors import DataError
from llm_distill.models.sources import ModelSource
from llm_distill.rows.columns import Row
from llm_distill.stages.evaluate import Evaluate

Run = Callable[..., Any]

ITEMS = [
    {"id": f"t{i}", "task": "sums", "question": f"{i} + 1?", "reference_answer": str(i + 1),
     "skills": ["even" if i % 2 == 0 else "odd"]}
    for i in range(8)
]  # fmt: skip
WORKED = [
    {"id": f"w{i}-0", "parent_id": f"w{i}", "task": "sums", "question": f"{i} + 9?",
     "rationale": f" = {i + 9}", "error": None}
    for i in range(6)
]  # fmt: skip
TEXT = "{% for e in examples %}\nQuestion: {{ e.question }} {{ e.rationale }}\n{% endfor %}\nQuestion: {{ question }}"  # noqa: E501


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., Evaluate]:
    path = tmp_path / "exam.jinja"
    path.write_text(TEXT)

    def make(models: tuple[str, ...] = ("weak",), **settings: Any) -> Evaluate:
        if max(settings.get("shots", [0])) > 0:
            settings.setdefault("examples", "worked")
        return Evaluate(
            stage="evaluate", rows="rows", models=list(models), template=str(path), **settings
        )

    return make


def number(request: Request) -> int:
    assert not isinstance(request.prompt, str)
    return int(request.prompt[0]["content"].split("Question: ")[-1].split(" ")[0])


def weak(request: Request) -> str:
    """Right for even numbers; writes no answer for 7; goes on to another question."""
    n = number(request)
    if n == 7:
        return " I do not know. 8"
    return f" <ans>{n + 1 if n % 2 == 0 else 0}</ans> Question: x <ans>{n + 1}</ans>"


def strong(request: Request) -> str:
    return f" <ans>{number(request) + 1}</ans>"


def test_predictions_and_accuracy(run_stage: Run, stage: Callable[..., Evaluate]) -> None:
    run = run_stage(stage(by=["skills"]), {"rows": ITEMS}, {"weak": weak})
    assert [row["id"] for row in run.rows] == [f"t{i}-weak-0-0" for i in range(8)]
    assert [row["is_correct"] for row in run.rows] == [True, False] * 4  # the first answer counts
    assert (run.rows[7]["answer"], run.rows[7]["is_correct"]) == (None, False)
    assert run.rows[0]["completion"] == "<ans>1</ans> Question: x <ans>1</ans>"
    assert (run.rows[3]["parent_id"], run.rows[3]["question"]) == ("t3", "3 + 1?")
    (result,) = run.metrics["results"]
    assert (result["accuracy"], result["n"], result["parse_failures"]) == (0.5, 8, 1)
    assert 0.2 < result["low"] < 0.5 < result["high"] < 0.8
    by_skill = {row["skills"]: row["accuracy"] for row in run.metrics["by_skills"]}
    assert by_skill == {"even": 1.0, "odd": 0.0}


def test_models_are_compared_on_the_same_prompts(
    run_stage: Run, stage: Callable[..., Evaluate]
) -> None:
    answers = {"weak": weak, "strong": strong}
    run = run_stage(
        stage(("weak", "strong"), shots=[0, 3]), {"rows": ITEMS, "worked": WORKED}, answers
    )
    assert len(run.rows) == len({row["id"] for row in run.rows}) == 32
    prompts = {(row["model"], row["parent_id"], row["shots"]): row["prompt"] for row in run.rows}
    for item in ITEMS:
        for shots in (0, 3):
            assert prompts["weak", item["id"], shots] == prompts["strong", item["id"], shots]
    assert [(r["shots"], r["difference"]) for r in run.metrics["differences"]] == [
        (0, 0.5),
        (3, 0.5),
    ]
    assert [(r["model"], r["shots"]) for r in run.metrics["results"]] == [
        ("weak", 0), ("weak", 3), ("strong", 0), ("strong", 3)
    ]  # fmt: skip


def test_few_shot_examples_are_seeded_and_fewer_are_the_first_of_more(
    run_stage: Run, stage: Callable[..., Evaluate]
) -> None:
    settings = stage(shots=[1, 3])
    assert settings.is_seeded()
    given = {"rows": ITEMS, "worked": WORKED}
    run = run_stage(settings, given, {"weak": weak})
    prompts = {(row["parent_id"], row["shots"]): row["prompt"] for row in run.rows}
    assert prompts["t0", 3].count("Question:") == 4
    for item in ITEMS:
        one = prompts[item["id"], 1].rpartition("Question:")[0]
        assert prompts[item["id"], 3].startswith(one.rstrip())
    assert len({prompts[f"t{i}", 3].rpartition("Question:")[0] for i in range(8)}) > 1
    assert run_stage(settings, given, {"weak": weak}).rows == run.rows
    assert run_stage(settings, given, {"weak": weak}, seed=5).rows != run.rows


def test_an_item_is_not_its_own_example(run_stage: Run, stage: Callable[..., Evaluate]) -> None:
    worked = [{**row, "rationale": f"shown {row['id']}"} for row in ITEMS[:4]]
    made = [{**row, "id": row["id"] + "-0", "parent_id": row["id"]} for row in worked]
    for examples in (worked, made):
        given = {"rows": ITEMS[:4], "worked": examples}
        run = run_stage(stage(shots=[3]), given, {"weak": weak})
        for row in run.rows:
            assert f"shown {row['parent_id']}" not in row["prompt"]
            assert row["prompt"].count("shown") == 3


def test_examples_without_a_rationale_are_left_out_and_too_few_are_an_error(
    run_stage: Run, stage: Callable[..., Evaluate]
) -> None:
    worked = [{**row, "rationale": None if i > 2 else row["rationale"]}
              for i, row in enumerate(WORKED)]  # fmt: skip
    run = run_stage(stage(shots=[3]), {"rows": ITEMS, "worked": worked}, {"weak": weak})
    assert not any("None" in row["prompt"] for row in run.rows)
    assert "3 of 6 worked examples have no rationale" in run.warnings[0]
    with pytest.raises(DataError, match="row t0: 4 examples of task 'sums' are wanted and 3 of 3"):
        run_stage(stage(shots=[4]), {"rows": ITEMS, "worked": worked}, {"weak": weak})


def test_a_text_model_is_given_text_and_is_stopped_at_the_next_question(
    run_stage: Run, stage: Callable[..., Evaluate]
) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> str:
        asked.append(request)
        return "x"

    models = {"weak": ModelSource("weak", "x", prompt_format="text")}
    run_stage(stage(), {"rows": ITEMS[:2]}, {"weak": answer}, models=models)
    assert {request.prompt for request in asked} == {"Question: 0 + 1?", "Question: 1 + 1?"}
    assert "\nQuestion:" in asked[0].sampling.stop
    assert asked[0].sampling.temperature == 0


def test_bad_rows(run_stage: Run, stage: Callable[..., Evaluate]) -> None:
    without = [*ITEMS, {**ITEMS[0], "id": "t9", "reference_answer": ""}]
    with pytest.raises(DataError, match="item t9 of 'rows' has no reference_answer; add it"):
        run_stage(stage(), {"rows": without}, {"weak": weak})
    null = [{**ITEMS[0], "id": "t9", "question": None}, *ITEMS]
    with pytest.raises(DataError, match="1 of 9 failed"):
        run_stage(stage(), {"rows": null}, {"weak": weak})
    run = run_stage(stage(max_error_rate=0.2), {"rows": null}, {"weak": weak})
    assert (run.rows[0]["error"] is None, run.rows[0]["is_correct"]) == (False, False)
    (result,) = run.metrics["results"]
    assert (result["n"], result["errors"], result["parse_failures"]) == (9, 1, 1)


@pytest.mark.parametrize(
    "settings",
    [{"shots": [0, 3]}, {"models": []}, {"models": ["a", "a"]}, {"shots": []}, {"shots": [-1]},
     {"shots": [0, 0]}, {"samples": 4}, {"samples": 0}],
)  # fmt: skip
def test_settings_that_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Evaluate(**{"stage": "evaluate", "rows": "r", "models": ["a"], "template": "t", **settings})


def test_columns_before_a_run_are_those_of_a_run(
    run_stage: Run, stage: Callable[..., Evaluate]
) -> None:
    run = run_stage(stage(), {"rows": ITEMS}, {"weak": weak})
    assert stage().output_columns({"rows": frozenset(ITEMS[0])}) == set(run.rows[0])
    assert "skills" in stage(by=["skills"]).required_columns()["rows"]
    assert not stage().is_seeded()


def test_too_few_examples_are_said_before_anything_is_asked(
    run_stage: Run, stage: Callable[..., Evaluate]
) -> None:
    def never(request: Request) -> str:
        raise AssertionError("asked")

    items = [*ITEMS, {**ITEMS[0], "id": "d", "task": "dates", "question": "Which day?"}]
    with pytest.raises(DataError, match="row d: 2 examples of task 'dates' are wanted and 0 of 0"):
        run_stage(stage(shots=[0, 2]), {"rows": items, "worked": WORKED}, {"weak": never})


def test_several_answers_to_an_item(run_stage: Run, stage: Callable[..., Evaluate]) -> None:
    """Each is drawn with a seed of its own; every third of `drawn` is right."""
    seeds: set[int] = set()

    def drawn(request: Request) -> str:
        seeds.add(request.seed)
        right = int(request.id.rpartition("-")[2]) % 3 == 0
        return f"<ans>{number(request) + 1 if right else 0}</ans>"

    run = run_stage(
        stage(samples=4, sampling={"temperature": 0.7}), {"rows": ITEMS}, {"weak": drawn}
    )
    assert len(seeds) == len(run.rows) == len({row["id"] for row in run.rows}) == 32
    assert [row["candidate_index"] for row in run.rows[:5]] == [0, 1, 2, 3, 0]
    (result,) = run.metrics["results"]
    assert (result["accuracy"], result["n"], result["samples"]) == (0.5, 8, 4)
    assert result["pass_at"] == {"1": 0.5, "2": pytest.approx(5 / 6), "4": 1.0}
    assert result["majority"] == 1.0  # two zeros, two right ones, and these were first


def test_one_item_is_too_few(run_stage: Run, stage: Callable[..., Evaluate]) -> None:
    with pytest.raises(DataError, match="'rows' has 1 item"):
        run_stage(stage(), {"rows": ITEMS[:1]}, {"weak": weak})


def test_items_that_were_trained_on_are_counted(
    run_stage: Run, stage: Callable[..., Evaluate]
) -> None:
    sentence = "Tom has {} apples and buys {} more in the little shop behind the church today"
    items = [{**row, "question": sentence.format(i, i + 20)} for i, row in enumerate(ITEMS)]
    seen = [
        {"id": "s0", "messages": [{"role": "user", "content": f"Well. {items[3]['question']}!"}]},
        {"id": "s1", "messages": [{"role": "user", "content": "nothing"}]},
    ]
    given = {"rows": items, "seen": seen, "clean": seen[1:]}
    answers = {"weak": lambda request: "x", "strong": lambda request: "x"}
    training = {"weak": ["clean"], "strong": ["seen", "clean"]}
    both = ("weak", "strong")
    run = run_stage(stage(both), given, answers, training=training)
    found = run.metrics["contamination"]
    assert (found["ngram"], found["n_items"], found["rows"]) == (13, 8, {"clean": 0, "seen": 1})
    assert found["items"]["seen"] == ["t3"]
    assert "1 of 8 items of 'rows' are found in 'seen'" in run.warnings[0]
    asked: list[str] = []
    listening = dict.fromkeys(both, lambda request: asked.append(request.id) or "x")
    with pytest.raises(DataError, match="put a decontaminate stage after 'seen'"):
        run_stage(stage(both, contamination={"fail": True}), given, listening, training=training)
    assert not asked


def test_rows_that_are_examples_and_were_trained_on_are_all_searched(
    run_stage: Run, stage: Callable[..., Evaluate]
) -> None:
    """A row without a rationale is no example, but the model has learned it all the same."""
    hidden = {**WORKED[0], "id": "x", "question": ITEMS[5]["question"], "rationale": ""}
    learned = [*WORKED, hidden]
    run = run_stage(
        stage(shots=[2]), {"rows": ITEMS, "worked": learned}, {"weak": weak},
        training={"weak": ["worked"]},
    )  # fmt: skip
    assert run.metrics["contamination"]["rows"] == {"worked": 1}


def test_worked_examples_that_are_items_are_counted(
    run_stage: Run, stage: Callable[..., Evaluate]
) -> None:
    worked = [{**WORKED[0], "question": ITEMS[2]["question"]}, *WORKED[1:]]
    run = run_stage(stage(shots=[2]), {"rows": ITEMS, "worked": worked}, {"weak": weak})
    assert run.metrics["contamination"]["rows"] == {"worked": 1}


def test_thoughts_are_no_answers_and_an_open_tag_at_a_stop_is_one(
    run_stage: Run, stage: Callable[..., Evaluate]
) -> None:
    def thinks(request: Request) -> str:
        n = number(request)
        return f"<think>Is it <ans>0</ans>?</think> <ans>{n + 1}" + ("</ans>" if n % 2 else "")

    run = run_stage(stage(("thinks",)), {"rows": ITEMS}, {"thinks": thinks})
    assert all(row["is_correct"] for row in run.rows)
    assert {row["answer"] for row in run.rows} == {row["reference_answer"] for row in ITEMS}


def test_two_choices_are_unreadable(run_stage: Run, stage: Callable[..., Evaluate]) -> None:
    items = [{**row, "reference_answer": "B"} for row in ITEMS]
    texts = ["<ans>**B**</ans>", r"So \boxed{B}.", "<ans>A and B</ans>", "<ans>A</ans>"] * 2
    answers = {"m": lambda request: texts[number(request)]}
    run = run_stage(stage(("m",), answer_kind="choice"), {"rows": items}, answers)
    (exam,) = run.metrics["results"]
    assert (exam["accuracy"], exam["parse_failures"]) == (0.5, 2)


def test_conversations_and_calls_are_items_too(run_stage: Run) -> None:
    tools = json.dumps([{"name": "add", "parameters": {"type": "object"}}])

    def item(n: int) -> Row:
        wanted = json.dumps([{"name": "add", "arguments": {"a": n}}])
        said = [{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "?"}]
        turns = [*said, {"role": "user", "content": "Add."}, said[1]]
        return {"id": f"t{n}", "messages": turns, "tools": tools, "reference_answer": wanted}

    asked: list[Request] = []

    def answer(request: Request) -> str:
        asked.append(request)
        n = int(request.prompt[0]["content"])  # type: ignore[index,call-overload]
        return f'<tool_call>{{"name": "add", "arguments": {{"a": {min(n, 1)}}}}}</tool_call>'

    settings = Evaluate(
        stage="evaluate",
        rows="rows",
        models=["m"],
        messages_column="messages",
        answer_kind="tool_call",
    )
    run = run_stage(settings, {"rows": [item(0), item(1), item(2)]}, {"m": answer})
    assert [row["is_correct"] for row in run.rows] == [True, True, False]
    assert [len(request.prompt) for request in asked] == [3, 3, 3]
    assert asked[0].tools[0]["function"]["name"] == "add"


def test_form_and_skill_apart(run_stage: Run, stage: Callable[..., Evaluate]) -> None:
    def chatty(request: Request) -> str:
        n = number(request)
        return f" The answer is: {n + 1}." if n < 6 else f" <ans>{n}</ans>" if n < 7 else " Hm, who"

    by_tag = run_stage(stage(answer_kind="math"), {"rows": ITEMS}, {"weak": chatty})
    (result,) = by_tag.metrics["results"]
    assert (result["accuracy"], result["parse_failures"]) == (0.0, 7)
    assert "forms" not in result
    assert "answer_form" not in by_tag.rows[0]
    (warning,) = [text for text in by_tag.warnings if "form" in text]
    assert "model 'weak' (0-shot): 7 of 8 answers cannot be read" in warning
    in_any = run_stage(
        stage(answer_kind="math", answer_in="any"), {"rows": ITEMS}, {"weak": chatty}
    )
    (result,) = in_any.metrics["results"]
    assert (result["accuracy"], result["parse_failures"]) == (0.75, 0)
    assert result["forms"] == {"sentence": 6, "tag": 1, "whole": 1}
    assert [row["answer_form"] for row in in_any.rows[5:]] == ["sentence", "tag", "whole"]
    assert not [text for text in in_any.warnings if "form" in text]


def test_free_answers_are_measured(run_stage: Run, stage: Callable[..., Evaluate]) -> None:
    references = ["in the old town", "by train and boat", "with a map of it", "for two long days"]
    items = [{**ITEMS[n], "reference_answer": text} for n, text in enumerate(references)]
    settings = stage(("weak", "strong"), answer_kind="text", measures=["token_f1", "rouge_l"])
    run = run_stage(
        settings, {"rows": items},
        {"weak": lambda request: "no idea", "strong": lambda request: "<ans>the old town</ans>"},
    )  # fmt: skip
    weak, strong = (
        {row["parent_id"]: row["token_f1"] for row in run.rows if row["model"] == name}
        for name in ("weak", "strong")
    )
    assert (weak["t0"], strong["t0"], strong["t1"]) == (0.0, pytest.approx(0.8), 0.0)
    means, differences = run.metrics["figures"]
    by_measure = {row["labels"]["measure"]: row for row in means["rows"][1::2]}
    assert by_measure["token_f1"]["value"] == pytest.approx(0.2)
    assert by_measure["token_f1"]["high"] == pytest.approx(0.6)
    assert by_measure["rouge_l"]["labels"]["model"] == "strong"
    assert differences["rows"][0]["labels"]["difference"] == "strong − weak"
    assert differences["rows"][0]["value"] == pytest.approx(0.2)
    (note,) = run.metrics["notes"]
    assert note in run.warnings
    for wrong in ({"measures": ["rouge_l", "rouge_l"]}, {"measures": ["bleu"]},
                  {"answer_kind": "tool_call", "measures": ["rouge_l"]},
                  {"answer_kind": "text", "answer_in": "any"}):  # fmt: skip
        with pytest.raises(ValidationError):
            stage(**wrong)
