"""The first rows of a pipeline: what is asked, what adapts to few rows, what is shown."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from llm_distill.cli import preview_rows
from llm_distill.engines.base import Request
from llm_distill.engines.scripted.engine import prompt_text
from llm_distill.pipeline.load import load_pipeline
from llm_distill.preview.counts import cut
from llm_distill.preview.seen import SeenRow
from llm_distill.preview.smaller import smaller
from llm_distill.stages.combine_labels import CombineLabels
from llm_distill.stages.mix import Mix
from tests.engines.loopback import Call, Loopback, answer_to

N_ROWS = 20
SERVED = {
    "model_name_or_path": "served-model",
    "prompt_format": "text",
    "engine": {"kind": "openai"},
}
TRAINED = {"model_name_or_path": "data/models/tiny-student", "prompt_format": "text"}
ASK = {
    "stage": "generate",
    "rows": "rows",
    "model": "teacher",
    "template": "ask.jinja",
    "sampling": {"max_tokens": 5},
}


def reply(request: Request) -> str:
    """A right answer to all but the second question; a stand-in for a model."""
    return _answer(prompt_text(request))


def _answer(prompt: str) -> str:
    number = int(re.findall(r"\d+", prompt)[-1])
    return "no idea & <b>" if number == 1 else f"so <ans>{number}</ans>"


async def answer(call: Call) -> Any:
    from aiohttp import web

    return web.json_response(answer_to(call, _answer(call.prompt)))


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes a pipeline over 20 rows; gives its name."""
    root = Path(__file__).parents[2]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "models").symlink_to(root / "data" / "models")
    rows = (
        {"id": f"r{n}", "question": f"What is {n}?", "reference_answer": str(n)}
        for n in range(N_ROWS)
    )
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "ask.jinja").write_text("{{ question }}")
    scripted = {**TRAINED, "engine": {"kind": "scripted", "function": f"{__name__}:reply"}}

    def put(stages: dict[str, Any], **models: Any) -> str:
        file = {
            "name": "p",
            "models": {"teacher": scripted, **models},
            "stages": {"rows": {"stage": "load_dataset", "path": "rows.jsonl"}, **stages},
        }
        (tmp_path / "p.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
        return "p.yaml"

    return put


@pytest.fixture
def server() -> Iterator[Loopback]:
    found = Loopback()
    found.answer = answer
    yield found
    found.close()


def test_nothing_is_paid_for_twice(write: Any, cli: Any, server: Loopback) -> None:
    served = {**SERVED, "engine": {"kind": "openai", "base_url": server.url}}
    file = write({"answers": {**ASK, "n": 1}}, teacher=served)
    said = cli("preview", file, "-n", "2")
    assert said.code == 0, said
    assert f"answers: at most 2 requests to 'teacher' at {server.url}" in said.out
    assert len(server.calls) == 2
    assert not list(Path("data/artifacts").glob("[a-z]*"))
    assert not list(Path("data/runs").glob("*"))
    assert "requests to" not in cli("preview", file, "-n", "2").out
    assert len(server.calls) == 2
    assert cli("run", file).code == 0
    assert len(server.calls) == N_ROWS  # those of the preview were known
    before = sorted(Path("data/artifacts").glob("[a-z]*"))
    cli("preview", file, "-n", "3")
    assert len(server.calls) == N_ROWS  # and those of the run are
    assert sorted(Path("data/artifacts").glob("[a-z]*")) == before


def test_what_was_dropped_is_shown_with_its_reason(write: Any, cli: Any) -> None:
    file = write(
        {
            "answers": {**ASK, "parse": {"tags": {"answer": "ans"}}},
            "plain": ASK,
            "parsed": {"stage": "parse", "rows": "plain", "tags": {"answer": "ans"}},
            "few": {"stage": "select", "rows": "parsed", "n": 1},
        }
    )
    said = cli("preview", file)
    assert said.code == 0, said
    shown = {block.split(" ")[0]: block for block in said.out.split("\n\n")[1:]}
    for name in ("answers", "parsed"):
        assert "3 rows in, 2 out; dropped: no <answer> 1" in shown[name]
        assert "  r1-0  dropped: no <answer>\n" in shown[name]
        assert "    completion: no idea & <b>" in shown[name]
        assert "    answer: 0" in shown[name]
    assert "    prompt: What is 0?\n" in shown["answers"]
    assert "  r2-0  dropped: not selected\n    question: What is 2?" in shown["few"]
    page = re.search(r"as a page: (\S+)", said.out)
    assert page
    html = Path(page[1]).read_text()
    assert "no idea &amp; &lt;b&gt;" in html
    assert "dropped: no &lt;answer&gt;" in html
    assert "default-src 'none'" in unescape(html)
    assert html.count("<script>") == 1  # the report's own, which the policy names
    assert not re.search(r"<script [^>]|src=|https?://", html)


def test_counts_and_gates_adapt_to_few_rows(write: Any, cli: Any) -> None:
    parts = {"train": 12, "test": 8}
    judges = {"stage": "evaluate", "rows": "rows", "template": "ask.jinja"}
    file = write(
        {
            "part": {"stage": "split", "rows": "rows", "parts": parts, "part": "train"},
            "many": {**ASK, "n": 9, "sampling": {"temperature": 1.0, "max_tokens": 5}},
            "strict": {"stage": "select", "rows": "many", "n": 18, "strict": True},
            "exam": {**judges, "models": ["teacher", "other"]},
            "gate": {
                "stage": "agreement",
                "rows": "exam",
                "annotators": ["teacher", "other"],
                "label": "is_correct",
                "minimum": {"kappa": 0.99},
            },
            "ship": {
                "stage": "gate",
                "exams": ["exam"],
                "model": "other",
                "than": "teacher",
                "require": "better",
            },
        },
        other=TRAINED | {"engine": {"kind": "scripted", "function": f"{__name__}:reply"}},
    )
    said = cli("preview", file)
    assert said.code == 0, said
    assert "n: 4 in place of 9" in said.out
    assert "strict: false in place of true: the sample is small" in said.out
    assert "the first 3 rows of this part" in said.out
    assert "part select  12 rows in, 3 out" in said.out  # of 20
    assert 'minimum: {} in place of {"kappa": 0.99}' in said.out
    assert 'require: "not_worse" in place of "better": the sample is small' in said.out
    assert "tolerance: 0.999 in place of 0.0" in said.out
    one = cli("preview", file, "-n", "1")
    assert one.code == 0, one
    assert "passed over: 'rows' has 1 item; an interval needs at least 2" in one.out
    assert "passed over: it reads 'exam', which was passed over" in one.out


def test_a_stage_behind_a_training_gets_the_untrained_base(write: Any, cli: Any) -> None:
    file = write(
        {
            "answers": ASK,
            "student": {"stage": "train_sft", "model": "teacher", "rows": "answers",
                        "prompt_template": "ask.jinja"},
            "exam": {"stage": "evaluate", "rows": "rows", "models": ["teacher", "student"],
                     "template": "ask.jinja"},
        }
    )  # fmt: skip
    until = cli("preview", file)
    assert "answers" in until.out
    assert "exam" not in until.out
    behind = cli("preview", file, "--stage", "exam")
    assert behind.code == 0, behind
    assert "passed over: a training; what reads it gets its untrained base" in behind.out
    assert "'teacher', which is not trained, in place of 'student'" in behind.out
    assert "exam evaluate  3 rows in, 3 out" in behind.out  # the base takes it once
    assert "answers generate" not in behind.out
    said = cli("preview", file, "--stage", "student")
    assert said.code == 2
    assert "it is a training and gives no rows; name the stage that it reads, 'answers'" in said.err
    assert "did you mean 'answers'?" in cli("preview", file, "--stage", "answer").err
    both = cli("preview", file, "--stage", "answers", "--tokens", "student")
    assert "give one of them" in both.err


def test_examples_and_what_is_compared_with_are_of_more_rows(write: Any) -> None:
    file = write(
        {
            "more": {"stage": "load_dataset", "path": "rows.jsonl"},
            "drafts": {**ASK, "examples": {"rows": "rows", "n": 5}, "sampling": {"temperature": 1}},
            "again": {**ASK, "rows": "drafts", "n": 3, "sampling": {"temperature": 1}},
            "clean": {"stage": "decontaminate", "rows": "again", "against": ["rows", "more"]},
        }
    )
    stages: Any = smaller(load_pipeline(file), 3, None).pipeline.stages
    assert stages["rows"].limit == 3
    assert stages["rows_beside"].limit == stages["more"].limit == 100
    assert (stages["drafts"].rows, stages["drafts"].examples.rows) == ("rows", "rows_beside")
    assert stages["clean"].against == type(stages["clean"].against)(["rows_beside", "more"])
    assert stages["again"].n == 1  # candidates of candidates


def test_weights_of_teachers_stay_and_those_of_a_mixture_go() -> None:
    weights = {"rows": ["one", "two"], "weights": {"one": 1, "two": 3}}
    mixed = Mix.model_validate({"stage": "mix", "n": 2, **weights})
    together = CombineLabels.model_validate({"stage": "combine_labels", **weights})
    said: list[str] = []
    assert cut(together, 3, False, said) == together
    assert said == []
    assert cut(mixed, 3, False, said).weights is None


def test_a_dataset_that_is_not_there_stops_it(write: Any, cli: Any) -> None:
    file = write({"answers": ASK})
    Path("rows.jsonl").write_text('{"id": "a", "question": null}\n')
    said = cli("preview", file)
    assert said.code == 3
    assert "stage 'rows': " in said.err


def test_in_a_terminal_a_long_text_is_whole() -> None:
    written = io.StringIO()
    out = Console(file=written, force_terminal=True, width=50, soft_wrap=True, color_system=None)
    preview_rows._show_row(SeenRow("r1", {"completion": "step by step " * 12 + "it is 42"}), out)
    assert " ".join(written.getvalue().split()).endswith("step by step it is 42")
