"""The files of a start are short, valid, and never written over others unasked."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from llm_distill.errors import ConfigError
from llm_distill.pipeline.load import load_pipeline
from llm_distill.pipeline.yaml_file import read_yaml
from llm_distill.starter.columns import Columns
from llm_distill.starter.data import Data, Item, divided
from llm_distill.starter.kinds import Answers
from llm_distill.starter.methods import Method, why_not
from llm_distill.starter.models import Local, Served
from llm_distill.starter.write import Start, files_of, write

TINY = Local("data/models/tiny-teacher", True, 900_000)
REAL = Local("org/model-7b", True, 7_000_000_000)
SERVED = Served("some model: 1", "http://localhost:8000/v1", "MY_KEY")


def start(
    folder: Path, method: Method, teacher: Any = TINY, kind: Answers = Answers.NUMBER, n: int = 40,
    has_answers: bool = True, student: Local = TINY, prompt_format: str = "text",
) -> Start:  # fmt: skip
    items = [Item(f"row-{i}", f"{i} + 1?", str(i + 1) if has_answers else None) for i in range(n)]
    data = Data("my.csv", items, Columns(("q",), "a"), kind, [], {})
    parts = divided(data, method.sizes(n, 0.2), 7)
    task = 'Say "it": \\ # {x}\nin German, ä.'
    return Start(folder, method, data, parts, teacher, student, prompt_format, task, 7)


ALL = [
    each
    for each in product(Method, (TINY, REAL, SERVED), Answers, (True, False))
    if each[0] is Method.SFT
    or (each[3] and each[2] is not Answers.FREE and not (each[1] is SERVED and each[0] != "stat"))
]


@pytest.mark.parametrize(("method", "teacher", "kind", "has_answers"), ALL)
def test_every_start_is_short_and_valid(
    method: Method, teacher: Any, kind: Answers, has_answers: bool, tmp_path: Path
) -> None:
    student, form = (TINY, "text") if teacher is TINY else (REAL, "chat")
    wanted = start(
        tmp_path / "a b" / "own", method, teacher, kind, has_answers=has_answers,
        student=student, prompt_format=form,
    )  # fmt: skip
    assert why_not(method, wanted.data, teacher) is None
    files = files_of(wanted)
    write(files, wanted.folder, force=False)
    text = files[wanted.file]
    assert text.count("\n") <= 25
    assert max(map(len, text.replace(str(tmp_path), "").splitlines())) <= 175
    pipeline = load_pipeline(str(wanted.file))
    assert pipeline.name == "own"
    exam: Any = pipeline.stages.get("exam")
    if kind is not Answers.FREE:
        assert (exam.answer_kind, exam.answer_in) == (kind.compared_as, "any")
    checked = [s.verify for s in pipeline.stages.values() if getattr(s, "verify", None)]
    assert {each.kind for each in checked} <= {kind.compared_as}
    schema = json.loads(files[wanted.folder / "schema.json"])
    values = json.loads(json.dumps(read_yaml(wanted.file)[0]))
    assert [e.message for e in jsonschema.Draft7Validator(schema).iter_errors(values)] == []


@pytest.mark.parametrize(
    ("method", "teacher", "kind", "has_answers", "n", "message"),
    [
        (Method.ARTE, SERVED, Answers.NUMBER, True, 40, "arte trains the teacher"),
        (Method.ALM, SERVED, Answers.NUMBER, True, 40, "likelihood of every token"),
        (Method.STAT, TINY, Answers.NUMBER, False, 40, "stat needs right answers"),
        (Method.ALM, TINY, Answers.FREE, True, 40, "alm needs answers that can be compared"),
        (Method.ARTE, TINY, Answers.NUMBER, True, 20, "arte needs 30 rows at least, and 20"),
    ],
)
def test_what_a_method_cannot_do_is_said(
    method: Method, teacher: Any, kind: Answers, has_answers: bool, n: int, message: str
) -> None:
    data = start(Path("x"), method, teacher, kind, n, has_answers).data
    assert message in (why_not(method, data, teacher) or "")


def test_nothing_is_written_over_without_force(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    first, other = (files_of(start(folder, method)) for method in (Method.SFT, Method.ARTE))
    write(first, folder, force=False)
    write(first, folder, force=False)  # the same again changes nothing
    edited = folder / "teacher.jinja"
    edited.write_text("mine")
    with pytest.raises(ConfigError, match="already there: .*teacher.jinja; take another NAME"):
        write(first, folder, force=False)
    with pytest.raises(ConfigError, match=r"own\.yaml, .*data/train\.jsonl"):
        write(other, folder, force=False)
    assert edited.read_text() == "mine"
    assert not (folder / "data" / "seeds.jsonl").exists()
    write(other, folder, force=True)
    parts = sorted(path.name for path in (folder / "data").iterdir())
    assert parts == ["seeds.jsonl", "test.jsonl", "validation.jsonl"]  # none of another division


def test_parts_of_large_data_do_not_grow_without_end() -> None:
    assert Method.SFT.sizes(100_000, 0.2) == {"train": 99_500, "test": 500}
    assert Method.ARTE.sizes(100_000, 0.2) == {"seeds": 50, "validation": 300, "test": 500}
    assert Method.STAT.sizes(40, 0.2) == {"train": 22, "validation": 10, "test": 8}
