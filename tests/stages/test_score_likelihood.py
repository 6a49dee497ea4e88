"""score_likelihood with the bundled teacher: what is added, dropped, refused, kept and resumed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import List, Value
from pydantic import ValidationError

from llm_distill.distillation.alignment.encoding import row_encoder
from llm_distill.distillation.teacher import windows
from llm_distill.distillation.teacher.identity import scored_by, scored_text
from llm_distill.distillation.teacher.scoring import TeacherScorer
from llm_distill.engines.base import Score, ScoreRequest
from llm_distill.engines.codec import Codec
from llm_distill.engines.transformers.engine import TransformersEngine
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.errors import DataError, ModelError
from llm_distill.models.sources import ModelSource
from llm_distill.runtime.writer import DATA_FILE, write_rows
from llm_distill.stage import RowsOutput
from llm_distill.stages.score_likelihood import ScoreLikelihood

Run = Callable[..., Any]

WHOSE = ("scored_by", "scored_text")
TEACHER = ModelSource("teacher", "data/models/tiny-teacher")
ROWS = [
    {"id": f"r{i}", "prompt": f"What is {i} + 2?", "completion": f"It is {i + 2}." + " Yes." * i}
    for i in range(6)
]


@pytest.fixture
def score(run_stage: Run) -> Run:
    def run(rows: list[dict[str, Any]], work_dir: Path | None = None, **settings: Any) -> Any:
        stage = ScoreLikelihood(
            stage="score_likelihood", rows="rows", model="teacher", device="cpu", **settings
        )
        return run_stage(stage, {"rows": rows}, models={"teacher": TEACHER}, work_dir=work_dir)

    return run


@pytest.fixture
def by_engine(run_stage: Run) -> Run:
    """The same rows, scored by the model's engine."""

    def run(rows: list[dict[str, Any]], settings: TransformersSettings, **more: Any) -> Any:
        stage = ScoreLikelihood(
            stage="score_likelihood", rows="rows", model="teacher", scorer="engine", **more
        )
        engines = {"teacher": lambda: TransformersEngine(TEACHER, settings)}
        return run_stage(stage, {"rows": rows}, models={"teacher": TEACHER}, engines=engines)

    return run


def expected(turns: Any, top_k: int | None = None) -> dict[str, Any]:
    """From the scorer, which has tests of its own, for one row alone."""
    encoder = row_encoder(TEACHER, None)
    scorer = TeacherScorer(TEACHER, encoder, batch_tokens=1, top_k=top_k, device="cpu")
    return scorer.score([encoder.encode(turns)], ["row"])[0]


