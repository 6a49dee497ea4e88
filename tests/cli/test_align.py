"""`llm-distill align`: what a person sees, and what it says of a mistake."""

from __future__ import annotations

import json
import shutil

import pytest
from rich.console import Console

import llm_distill.cli.align
from llm_distill.cli.align import _visible, align_command
from tests.distillation.encoders import MODELS, byte_level

TEACHER, STUDENT = str(MODELS / "tiny-teacher"), str(MODELS / "tiny-student")


@pytest.fixture
def rows(tmp_path):
    def write(*rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def tokenizer_dir(tmp_path):
    """Only a tokenizer, without weights, config and chat template."""

    def save(name, **settings):
        byte_level(**settings).save_pretrained(tmp_path / name)
        return tmp_path / name

    return save


def test_both_tokenizations_stand_one_under_the_other(cli, rows):
    file = rows({"prompt": "What is 3 + 4?", "completion": "3 + 4 = 7. Ann has 17."})
    said = cli("align", TEACHER, STUDENT, file, "--student-format", "text")
    assert said.code == 0, said.err
    assert "  teacher 3 |␣+|␣4|␣=|␣7|.|␣Ann |␣has|␣17 |.|<|end|>|\n" in said.out
    assert "  student ␣3|␣+|␣4|␣=|␣7|.|␣A nn|␣has|␣1 7|.|<|end|>|\n" in said.out
    assert "\x1b" not in said.out
    figures = [line.split() for line in said.out.splitlines()]
    assert ["tokens", "in", "the", "loss", "11", "13"] in figures
    assert ["tokens", "a", "chunk", "1.00", "1.18"] in figures
    assert ["chunks", "11"] in figures
    assert ["of", "them", "ends", "of", "turns", "1"] in figures
    assert ["bytes", "in", "chunks", "22"] in figures


def test_colours_alternate_on_a_terminal(monkeypatch, capsys, tmp_path):
    (tmp_path / "text.txt").write_text("has 3 4", encoding="utf-8")
    terminal = Console(force_terminal=True, color_system="standard", width=80, highlight=False)
    monkeypatch.setattr(llm_distill.cli.align, "console", lambda: terminal)
    with capsys.disabled(), terminal.capture() as captured:
        align_command((TEACHER, STUDENT), (None, None), str(tmp_path / "text.txt"), 1)
    line = next(line for line in captured.get().splitlines() if "teacher" in line)
    colours = [part.split("m")[0] for part in line.split("\x1b[") if part[:1] == "3"]
    assert colours == ["37;41", "30;106", "30;103"]  # nothing predicts the first token


def test_long_texts_are_broken_between_chunks(monkeypatch, tmp_path):
    (tmp_path / "text.txt").write_text("1 2 3 4 5 6 7 8 9 " * 20, encoding="utf-8")
    terminal = Console(force_terminal=True, color_system=None, width=60, highlight=False)
    monkeypatch.setattr(llm_distill.cli.align, "console", lambda: terminal)
    with terminal.capture() as captured:
        align_command((TEACHER, STUDENT), (None, None), str(tmp_path / "text.txt"), 1)
    lines = [line for line in captured.get().splitlines() if line.startswith("  teacher")]
    assert len(lines) > 5
    assert all(len(line) <= 60 for line in lines)


def test_only_the_first_rows_are_shown_and_bad_ones_counted(cli, rows):
    talk = [{"role": role, "content": role} for role in ("user", "assistant") * 2]
    good = {"messages": talk}
    said = cli("align", TEACHER, STUDENT, rows(good, {"text": " "}, good, good), "--rows", 3)
    assert said.out.count("\n  teacher ") == 4
    assert "rows.jsonl:2\n  dropped: empty text\n" in said.out
    assert "rows.jsonl:4" not in said.out
    assert "dropped 1 of 3 rows (empty text: 1)" in said.out


def test_what_is_in_no_chunk_is_explained(cli, tmp_path):
    (tmp_path / "text.txt").write_text("has 3", encoding="utf-8")
    said = cli("align", TEACHER, TEACHER, tmp_path / "text.txt")
    assert "  teacher (h)|as|␣3|\n" in said.out
    assert "1 byte in no chunk: of a first token, which nothing predicts" in said.out


def test_a_tokenizer_needs_no_model_beside_it(cli, tokenizer_dir, tmp_path):
    (tmp_path / "text.txt").write_text("abab", encoding="utf-8")
    said = cli("align", tokenizer_dir("a"), STUDENT, tmp_path / "text.txt")
    assert said.code == 0, said.err
    said = cli(
        "align", tokenizer_dir("a"), STUDENT, tmp_path / "text.txt", "--teacher-format", "chat"
    )
    assert said.code == 4
    assert "the teacher's tokenizer" in said.err
    assert "has no chat template" in said.err


def test_tokenizers_that_disagree_say_where(cli, tokenizer_dir, tmp_path):
    from tokenizers import normalizers

    (tmp_path / "text.txt").write_text("a cafe\u0301", encoding="utf-8")
    composes = tokenizer_dir("composes", normalizer=normalizers.NFC())
    said = cli("align", composes, STUDENT, tmp_path / "text.txt")
    assert said.code == 3
    assert "after byte 5 teacher: é, student: e\u0301" in said.out.replace("\\u0301", "\u0301")
    assert said.err == (
        f"error: nothing in {tmp_path / 'text.txt'} can be aligned "
        "(texts differ after normalisation: 1)\n"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.txt", None, "there is no file"),
        ("text.txt", b" \n", "is empty"),
        ("rows.jsonl", b"\n", "is empty"),
        ("text.txt", b"a\nb\xff", "text.txt:2: not UTF-8"),
        ("rows.jsonl", b'{"text": "a"}\n"b\xff"', "rows.jsonl:2: not UTF-8"),
        ("rows.jsonl", b'{"question": "a", "id": "b"}', "rows.jsonl:1: a row has prompt and"),
        ("rows.jsonl", b"[1]", "rows.jsonl:1: a row is an object"),
        ("rows.jsonl", b'{"text": "a"', "rows.jsonl:1: not JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_message(cli, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    said = cli("align", TEACHER, STUDENT, tmp_path / name)
    assert said.code == 3
    assert said.err.startswith("error: ")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert (said.out + said.err).count(str(tmp_path / name)) == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": "hello"}, "messages holds text, not messages (text_column reads text)"),
        ({"text": 5}, "text holds int, not text"),
        ({"text": ["a b"]}, "text holds a list, not text (messages_column reads messages)"),
    ],
)
def test_a_row_that_holds_something_else_is_refused(cli, rows, row, reason):
    said = cli("align", TEACHER, STUDENT, rows(row))
    assert said.code == 3
    assert f"rows.jsonl:1\n  dropped: {reason}\n" in said.out
    assert said.err.endswith(f"can be aligned ({reason}: 1)\n")


def test_a_directory_without_a_tokenizer_says_so(cli, rows):
    data = MODELS.parent / "word_problems"
    said = cli("align", TEACHER, data, rows({"text": "a b"}))
    assert said.code == 4
    assert f"{data} has no tokenizer: expected one of tokenizer.json, " in said.err
    assert "Couldn't" not in said.err


def test_a_model_that_is_not_there_is_one_message(cli, rows, tmp_path):
    said = cli("align", TEACHER, "nobody/nothing", rows({"text": "a b"}))
    assert said.code == 4
    assert "model 'student': 'nobody/nothing' is not a directory" in said.err
    shutil.copytree(TEACHER, tmp_path / "broken")
    (tmp_path / "broken" / "tokenizer.json").write_text("{")
    said = cli("align", tmp_path / "broken", STUDENT, rows({"text": "a b"}))
    assert said.code == 4
    assert "model 'teacher': no tokenizer at" in said.err


def test_what_does_not_print_is_shown_by_its_code():
    assert _visible(b" a\n\r\t") == "␣a⏎␍⇥"
    assert _visible("\x1b[31m\u200d日".encode()) == "\\x1b[31m\\u200d日"
    assert _visible(b"\xe6\x97") == "\\xe6\\x97"
