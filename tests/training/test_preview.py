"""What `preview --tokens` shows, and what a model's own chat template and date do to a pipeline."""

from __future__ import annotations

import json
from datetime import date

import pytest

from llm_distill.pipeline.load import load_pipeline
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.resolve import Resolver

PIPELINE = """\
name: talks
models:
  m: {{model_name_or_path: {model}, chat_template: {template}}}
stages:
  rows: {{stage: load_dataset, path: rows.jsonl}}
  t: {{stage: train_sft, model: m, rows: rows, messages_column: messages}}
"""
TEMPLATE = """\
{% for m in messages %}[{{ m.role }}]{{ m.content }}<|end|>{% endfor %}
{%- if add_generation_prompt %}[assistant]{% endif %}"""
ROWS = [
    {"id": "a", "messages": [{"role": "user", "content": "Ann?"}]},
    {
        "id": "b",
        "messages": [
            {"role": "user", "content": "Bob?"},
            {"role": "assistant", "content": "Bob is 28."},
        ],
    },
]


@pytest.fixture
def talks(tmp_path, monkeypatch, model_dir):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    (tmp_path / "own.jinja").write_text(TEMPLATE)
    file = tmp_path / "talks.yaml"
    file.write_text(PIPELINE.format(model=model_dir, template="own.jinja"))
    return file


def test_what_is_in_the_loss_is_marked_and_what_is_left_out_is_said(talks, cli):
    said = cli("preview", str(talks), "--tokens", "t", "--workspace", "ws")
    assert said.code == 5
    assert "run talks.yaml --until rows" in said.err.replace(str(talks.parent) + "/", "")
    assert cli("run", str(talks), "--until", "rows", "--workspace", "ws").code == 0
    said = cli("preview", str(talks), "--tokens", "t", "--workspace", "ws")
    assert said.code == 0
    assert "[user]Bob?<|end|>[assistant]«Bob is 28.<|end|>»" in said.out
    assert "left out: 1, the first 'a': no assistant turn" in said.out


@pytest.mark.parametrize(
    ("stage", "expected"), [("x", "no such stage"), ("rows", "it trains on no tokens")]
)
def test_only_trainings_have_tokens(talks, cli, stage, expected):
    said = cli("preview", str(talks), "--tokens", stage, "--workspace", "ws")
    assert said.code == 2
    assert expected in said.err


def test_a_chat_template_of_ones_own_is_a_part_of_the_fingerprint(talks, cli):
    def identity():
        resolver = Resolver(load_pipeline(str(talks)))
        return resolver._model_identity("m", writes_text=False), resolver.model("m")

    first, source = identity()
    assert source.chat_template == TEMPLATE
    (talks.parent / "own.jinja").write_text(TEMPLATE + " ")
    other, _ = identity()
    assert first["chat_template"] != other["chat_template"]
    talks.write_text(talks.read_text().replace("own.jinja", "gone.jinja"))
    said = cli("validate", str(talks))
    assert said.code == 2
    assert "models.m.chat_template" in said.err
    assert "'gone.jinja' is not there" in said.err


def test_a_template_that_asks_for_the_date_gets_that_of_the_first_run(talks):
    (talks.parent / "own.jinja").write_text("{{ strftime_now('%Y') }}" + TEMPLATE)
    pipeline = load_pipeline(str(talks))
    then = Resolver(pipeline, lambda: date(2030, 1, 2))
    assert then.model("m").today == date(2030, 1, 2)
    assert then._model_identity("m", writes_text=False)["today"] == "2030-01-02"
    stated = load_pipeline(str(talks), assignments=["today=2031-03-05"])
    assert Resolver(stated, lambda: date(2030, 1, 2)).model("m").today == date(2031, 3, 5)


def test_the_day_of_the_first_run_stays(tmp_path):
    workspace = Workspace(tmp_path)
    assert workspace.first_run("p", note=False) == date.today()
    assert not (tmp_path / "dates").exists()
    workspace.first_run("p")
    (tmp_path / "dates" / "p").write_text("2030-01-02\n")
    assert workspace.first_run("p") == date(2030, 1, 2)
    assert workspace.first_run("q") == date.today()
