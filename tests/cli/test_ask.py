"""The models of a finished run answer, and are asked as the run asked them."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import load_from_disk

from llm_distill.cli.answerer import Answerer
from llm_distill.cli.questions import with_questions
from llm_distill.runtime.finished import open_run
from llm_distill.runtime.prompt_form import form_of

pytestmark = pytest.mark.slow


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("shots", [0, 1])
def test_rows_of_the_exam_are_answered_as_in_the_exam(at_run, finished, tmp_path, shots):
    (items,) = (finished / "artifacts").glob("items-*")
    (exam,) = (finished / "artifacts").glob("exam-*")
    load_from_disk(str(items)).to_json(str(tmp_path / "items.jsonl"))
    out = tmp_path / "answers.jsonl"
    asked = "--file", tmp_path / "items.jsonl", "--out", out, "--shots", shots
    said = at_run("ask", "made", *asked, "--beside", "student")
    assert said.code == 0, said.err
    assert f"12 answers in {out}" in said.err.replace("\n", "")
    expected = {
        (row["parent_id"], row["model"]): (row["prompt"], row["completion"])
        for row in load_from_disk(str(exam))
        if row["shots"] == shots
    }
    found = lines(out.read_text())
    assert {(r["id"], r["model"]): (r["prompt"], r["completion"]) for r in found} == expected
    assert all(row["error"] is None and row["reference_answer"] for row in found)
    again = at_run("ask", "made", *asked)
    assert (again.code, "add --force" in again.err) == (5, True)
    assert lines(out.read_text()) == found


def test_a_run_says_how_its_student_is_asked(at_run, finished, tmp_path, monkeypatch):
    shutil.copytree(finished.parent, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    said = at_run("run", "made.yaml")
    assert said.code == 0, said.err
    newest = max(each.name for each in Path("data/runs/made").iterdir())
    assert f"ask the student: llm-distill ask made/{newest}" in said.out.splitlines()
    until = at_run("run", "made.yaml", "--until", "answers").out
    assert "done: made/" in until
    assert "ask the student" not in until


def test_a_question_of_a_text_with_the_choice_of_the_model_said(at_run):
    said = at_run("ask", "made", "-q", "What is 2 + 2?")
    assert said.code == 0, said.err
    assert "tuned (the last trained model that exam 'exam' names)" in said.err
    assert "as exam 'exam' asks (arte/exam.jinja)" in said.err
    assert said.out.strip()
    beside = ("--beside", "writer", "--beside", "student")
    several = at_run("ask", "made", "tuned", "-q", "What is 2 + 2?", *beside)
    assert several.code == 0, several.err
    assert several.out.splitlines()[0].split() == ["tuned", "writer", "student"]
    assert "It is 4. <ans>4</ans>" in several.out
    assert "writer: as stage 'answers' asks (arte/rationale_bare.jinja)" in several.err


def test_a_run_may_be_named_by_its_folder_where_its_data_is_not(
    at_run, finished, tmp_path, monkeypatch
):
    (folder,) = (finished / "runs/made").iterdir()
    monkeypatch.chdir(tmp_path)
    by_folder = at_run("path", folder, "tuned").out
    asked = at_run("ask", folder, "tuned", "-q", "What is 1 + 1?", "--max-tokens", "3")
    assert (asked.code, bool(asked.out.strip())) == (0, True), asked.err
    assert by_folder == at_run("path", "made", "tuned", "--workspace", finished).out
    assert (Path(by_folder.strip()) / "adapter_config.json").is_file()


def test_a_chat_remembers_what_was_said_until_it_is_told_to_forget(at_run, monkeypatch, finished):
    prompts = []
    asked = Answerer._request

    def noted(self, *arguments):
        request = asked(self, *arguments)
        prompts.append([turn["role"] for turn in request.prompt])
        return request

    monkeypatch.setattr(Answerer, "_request", noted)
    monkeypatch.setattr(
        "sys.stdin", io.StringIO("2 + 2?\n\nAnd 3 + 3?\n/help\n/nwe\n/new\n1 + 1?\n/quit\nx\n")
    )
    said = at_run("ask", "made", "again", "--max-tokens", "4")
    assert said.code == 0, said.err
    first = ["system", "user"]
    assert prompts == [first, [*first, "assistant", "user"], first]
    assert len(said.out.strip().splitlines()) >= 3
    assert "/new forgets what was said" in said.err
    assert "no command /nwe" in said.err
    assert "forgotten" in said.err


def test_the_system_message_of_a_training_is_the_one_of_all_its_rows(finished):
    run = open_run("made", finished, print)
    form = form_of(run, "again", None)
    assert form.system == "You count."
    answerer = Answerer(run, "again", form, system="You shout.")
    assert answerer.form.system == "You shout."
    assert len(answerer.source.adapters) == 1
    assert answerer.source.path == str(run.artifact("spoken").path)


def test_raw_is_the_text_as_typed(at_run, tmp_path):
    (tmp_path / "asked.txt").write_text("One, two\n\nthree\n")
    said = at_run("ask", "made", "--raw", "--file", tmp_path / "asked.txt", "--max-tokens", 3)
    assert [row["prompt"] for row in lines(said.out)] == ["One, two", "three"]


def test_rows_without_a_question_have_an_error_and_the_others_an_answer(at_run, tmp_path):
    (tmp_path / "rows.csv").write_text("id,question\na,What is 1 + 1?\nb,\n")
    said = at_run("ask", "made", "--file", tmp_path / "rows.csv", "--max-tokens", 3)
    good, bad = lines(said.out)
    assert good["error"] is None
    assert good["completion"] is not None
    assert bad["completion"] is None
    assert "a row has one of question, question" not in bad["error"]
    assert "1 row without an answer: see `error`; the first, b: no question" in said.err


@pytest.mark.parametrize(
    ("table", "options", "says"),
    [
        ("id,Frage,Punkte\na,What is 1 + 1?,2\n", (), "column 'Frage' (the only one of text)"),
        ("id,Frage,question\na,What is 1 + 1?,no\n", ("--question", "Frage"), ""),
    ],
)
def test_questions_may_be_in_a_column_of_another_name(at_run, tmp_path, table, options, says):
    (tmp_path / "rows.csv").write_text(table)
    said = at_run("ask", "made", "--file", tmp_path / "rows.csv", "--max-tokens", 3, *options)
    assert said.code == 0, said.err
    assert says in said.err.replace("\n", " ")
    [row] = lines(said.out)
    assert "What is 1 + 1?" in row["prompt"]
    assert row["completion"] is not None


def test_what_the_run_read_as_its_questions_are_the_questions(finished):
    run = open_run("made", finished, print)
    load = run.pipeline.stages["items"].model_copy(update={"columns": {"question": "Frage"}})
    stages = {**run.pipeline.stages, "items": load}
    pipeline = replace(run.pipeline, stages=stages)
    answerer = Answerer(run, "tuned", form_of(run, "tuned", None))
    rows, told = [{"Frage": "1 + 1?", "Antwort": "two"}], []
    [row] = with_questions(rows, None, [answerer], pipeline, told.append)
    assert row["question"] == "1 + 1?"
    assert "as stage 'items' reads it" in told[0]


def test_a_file_none_of_whose_rows_can_be_asked_is_one_message(at_run, tmp_path):
    (tmp_path / "rows.csv").write_text("Frage,Loesung,id\nWhat is it?,A thing,a\n")
    asked = ("ask", "made", "--file", tmp_path / "rows.csv", "--out", tmp_path / "out.jsonl")
    said = at_run(*asked)
    assert said.code == 3
    assert "--question COLUMN" in said.err
    assert "columns: Frage, Loesung, id" in said.err
    assert not (tmp_path / "out.jsonl").exists()
    said = at_run(*asked, "--question", "Frge")
    assert (said.code, "did you mean 'Frage'" in said.err) == (2, True)


def test_several_questions_are_shown_with_their_answers(at_run):
    said = at_run("ask", "made", "-q", "1 + 1?", "-q", "[2] + 2?", "--max-tokens", 3)
    assert [line for line in said.out.splitlines() if line[:2] == "> "] == [
        "> 1 + 1?",
        "> [2] + 2?",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("items", "-q", "x"), 2, "gives rows, not a model"),
        (("tund", "-q", "x"), 5, "did you mean 'tuned'"),
        (("-q", " "), 2, "the question is empty"),
        (("--question", "What?"), 2, "to ask a question: -q TEXT"),
        (("-q", "x", "--file", "y"), 2, "exclude each other"),
        (("--out", "x"), 2, "nothing to write of a chat"),
        (("--file", "none.jsonl"), 3, "there is no file none.jsonl"),
        (("--file", "made.yaml"), 3, "unknown kind of file"),
        (("--system", "You.", "-q", "x"), 2, "has prompt_format: text"),
        (("spoken", "--shots", "1", "-q", "x"), 2, "shows worked examples to 'spoken'"),
    ],
)
def test_what_cannot_be_asked_is_one_message(at_run, arguments, code, says):
    said = at_run("ask", "made", *arguments)
    assert (said.code, says in said.err) == (code, True), said.err