def turns(prompt: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def check(row: dict[str, Any], scores: dict[str, Any]) -> None:
    for name, values in scores.items():
        np.testing.assert_allclose(row[name], values, atol=1e-4)


def test_rows_keep_their_columns_and_get_scores(score: Run) -> None:
    bad = [
        {"id": "no answer", "prompt": "What?", "completion": " "},
        {"id": "no prompt", "prompt": None, "completion": "It is 4."},
        {"id": "long", "prompt": "What?", "completion": "and " * 5000},
    ]
    rows = [{**row, "task": "sums"} for row in [*ROWS[:3], *bad, *ROWS[3:]]]
    run = score(rows, batch_tokens=64)
    assert [row["id"] for row in run.rows] == [row["id"] for row in ROWS]
    too_long = "longer than the model's context"
    assert run.dropped == {"empty completion": 1, "empty prompt": 1, too_long: 1}
    n_tokens, encoder = 0, row_encoder(TEACHER, None)
    for row, given in zip(run.rows, ROWS, strict=True):
        assert {name: row[name] for name in given} == given
        assert row["task"] == "sums"
        assert row["scored_by"] == scored_by(TEACHER)
        assert row["scored_text"] == scored_text(
            encoder.encode(turns(given["prompt"], given["completion"]))
        )
        check(row, expected(turns(given["prompt"], given["completion"])))
        n_tokens += len(row["teacher_logps"])
    assert run.features["teacher_logps"] == List(Value("float32"))
    assert run.features["teacher_log_pbs"] == List(Value("float32"))
    assert run.metrics["n_rows"] == 6
    assert run.metrics["n_tokens"] == n_tokens
    assert run.metrics["bytes_per_token"] == 8
    assert run.metrics["tokens_per_second"] > 0


def test_templates_conversations_and_documents(score: Run, tmp_path: Path) -> None:
    template = tmp_path / "ask.jinja"
    template.write_text("{{ hint }} {{ question }}\n")
    rows = [{"id": "a", "question": "2 + 2?", "rationale": "4.", "task": "sums"},
            {"id": "b", "question": None, "rationale": "4.", "task": "sums"}]  # fmt: skip
    run = score(
        rows,
        prompt_template=str(template),
        variables={"hint": "Add."},
        completion_column="rationale",
    )
    assert run.dropped == {"empty prompt": 1}
    check(run.rows[0], expected(turns("Add. 2 + 2?", "4.")))
    talk = [*turns("What is 2 + 2?", "4."), *turns("And 3 more?", "7.")]
    (row,) = score([{"id": "a", "talk": talk}], messages_column="talk").rows
    check(row, expected(talk))
    text = "All of this text counts."
    (row,) = score([{"id": "a", "page": text}], text_column="page").rows
    check(row, expected(text))


def test_the_likeliest_tokens_too(score: Run) -> None:
    run = score(ROWS[:2], top_k=3)
    for row, given in zip(run.rows, ROWS, strict=False):
        check(row, expected(turns(given["prompt"], given["completion"]), 3))
        assert len(row["teacher_top_ids"]) == 3 * len(row["teacher_logps"])
    assert run.features["teacher_top_ids"] == List(Value("int32"))
    assert run.metrics["bytes_per_token"] == 32


def test_an_engine_tells_the_same_of_each_token_and_nothing_of_words(
    score: Run, by_engine: Run
) -> None:
    settings = TransformersSettings(batch_size=3, device="cpu")
    bad = {"id": "no answer", "prompt": "What?", "completion": " "}
    run = by_engine([bad, *ROWS], settings)
    assert run.dropped == {"empty completion": 1}
    assert set(run.features) == {"id", "prompt", "completion", "teacher_logps", *WHOSE}
    assert run.features["teacher_logps"] == List(Value("float32"))
    assert not run.metrics["can_debias"]
    assert run.metrics["bytes_per_token"] == 4
    for row, other in zip(run.rows, score(ROWS).rows, strict=True):
        assert all(row[name] == other[name] for name in ("id", *WHOSE))
        np.testing.assert_allclose(row["teacher_logps"], other["teacher_logps"], atol=1e-4)
    talk = {"id": "a", "talk": [*turns("What is 2 + 2?", "4."), *turns("And 3 more?", "7.")]}
    (row,) = by_engine([talk], settings, messages_column="talk").rows
    (other,) = score([talk], messages_column="talk").rows  # what the user says is not scored
    np.testing.assert_allclose(row["teacher_logps"], other["teacher_logps"], atol=1e-4)


def test_what_the_engine_cannot_score_is_left_out(
    by_engine: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_scored = Codec.read_scored

    def refusing(self: Codec, request: ScoreRequest) -> Any:
        if request.id in refused:
            return Score(request.id, error="it is too long")
        return read_scored(self, request)

    monkeypatch.setattr(Codec, "read_scored", refusing)
    settings, refused = TransformersSettings(device="cpu"), {"r0", "r3"}
    run = by_engine(ROWS, settings)
    assert [row["id"] for row in run.rows] == ["r1", "r2", "r4", "r5"]
    assert run.dropped == {"the engine gives no score": 2}
    assert run.warnings == ["row 'r0': it is too long"]
    refused = {row["id"] for row in ROWS}
    with pytest.raises(
        DataError, match="the engine cannot score any row of 'rows'; row 'r0': it is"
    ):
        by_engine(ROWS, settings)


def test_an_engine_that_computes_no_number_is_refused(
    by_engine: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"r0": math.nan, "r1": -math.inf}

    def odd(self: TransformersEngine, requests: Any) -> Any:
        for request in requests:
            n = len(request.completion)
            yield Score(request.id, (1,) * n, (given.get(request.id, -1.0),) * n)

    monkeypatch.setattr(TransformersEngine, "score", odd)
    settings = TransformersSettings(device="cpu")
    with pytest.raises(ModelError, match="model 'teacher' computes nan for row 'r0'"):
        by_engine(ROWS, settings)
    del given["r0"]
    run = by_engine(ROWS, settings)
    assert len(run.rows) == len(ROWS) - 1
    assert "row 'r1': the model gives a token, or the end of a word, no" in run.warnings[0]


def test_a_text_that_the_model_holds_impossible_is_left_out_of_a_forward_pass_too(
    score: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a model does that masks a part of its vocabulary."""
    given = TeacherScorer.score

    def masked(self: TeacherScorer, rows: Any, names: Any, note: Any) -> Any:
        found = given(self, rows, names, note)
        for scores, name in zip(found, names, strict=True):
            if name in impossible:
                scores["teacher_logps"][0] = -np.inf
        return found

    monkeypatch.setattr(TeacherScorer, "score", masked)
    impossible = {"r1", "r4"}
    run = score(ROWS)
    assert [row["id"] for row in run.rows] == ["r0", "r2", "r3", "r5"]
    reason = "the model gives a token, or the end of a word, no probability at all"
    assert run.dropped == {reason: 2}
    assert run.warnings == [f"2 texts of 'rows' left out, r1, r4: {reason}"]
    assert run.metrics["n_tokens_of_an_earlier_run"] == 0
    impossible = {row["id"] for row in ROWS}
    with pytest.raises(DataError, match=rf"no row of 'rows' can be scored: {reason}"):
        score(ROWS, work_dir=tmp_path)


def test_what_a_template_refuses_is_said_with_what_to_do(run_stage: Run) -> None:
    template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    )
    settings: Any = {"rows": "rows", "model": "teacher", "device": "cpu"}
    stage = ScoreLikelihood(stage="score_likelihood", messages_column="talk", **settings)
    model = replace(TEACHER, chat_template=template)

    def score(rows: list[dict[str, Any]]) -> Any:
        return run_stage(stage, {"rows": rows}, models={"teacher": model})

    good = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
    odd = [{"role": "system", "content": "Be brief."}, *good]
    rows = [{"id": "a", "talk": good}, {"id": "b", "talk": odd}]
    run = score(rows)
    assert [row["id"] for row in run.rows] == ["a"]
    (warning,) = run.warnings
    assert warning.startswith("1 text of 'rows' left out, refused by the chat template of")
    assert "system_role: fold" in warning
    with pytest.raises(DataError, match=r"1 refused by the chat template.*; a template without a"):
        score(rows[1:])


def test_one_form_of_text_at_a_time() -> None:
    base = {"stage": "score_likelihood", "rows": "rows", "model": "teacher"}
    for settings in (
        {"messages_column": "messages", "text_column": "text"},
        {"messages_column": "messages", "prompt_template": "ask.jinja"},
        {"text_column": "text", "completion_column": "completion"},
    ):
        with pytest.raises(ValidationError, match="exclude each other"):
            ScoreLikelihood(**base, **settings)
    columns = ScoreLikelihood(**base, text_column="page").required_columns()
    assert columns == {"rows": {"id", "page"}}


def test_what_cannot_be_done_is_said(score: Run) -> None:
    with pytest.raises(ModelError, match="max_length is 100000, but model 'teacher' has a context"):
        score(ROWS, max_length=100_000)
    empty = [{"id": "a", "prompt": "What?", "completion": ""}]
    with pytest.raises(DataError, match="can be scored: 1 empty completion; if a model wrote"):
        score(empty)


class Cut(BaseException):
    """Stands for Ctrl-C: no handler for ordinary errors may swallow it."""


def test_a_killed_stage_does_nothing_twice_and_gives_the_same_bytes(
    score: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "WINDOW_TOKENS", 60)
    passes: list[tuple[str, ...]] = []
    limit = [10**9]
    whole_pass = TeacherScorer._scores

    def counted(self: TeacherScorer, rows: Any, names: Any) -> Any:
        if len(passes) == limit[0]:
            raise Cut
        passes.append(tuple(names))
        return whole_pass(self, rows, names)

    monkeypatch.setattr(TeacherScorer, "_scores", counted)
    settings = {"batch_tokens": 30, "top_k": 2}
    whole = score(ROWS, tmp_path / "whole", **settings)
    all_passes = passes.copy()
    assert len(all_passes) >= 4
    passes.clear()
    limit[0] = len(all_passes) - 1  # within the last window
    with pytest.raises(Cut):
        score(ROWS, tmp_path / "cut", **settings)
    before = passes.copy()
    passes.clear()
    limit[0] = 10**9
    resumed = score(ROWS, tmp_path / "cut", **settings)
    kept = len(all_passes) - len(passes)
    assert 0 < kept <= len(before)
    assert before[:kept] + passes == all_passes  # of what was kept, nothing was computed again
    assert resumed.metrics["n_tokens_of_an_earlier_run"] > 0
    assert resumed.metrics["n_tokens"] == whole.metrics["n_tokens"]
    for run, name in ((whole, "a"), (resumed, "b")):
        write_rows(RowsOutput(iter(run.rows), run.features), tmp_path / name)
    assert (tmp_path / "a" / DATA_FILE).read_bytes() == (tmp_path / "b" / DATA_FILE).read_bytes()
    limit[0] = 0  # all is kept: no model is needed
    again = score(ROWS, tmp_path / "cut", **settings)
    assert again.metrics["tokens_per_second"] is None
    assert len(again.rows) == len(ROWS)


def test_tokens_are_scored_as_they_were_sampled_where_the_teacher_has_them(score: Run) -> None:
    encoder = row_encoder(TEACHER, None)
    said = turns(ROWS[0]["prompt"], ROWS[0]["completion"])
    text = encoder.encode(said)
    (content,) = text.contents
    again = text.ids[content.start : content.end].tolist()
    parts = encoder.tokenizer(["I", "t is 2."], add_special_tokens=False)["input_ids"]
    sampled = [*parts[0], *parts[1]]
    assert sampled != again  # the same text, in other tokens
    assert encoder.table.text(sampled) == content.text
    row = {**ROWS[0], "completion_ids": sampled, "written_with": encoder.vocabulary}
    found, as_text = score([row, {**row, "id": "other", "written_with": "another"}]).rows
    whole = encoder.encode(said, sampled=sampled)
    assert found["scored_text"] == scored_text(whole) != as_text["scored_text"]
    assert len(found["teacher_logps"]) == len(sampled)  # no end was sampled
    scorer = TeacherScorer(TEACHER, encoder, batch_tokens=1, device="cpu")
    (wanted,) = scorer.score([whole], ["row"])
    assert found["teacher_logps"] == pytest.approx(wanted["teacher_logps"], abs=1e-5)
    assert len(as_text["teacher_logps"]) == len(again) + 1


STAT = ModelSource("stat", "data/models/tiny-stat-teacher")
SEVERAL = {"math": "teacher", "stat": "stat"}
ROUTED = [{**row, "whose": "stat" if n in (0, 3, 4) else "math"} for n, row in enumerate(ROWS)]


@pytest.fixture
def score_by_several(run_stage: Run) -> Run:
    def run(rows: list[dict[str, Any]], work_dir: Path | None = None, **settings: Any) -> Any:
        given = {"teachers": SEVERAL, "teacher_column": "whose", "device": "cpu", **settings}
        stage = ScoreLikelihood(stage="score_likelihood", rows="rows", **given)
        models = {"teacher": TEACHER, "stat": STAT}
        engines = {
            name: lambda of=source: TransformersEngine(of, TransformersSettings(device="cpu"))
            for name, source in models.items()
        }
        return run_stage(stage, {"rows": rows}, models=models, engines=engines, work_dir=work_dir)

    return run


@pytest.mark.parametrize("scorer", ["forward_pass", "engine"])
def test_each_row_is_scored_once_by_the_teacher_it_names(
    scorer: str,
    score_by_several: Run,
    run_stage: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    in_memory: set[int] = set()
    opened = TeacherScorer.__init__
    closed = TeacherScorer.close

    def open_(self: TeacherScorer, *args: Any, **settings: Any) -> None:
        assert not in_memory  # one at a time
        in_memory.add(id(self))
        opened(self, *args, **settings)

    def close(self: TeacherScorer) -> None:
        in_memory.remove(id(self))
        closed(self)

    monkeypatch.setattr(TeacherScorer, "__init__", open_)
    monkeypatch.setattr(TeacherScorer, "close", close)
    run = score_by_several(ROUTED, scorer=scorer)
    assert [row["id"] for row in run.rows] == ["r1", "r2", "r5", "r0", "r3", "r4"]
    assert run.warnings == []
    given = {row["id"]: row for row in ROUTED}
    for row in run.rows:
        source = STAT if given[row["id"]]["whose"] == "stat" else TEACHER
        assert row["scored_by"] == scored_by(source)
        alone = ScoreLikelihood(stage="score_likelihood", rows="rows", model="m", device="cpu")
        work = tmp_path / row["id"]
        one = {"rows": [given[row["id"]]]}
        (expected,) = run_stage(alone, one, models={"m": source}, work_dir=work).rows
        np.testing.assert_allclose(row["teacher_logps"], expected["teacher_logps"], atol=1e-4)
        assert row["scored_text"] == expected["scored_text"]
    assert run.metrics["scored_by"] == {"math": scored_by(TEACHER), "stat": scored_by(STAT)}
    assert run.metrics["n_tokens"] == sum(len(row["teacher_logps"]) for row in run.rows)
    of_math = np.concatenate([row["teacher_logps"] for row in run.rows[:3]])
    (table,) = run.metrics["figures"]
    assert table["rows"][0]["labels"] == {"teacher": "math"}
    assert table["rows"][0]["n"] == 3
    assert table["rows"][0]["value"] == pytest.approx(of_math.mean(dtype=np.float64), rel=1e-5)


def test_a_teacher_with_two_names_is_loaded_once_and_one_without_rows_is_said(
    score_by_several: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    opened = TeacherScorer.__init__

    def open_(self: TeacherScorer, source: ModelSource, *args: Any, **settings: Any) -> None:
        loaded.append(source.name)
        opened(self, source, *args, **settings)

    monkeypatch.setattr(TeacherScorer, "__init__", open_)
    teachers = {"math": "teacher", "law": "stat", "stat": "teacher"}
    run = score_by_several(ROUTED, teachers=teachers)
    assert loaded == ["teacher"]
    assert [row["id"] for row in run.rows] == [row["id"] for row in ROUTED]
    assert run.warnings == [
        "no row of 'rows' names the teacher 'law' in its column 'whose': 'stat' scores nothing"
    ]
    assert run.metrics["scored_by"] == {"math, stat": scored_by(TEACHER)}


@pytest.mark.parametrize(
    ("whose", "message"),
    [
        ("maths", r"row 'r4' of 'rows' names the teacher 'maths' in its column 'whose'; did you "
         r"mean 'math'\? allowed: math, stat"),
        (None, "row 'r4' of 'rows' names no teacher in its column 'whose'; allowed: math, stat"),
        ("", "row 'r4' of 'rows' names no teacher"),
    ],
)  # fmt: skip
def test_a_row_without_a_known_teacher_stops_it_before_anything_is_scored(
    whose: str | None, message: str, score_by_several: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TeacherScorer, "__init__", lambda *_, **__: pytest.fail("it was loaded"))
    rows = [{**row, "whose": whose if row["id"] == "r4" else "math"} for row in ROUTED]
    with pytest.raises(DataError, match=message):
        score_by_several(rows)


def test_a_teacher_none_of_whose_rows_can_be_scored_is_named(score_by_several: Run) -> None:
    rows = [{**row, "completion": "" if row["whose"] == "stat" else "4."} for row in ROUTED]
    with pytest.raises(DataError, match=r"no row of 'rows' whose teacher is stat can be scored: 3"):
        score_by_several(rows)


def test_a_stage_killed_at_its_second_teacher_keeps_the_first(
    score_by_several: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score_by_several(ROUTED, tmp_path / "whole")
    loaded: list[str] = []
    opened = TeacherScorer.__init__
    refused = {"stat"}

    def open_(self: TeacherScorer, source: ModelSource, *args: Any, **settings: Any) -> None:
        if source.name in refused:
            raise Cut
        loaded.append(source.name)
        opened(self, source, *args, **settings)

    monkeypatch.setattr(TeacherScorer, "__init__", open_)
    with pytest.raises(Cut):
        score_by_several(ROUTED, tmp_path / "cut")
    refused.clear()
    resumed = score_by_several(ROUTED, tmp_path / "cut")
    assert loaded == ["teacher", "stat"]
    assert [str(row) for row in resumed.rows] == [str(row) for row in whole.rows]
    first = sum(len(row["teacher_logps"]) for row in whole.rows[:3])
    assert resumed.metrics["n_tokens_of_an_earlier_run"] == first


def test_which_teachers_is_checked_with_the_settings() -> None:
    base = {"stage": "score_likelihood", "rows": "rows"}
    for settings, message in (
        ({}, "give one of model and teachers"),
        ({"model": "m", "teachers": {"a": "m"}}, "give one of model and teachers"),
        ({"model": "m", "teacher_column": "a"}, "teacher_column goes with teachers"),
        ({"teachers": {}}, "at least 1"),
        ({"teachers": {"v1.5": "m"}}, "'v1.5' cannot be a teacher's name"),
        ({"teachers": {"1": "m"}}, "'1' cannot be a teacher's name"),
    ):
        with pytest.raises(ValidationError, match=message):
            ScoreLikelihood(**base, **settings)  # type: ignore[arg-type]
    made = ScoreLikelihood(**base, teachers={"a": "m"})  # type: ignore[arg-type]
    assert made.required_columns() == {"rows": {"id", "prompt", "completion", "teacher"}}


def test_texts_that_get_an_end_nobody_wrote_are_counted(score: Run) -> None:
    rows = [{**row, "finish_reason": "length" if n < 2 else "stop"} for n, row in enumerate(ROWS)]
    (said,) = score(rows).warnings
    assert said.startswith("2 texts of 'rows' were cut by max_tokens")
    assert score(rows, truncated="open").warnings == []
