"""Which columns are questions and answers, and of what kind answers are, as people have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llm_distill.errors import ConfigError, DataError
from llm_distill.starter.columns import guess, numbered_from
from llm_distill.starter.data import divided, read_data
from llm_distill.starter.kinds import Answers, kind_of, labels_of

N = 20


def read(folder: Path, rows: list[dict[str, Any]], **given: Any) -> Any:
    file = folder / "own.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    defaults = {"config": None, "split": "train", "question": None, "answer": None, "kind": None}
    return read_data(str(file), **{**defaults, **given})


@pytest.mark.parametrize(
    ("row", "question", "answer"),
    [
        ({"id": 1, "question": "q", "answer": "a"}, ("question",), "answer"),
        ({"Problem": "q", "Solution": "long", "Answer": "4"}, ("Problem",), "Answer"),
        ({"nr": 3, "problem": "q", "solution": "4"}, ("problem",), "solution"),
        ({"instruction": "i", "input": "x", "output": "o"}, ("instruction", "input"), "output"),
        (
            {"context": "c", "question": "q", "answers": {"text": ["a"]}},
            ("context", "question"),
            "answers",
        ),
        ({"text": "t", "label": 1}, ("text",), "label"),
        ({"question_text": "q", "the_answer": "a"}, ("question_text",), "the_answer"),
        ({"frage": "q", "antwort": "a"}, ("frage",), "antwort"),
        ({"prompt": "q"}, ("prompt",), None),
        ({"sprache": "q"}, ("sprache",), None),
        ({"input": "q", "target": "t", "task": "sums"}, ("input",), "target"),
    ],
)  # fmt: skip
def test_guessed_by_name_or_by_shape(
    row: dict[str, Any], question: tuple[str, ...], answer: str | None
) -> None:
    found = guess([row] * 3, None, None)
    assert (found.question, found.answer, found.choices) == (question, answer, ())


def test_what_the_user_says_wins_and_what_is_not_there_is_said() -> None:
    rows = [{"a": "x", "b": "y", "c": "z", "answer": "4"}]
    with pytest.raises(ConfigError, match="Say --question COLUMN; it has a, b, c"):
        guess([{"a": "x", "b": "y", "c": "z"}], None, None)
    found = guess(rows, "c,b", "")
    assert (found.question, found.answer) == (("c", "b"), None)
    with pytest.raises(ConfigError, match="--answer: no column 'answr'; did you mean 'answer'"):
        guess(rows, "b", "answr")


@pytest.mark.parametrize(
    ("more", "answer"),
    [
        ({"choices": ["red", "blue"], "answer": 1}, "B"),
        ({"choices": ["red", "blue"], "answer": "Blue"}, "B"),
        ({"choices": {"label": ["A", "B"], "text": ["red", "blue"]}, "answerKey": "B"}, "B"),
        ({"A": "red", "B": "blue", "answer": "B"}, "B"),
        ({"option_1": "red", "option_2": "blue", "label": "2"}, "B"),
        ({"ending0": "red", "ending1": "blue", "label": "1"}, "B"),
    ],
)
def test_choices_become_a_part_of_the_question(
    more: dict[str, Any], answer: str, tmp_path: Path
) -> None:
    others = {"label": "1" if "option_1" in more else "0"} if "label" in more else {}
    first = {**more, **others, **({"answer": 0} if more.get("answer") == 1 else {})}
    rows = [{"question": f"Which colour has sky {i}?", **(more if i else first)} for i in range(N)]
    data = read(tmp_path, rows)
    assert data.items[1].question == "Which colour has sky 1?\n\nA) red\nB) blue"
    assert data.items[1].answer == answer
    assert data.kind is Answers.CHOICE


def test_choices_by_number_are_counted_from_what_the_answers_show() -> None:
    assert numbered_from(["0", "3", ""], 4) == 0
    assert numbered_from(["1", "4"], 4) == 1
    assert numbered_from(["1", "2"], 4) == 1
    assert numbered_from(["A", "2"], 4) is None
    assert numbered_from(["0", "4"], 4) is None


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (["72", "1,000", "$5", "3 pens", "50%"], Answers.NUMBER),
        ([r"\frac{1}{2}", "3", "4", "x^2 + 1", "7"], Answers.NUMBER),
        (["7", "12", "Monday", "3"], Answers.NUMBER),
        (["A", "b", "(C)", "D."], Answers.CHOICE),
        (["Paris", "New York", "the red one"], Answers.TEXT),
        (["It depends on where one lives, and on what one likes."], Answers.FREE),
        ([], Answers.FREE),
    ],
)  # fmt: skip
def test_kinds_of_answers(answers: list[str], kind: Answers) -> None:
    assert kind_of(answers * 4, False) is kind


def test_labels_are_few_and_frequent() -> None:
    assert labels_of(["good"] * 5 + ["bad"] * 4, Answers.TEXT) == ["good", "bad"]
    assert labels_of(["Paris", "Rome", "Oslo"] * 2, Answers.TEXT) == []
    assert labels_of(["1", "2"] * 9, Answers.NUMBER) == []


def test_solutions_are_cut_down_to_the_answer_that_they_mark(tmp_path: Path) -> None:
    rows = [{"question": f"{i}?", "answer": f"{i} + 1 = {i + 1}.\n#### {i + 1}"} for i in range(N)]
    data = read(tmp_path, rows)
    assert (data.items[3].answer, data.kind) == ("4", Answers.NUMBER)


def test_conversations_of_one_question(tmp_path: Path) -> None:
    def chat(i: int) -> list[dict[str, str]]:
        return [{"from": "human", "value": f"{i}?"}, {"from": "gpt", "value": f"{i}"}]

    data = read(tmp_path, [{"conversations": chat(i)} for i in range(N)])
    assert (data.items[2].question, data.items[2].answer) == ("2?", "2")
    with pytest.raises(DataError, match=r"own.jsonl:1: a conversation of 4 turns"):
        read(tmp_path, [{"conversations": chat(1) + chat(2)}])


def test_rows_that_cannot_be_used_are_counted_and_parts_do_not_overlap(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"question": f"{i}?", "answer": i} for i in range(N)]
    rows += [{"question": "3?", "answer": 3}, {"question": None, "answer": 3}, {"question": "x?"}]
    data = read(tmp_path, rows)
    assert data.left_out == {
        "a question that is there already": 1, "no question": 1, "no answer": 1,
    }  # fmt: skip
    parts = divided(data, {"train": 15, "test": 5}, 7)
    assert [len(part) for part in parts.values()] == [15, 5]
    assert not {i.question for i in parts["train"]} & {i.question for i in parts["test"]}
    assert divided(data, {"train": 15, "test": 5}, 8) != parts
    with pytest.raises(DataError, match="has 9 rows with a question and an answer; 10 are"):
        read(tmp_path, rows[:9])


def test_labels_are_spread_evenly(tmp_path: Path) -> None:
    rows = [{"text": f"t {i}", "label": "rare" if i % 5 == 0 else "usual"} for i in range(50)]
    test = divided(read(tmp_path, rows), {"train": 40, "test": 10}, 7)["test"]
    assert sum(item.answer == "rare" for item in test) == 2
