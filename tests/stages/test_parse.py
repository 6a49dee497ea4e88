"""parse: values, blocks and failures as rows and counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.stages.parse import Parse

Run = Callable[..., Any]
TWO = (
    "Here: <Question_1><input> How many? </input><target>4</target></Question_1>\n"
    "<Question_2><input>When?</input></Question_2>"
)


def stage(**settings: Any) -> Parse:
    return Parse(stage="parse", rows="rows", **settings)


def rows(*texts: str | None) -> list[dict[str, Any]]:
    return [
        {"id": f"r{i}", "completion": text, "task": "t", "error": None if text else "too long"}
        for i, text in enumerate(texts)
    ]


def test_tags_are_read_and_failures_counted(run_stage: Run) -> None:
    settings = stage(tags={"answer": "ans"}, keep_text_as="rationale")
    run = run_stage(settings, {"rows": rows(" 3 <ans> 7 </ans>\n", "no tag", "<ans></ans>", None)})
    (row,) = run.rows
    assert (row["id"], row["answer"], row["rationale"]) == ("r0", "7", "3 <ans> 7 </ans>")
    assert row["error"] is None
    assert run.dropped == {"no <answer>": 2, "an error upstream": 1}
    assert settings.output_columns({"rows": frozenset(rows("x")[0])}) == set(run.features)


def test_kept_failures_have_nulls_and_the_reason(run_stage: Run) -> None:
    settings = stage(tags={"answer": "ans"}, on_failure="keep")
    run = run_stage(settings, {"rows": rows("<ans>7</ans>", "none", None)})
    assert [(row["answer"], row["error"]) for row in run.rows] == [
        ("7", None),
        (None, "no <answer>"),
        (None, "too long"),
    ]
    assert run.dropped == {}


def test_each_block_becomes_a_row(run_stage: Run) -> None:
    tags = {"question": "input", "reference_answer": "target"}
    settings = stage(each=r"Question_\d+", tags=tags, drop_columns=["completion"])
    run = run_stage(settings, {"rows": rows(TWO, "nothing")})
    assert run.rows == [
        {
            "id": "r0-0",
            "task": "t",
            "error": None,
            "parent_id": "r0",
            "question": "How many?",
            "reference_answer": "4",
        }
    ]
    assert run.dropped == {"no <reference_answer>": 1, r"no <Question_\d+>": 1}
    assert settings.output_columns({"rows": frozenset(rows("x")[0])}) == set(run.features)
    lenient = stage(each=r"Question_\d+", tags=tags, required=["question"], keep_text_as="block")
    found = run_stage(lenient, {"rows": rows(TWO)}).rows
    assert [(r["id"], r["reference_answer"]) for r in found] == [("r0-0", "4"), ("r0-1", None)]
    assert found[1]["block"] == "<input>When?</input>"
    kept = stage(each=r"Question_\d+", tags=tags, on_failure="keep")
    found = run_stage(kept, {"rows": rows(TWO, "nothing", None)}).rows
    assert [(row["id"], row["error"]) for row in found] == [
        ("r0-0", None),
        ("r0-1", "no <reference_answer>"),
        ("r1-0", r"no <Question_\d+>"),
        ("r2-0", "too long"),
    ]
    assert found[2]["question"] is None


def test_patterns_and_json(run_stage: Run) -> None:
    given = {"rows": rows("So the answer is 7 hats. <ans>9</ans>")}
    by_pattern = stage(pattern=r"answer is (?P<answer>\d+)(?P<unit> cups)?", required=["answer"])
    (row,) = run_stage(by_pattern, given).rows
    assert (row["answer"], row["unit"]) == ("7", None)
    by_key = stage(json_keys={"answer": "a"})
    found = run_stage(by_key, {"rows": rows('Well: {"a": 7}', '{"b": 7}', '{"a": null}')})
    assert [row["answer"] for row in found.rows] == ["7"]
    assert found.dropped == {"no <answer>": 2}


def test_another_column_can_be_read_without_an_error_column(run_stage: Run) -> None:
    run = run_stage(
        stage(column="text", tags={"answer": "ans"}),
        {"rows": [{"id": "a", "text": "<ans>1</ans>"}, {"id": "b", "text": None}]},
    )
    assert [row["answer"] for row in run.rows] == ["1"]
    assert run.dropped == {"no <answer>": 1}
    with pytest.raises(DataError, match="row a: 'text' should be text, but is 3"):
        run_stage(stage(column="text", tags={"answer": "ans"}), {"rows": [{"id": "a", "text": 3}]})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "exactly one of tags, pattern, json_keys, final_answer; got none"),
        ({"tags": {"a": "b"}, "pattern": "(?P<a>x)"}, "exactly one"),
        ({"pattern": "(?P<a>x"}, "not a regular expression"),
        ({"pattern": "x"}, "names no column"),
        ({"tags": {"a": "b"}, "each": "Question_("}, "not a regular expression"),
        ({"tags": {"a": "b"}, "required": ["c"]}, r"required: \['c'\] are not among \['a'\]"),
        ({"tags": {"a": "b"}, "drop_columns": ["id"]}, "the column id can be neither"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        stage(**settings)


def test_columns_that_are_needed() -> None:
    settings = stage(tags={"answer": "ans"}, drop_columns=["prompt", "answer"])
    assert settings.required_columns() == {"rows": {"id", "completion", "prompt"}}
    assert settings.output_columns({"rows": None}) is None


@pytest.mark.parametrize("column", ["skills", "score", "is_correct"])
def test_a_column_of_another_type_is_no_place_for_text(column: str) -> None:
    with pytest.raises(ValidationError, match=f"'{column}' holds .* and what is read is text"):
        Parse(stage="parse", rows="rows", tags={column: "x"})


def test_thoughts_are_not_read(run_stage: Run) -> None:
    settings = stage(tags={"answer": "ans"}, keep_text_as="rationale")
    thought = "<think>Is it <ans>9</ans>?</think>\nIt is <ans>2</ans>"
    texts = (thought, "<ans>9</ans></think><ans>2</ans>", "<think>")
    run = run_stage(settings, {"rows": rows(*texts)})
    assert [row["answer"] for row in run.rows] == ["2", "2"]
    assert run.rows[0]["rationale"] == "It is <ans>2</ans>"
    assert run.dropped == {"no <answer>": 1}


@pytest.mark.parametrize(
    "settings", [{"tags": {"why": "think"}}, {"pattern": "<think>(?P<why>.*)</think>"}]
)
def test_thoughts_are_read_if_they_are_asked_for(settings: dict[str, Any], run_stage: Run) -> None:
    run = run_stage(stage(**settings), {"rows": rows("<think>so</think> 4")})
    assert run.rows[0]["why"] == "so"


def test_a_tag_that_the_stop_string_closed_counts(run_stage: Run) -> None:
    given = [
        {**row, "finish_reason": reason}
        for row, reason in zip(rows("<ans>7", "<ans>7"), ("stop", "length"), strict=True)
    ]
    run = run_stage(stage(tags={"answer": "ans"}), {"rows": given})
    assert [(row["id"], row["answer"]) for row in run.rows] == [("r0", "7")]


def test_json_as_models_write_it(run_stage: Run) -> None:
    texts = (r'{"q": "a", "answer": "\frac{1}{2}"}', '{"q": "a\nb", "answer": 1e3,}')
    run = run_stage(stage(json_keys={"q": "q", "answer": "answer"}), {"rows": rows(*texts)})
    assert [row["answer"] for row in run.rows] == [r"\frac{1}{2}", "1e3"]


def test_another_question_does_not_have_the_answer_of_the_one_before(run_stage: Run) -> None:
    seed = {
        "id": "a-0", "parent_id": "a", "task": "sums", "question": "1 + 1?", "level": "easy",
        "reference_answer": "2", "skills": ["addition"], "completion": "<q>3 * 4?</q>",
        "seed_level": "of before",
    }  # fmt: skip
    run = run_stage(stage(tags={"question": "q"}), {"rows": [seed]})
    assert run.rows == [{
        "id": "a-0", "parent_id": "a", "task": "sums", "completion": "<q>3 * 4?</q>",
        "question": "3 * 4?", "error": None, "seed_question": "1 + 1?", "seed_level": "easy",
        "seed_reference_answer": "2", "seed_skills": ["addition"],
    }]  # fmt: skip
    assert set(run.features) == set(run.rows[0])
    settings = stage(tags={"question": "q", "level": "l"}, drop_columns=["skills"], required=[])
    given = {"rows": frozenset(seed)}
    assert settings.output_columns(given) == {*run.rows[0], "level"} - {"seed_skills"}
    assert set(run_stage(settings, {"rows": [seed]}).rows[0]) == settings.output_columns(given)


def test_a_question_is_the_same_if_it_is_read_out_of_itself_or_there_was_none(
    run_stage: Run,
) -> None:
    row = {"id": "a", "question": "<q>1 + 1?</q>", "reference_answer": "2"}
    own = run_stage(stage(column="question", tags={"question": "q"}), {"rows": [row]})
    assert own.rows == [{**row, "question": "1 + 1?", "error": None}]
    first = {"id": "a", "topic": "sums", "completion": "<q>1 + 1?</q>"}
    made = run_stage(stage(tags={"question": "q"}), {"rows": [first]})
    assert made.rows == [{**first, "question": "1 + 1?", "error": None}]
