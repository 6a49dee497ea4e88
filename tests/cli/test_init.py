"""`init` as a person meets it: questions, messages, and pipelines that run as they stand."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from llm_distill.paths import bundled_root
from tests.cli.test_cli import CLI, llm_distill
from tests.engines.loopback import MODELS, Call, Loopback, answer_to

TASK = ("--task", "Solve the word problem.")
OPTIONS = ("--data", "my.csv", "--student", "data/models/tiny-student", "--student-format", "text")
LOCAL = (*OPTIONS, "--teacher", "data/models/tiny-teacher", *TASK)
N_ROWS = 40


def problems() -> list[dict[str, str]]:
    lines = (bundled_root() / "data/word_problems/train.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[:N_ROWS]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("http_proxy", "HTTP_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with (tmp_path / "my.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["nr", "problem", "solution"])
        table.writerows((i, r["question"], r["reference_answer"]) for i, r in enumerate(problems()))
    return tmp_path


@pytest.fixture
def server() -> Iterator[Loopback]:
    server = Loopback()
    yield server
    server.close()


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ran(file: str, folder: Path) -> str:
    """What a run says; it may take minutes on a machine that has other work."""
    done = subprocess.run(
        [*CLI, "run", file], cwd=folder, capture_output=True, text=True, timeout=1800
    )
    return succeeded(done)


def test_without_a_terminal_nothing_is_asked(folder: Path) -> None:
    done = llm_distill("init", "--data", "my.csv", cwd=folder)
    assert done.returncode == 2
    assert "error: missing: --teacher MODEL|URL, --student MODEL; without a" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["my.csv"]
    listed = succeeded(llm_distill("init", "--list", cwd=folder))
    assert re.search(r"^ *arte +the teacher is aligned", listed, re.MULTILINE)
    assert re.search(r"pipelines/alm.yaml +ALM: the student learns", listed)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((*LOCAL, "--question", "problm"), 2, "--question: no column 'problm'; did you mean"),
        ((*LOCAL, "--method", "arte", "--answer", ""), 2, "arte needs right answers"),
        ((*LOCAL, "--test", "1"), 2, "--test 1: a share"),
        ((*LOCAL, "--test", "1.5"), 2, "--test 1.5: a share of the rows, above 0 and below 1"),
        ((*LOCAL, "--data", "my.cvs"), 3, "no file or directory 'my.cvs'; did you mean 'my.csv'?"),
        ((*LOCAL, "--student", "data/tiny-stud"), 2, "data/tiny-stud is neither a directory nor"),
        ((*LOCAL, "--teacher", "127.0.0.1:1/v1"), 2, "write http://127.0.0.1:1/v1"),
        ((*LOCAL, "--teacher", "gpu-box:8000"), 2, "write http://gpu-box:8000"),
        ((*LOCAL, "--data", "your.csv"), 3, "no file or directory 'your.csv'"),
        ((*LOCAL, "--student", "data/models/tiny-stud"), 2, "--student data/models/tiny-stud: no"),
        ((*LOCAL, "--teacher-model", "x"), 2, "--teacher-model goes with a server's address"),
        ((*LOCAL, "--teacher", "http://me:word@host/v1"), 2, "base_url: expected an address"),
        ((*LOCAL, "--student", "http://host/v1"), 2, "a server gives no weights to train"),
        ((*LOCAL, "--task", "hf_abcdefGHIJKLmnop1234567890"), 2, "looks like a secret"),
        ((*LOCAL, "a b"), 2, "'a b': a folder's name names the runs"),
        ((*LOCAL, "arte", "--method", "arte"), 2, "its file would extend itself"),
    ],
)
def test_a_mistake_is_one_message(
    arguments: tuple[str, ...], code: int, message: str, folder: Path
) -> None:
    done = llm_distill("init", *arguments, cwd=folder)
    assert message in done.stderr
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert [path.name for path in folder.iterdir()] == ["my.csv"]


def test_a_server_is_asked_for_its_models(folder: Path, server: Loopback) -> None:
    address = server.url.removesuffix("/v1")
    given = (*OPTIONS, "--teacher", address)
    several = llm_distill("init", *given, cwd=folder)
    assert several.returncode == 2
    assert f"{server.url} has 2 models; say which: --teacher-model NAME" in several.stderr
    wrong = llm_distill("init", *given, "--teacher-model", "serve-model", cwd=folder)
    assert "did you mean 'served-model'?" in wrong.stderr
    succeeded(llm_distill("init", *given, "--teacher-model", MODELS[0], cwd=folder))
    assert f'base_url: "{server.url}"' in (folder / "my_sft" / "my_sft.yaml").read_text()
    gone = (*given, "--teacher", "http://127.0.0.1:9/v1", "--force")
    done = llm_distill("init", *gone, cwd=folder)
    assert done.returncode == 4
    assert "cannot be reached" in done.stderr
    assert "start the server, or say --teacher-model NAME" in done.stderr
    anyway = succeeded(llm_distill("init", *gone, "--teacher-model", "any", cwd=folder))
    assert "whether it has 'any' is not known" in anyway


def test_a_student_that_is_not_there(folder: Path) -> None:
    made = folder / "models" / "SmolLM2-135M-Instruct"
    shutil.copytree(bundled_root() / "data/models/tiny-student", made)
    slip = llm_distill("init", *LOCAL, "--student", "models/SmolLM2-135M", cwd=folder)
    assert (slip.returncode, "did you mean 'models/SmolLM2-135M-Instruct'?" in slip.stderr) == (
        2,
        True,
    )
    told = succeeded(llm_distill("init", *LOCAL, "--student", "nosuch/nomodel", cwd=folder))
    assert "whether there is a model nosuch/nomodel is not known" in told


def in_a_terminal(folder: Path, *arguments: str, said: str) -> tuple[int, str]:
    """The exit code of `init`, and what it shows to a person who types this."""
    here, there = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": "100"}
    process = subprocess.Popen(
        [*CLI, "init", *arguments],
        cwd=folder,
        env=environment,
        stdin=there,
        stdout=there,
        stderr=there,
    )
    os.close(there)
    os.write(here, said.encode())
    shown = b""
    while True:
        try:
            piece = os.read(here, 10_000)
        except OSError:  # the other end is closed
            break
        shown += piece
    os.close(here)
    return process.wait(60), shown.decode()


def test_what_has_a_default_is_not_asked_after_the_rest_is_given(folder: Path) -> None:
    code, text = in_a_terminal(folder, *LOCAL[:-2], said="")
    assert (code, "what prompts open with" in text, "the method" in text) == (0, False, False), text
    assert (folder / "my_sft" / "my_sft.yaml").is_file()


def test_only_methods_that_can_be_are_offered_and_control_d_ends_with_a_word(
    folder: Path, server: Loopback
) -> None:
    given = ("--data", "my.csv", "--teacher", server.url, "--teacher-model", MODELS[0])
    code, text = in_a_terminal(folder, *given, said="data/models/tiny-student\n\x04")
    assert "the method: sft, stat [sft]" in text
    assert (code, "stopped: nothing has been written" in text) == (130, True), text
    assert [path.name for path in folder.iterdir()] == ["my.csv"]


def test_what_is_not_given_is_asked_in_a_terminal(folder: Path) -> None:
    said = (
        "your.csv",
        "my.csv",
        "data/models/tiny-teacher",
        "data/models/tiny-student",
        "",
        "",
        "",
    )
    lines = "".join(f"{line}\n" for line in said)
    code, text = in_a_terminal(folder, "--student-format", "text", said=lines)
    assert code == 0, text
    assert "no file or directory 'your.csv'" in text  # and is asked again
    assert "the method: sft, arte, stat, alm [sft]" in text
    assert "column 'problem'" in text
    assert (folder / "my_sft" / "my_sft.yaml").is_file()


def answer_of(prompt: str) -> str:
    row = next(row for row in problems() if row["question"] in prompt)
    return row["reference_answer"]


@pytest.mark.slow
@pytest.mark.parametrize("with_answers", [True, pytest.param(False, marks=pytest.mark.exhaustive)])
def test_a_servers_right_answers_are_what_the_student_learns(
    with_answers: bool, folder: Path, server: Loopback
) -> None:
    async def answer(call: Call) -> web.StreamResponse:
        said = "none" if "Ben" in call.prompt else answer_of(call.prompt)
        return web.json_response(answer_to(call, f"It follows. <ans>{said}</ans>"))

    server.answer = answer
    more = () if with_answers else ("--answer", "", "--answers", "number")
    given = (*OPTIONS, "--teacher", server.url, "--teacher-model", MODELS[0], *more)
    told = succeeded(llm_distill("init", "own", *given, *TASK, cwd=folder))
    assert ("nothing checks the teacher's" in told) is not with_answers
    said = ran("own/own.yaml", folder)
    assert any("Ben" in row["question"] for row in problems())
    assert ("(wrong answer: " in said) is with_answers
    assert re.search(r"taught − student +0 ", said)
    assert len(server.calls) == (32 if with_answers else 40)
    assert all(call.body["model"] == MODELS[0] for call in server.calls)


@pytest.mark.slow
def test_free_text_is_graded(folder: Path, server: Loopback) -> None:
    async def answer(call: Call) -> web.StreamResponse:
        graded = "Grade an answer" in call.prompt
        text = "It is fair. <grade>6</grade>" if graded else "One would say that it depends."
        return web.json_response(answer_to(call, text))

    server.answer = answer
    given = (*OPTIONS, "--teacher", server.url, "--teacher-model", MODELS[0], "--answer", "")
    succeeded(llm_distill("init", "own", *given, cwd=folder))
    said = ran("own/own.yaml", folder)
    assert "taught: Held-out rows before and after" in said
    assert "grades_after: mean grade, 1 to 10" in said
    assert re.search(r"^ +after +6\b", said, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["sft", "stat", "alm", pytest.param("arte", marks=pytest.mark.exhaustive)]
)
def test_every_method_runs_as_it_stands_on_forty_rows(method: str, folder: Path) -> None:
    kind = "-stat" if method == "stat" else ""
    models = [f"--{each}=data/models/tiny{kind}-{each}" for each in ("teacher", "student")]
    given = (*LOCAL, *models, "--method", method)
    succeeded(llm_distill("init", *given, cwd=folder))
    assert "✓ exam: " in ran(f"my_{method}/my_{method}.yaml", folder)
