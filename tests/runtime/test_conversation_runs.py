"""A conversation with a tool, from a file through every kind of training to an exam and the Hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.engines.base import Request
from llm_distill.rows.messages import read_messages

PIPELINE = """\
name: talks
models:
  teacher:
    model_name_or_path: scripted
    engine: {kind: scripted, function: "tests.runtime.test_conversation_runs:reply"}
  student: {model_name_or_path: data/models/tiny-student, chat_template: chat/chatml_tools.jinja}
stages:
  asked: {stage: load_dataset, path: asked.jsonl}
  written:
    stage: generate
    rows: asked
    model: teacher
    messages_column: messages
    n: 2
    sampling: {max_tokens: 64}
    parse: {tags: {note: note}, required: [], on_failure: keep}
    verify: &calls {answer_column: tool_calls, kind: tool_call}
  right: {<<: *calls, stage: verify, rows: written, drop_wrong: true}
  sft: &short
    stage: train_sft
    model: student
    rows: right
    messages_column: messages
    max_steps: 2
    max_length: 1024
  kto_rows: {stage: load_dataset, path: judged.jsonl}
  kto: {stage: train_kto, model: sft, rows: kto_rows, max_steps: 1, max_length: 1024}
  pairs: {stage: load_dataset, path: pairs.jsonl}
  dpo: {stage: train_dpo, model: sft, rows: pairs, max_steps: 1, max_length: 1024}
  scored: {stage: score_likelihood, model: sft, rows: right, messages_column: messages}
  distilled:
    stage: train_distill
    model: student
    teacher: sft
    rows: scored
    messages_column: messages
    losses: {alm: 1.0, sft: 1.0}
    max_steps: 1
    max_length: 1024
  exam:
    stage: evaluate
    rows: asked
    models: [teacher, distilled]
    messages_column: messages
    answer_kind: tool_call
    sampling: {temperature: 0, max_tokens: 16}
"""
TOOLS = [{"name": "age", "parameters": {"type": "object", "properties": {"who": {}}}}]


def reply(request: Request) -> str:
    """Every second candidate asks for somebody else."""
    who = str(request.prompt[0]["content"]).split()[-1].rstrip("?")  # type: ignore[index]
    called = who if request.sampling.temperature == 0 or request.id.endswith("0") else "Zoe"
    call = json.dumps({"name": "age", "arguments": {"who": called}})
    return f"<think>A tool knows.</think><note>asks</note><tool_call>{call}</tool_call>"


def asked(name: str) -> dict[str, Any]:
    wanted = json.dumps([{"name": "age", "arguments": {"who": name}}])
    turn = {"role": "user", "content": f"How old is {name}?"}
    return {"id": name, "messages": [turn], "tools": TOOLS, "reference_answer": wanted}


@pytest.mark.slow
def test_a_call_goes_the_whole_way(
    bench: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("Ann", "Bob", "Cem", "Dia")

    def said(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    ask = [{"role": "user", "content": "Hi"}]
    pairs = [{"id": n, "prompt": ask, "chosen": said(n), "rejected": said("No")} for n in names]
    judged = [
        {"id": f"{n}{right}", "prompt": ask, "completion": said(n), "is_correct": right}
        for n in names
        for right in (True, False)
    ]
    files = {"asked": [asked(n) for n in names], "pairs": pairs, "judged": judged}
    for name, rows in files.items():
        lines = "".join(f"{json.dumps(row)}\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    toy = bench(PIPELINE)
    record = toy.run()
    right = toy.rows(record, "right")
    assert [row["parent_id"] for row in right] == list(names)
    last = read_messages(right[0]["messages"], "here")[-1]
    assert last["reasoning_content"] == "A tool knows."
    assert last["tool_calls"][0]["function"]["arguments"] == {"who": "Ann"}
    assert right[0]["note"] == "asks"
    by_model: dict[str, list[bool]] = {}
    for row in toy.rows(record, "exam"):
        by_model.setdefault(row["model"], []).append(row["is_correct"])
    assert by_model["teacher"] == [True] * 4
    assert len(by_model["distilled"]) == 4
    again = toy.run()
    assert {stage.state for stage in again.stages.values()} == {"reused"}
