"""From `assign` through `generate` to tokens: a system message, or none, is trained with."""

from __future__ import annotations

import json

from llm_distill.stages.generate import Generate

PIPELINE = """\
name: orca
models:
  teacher:
    model_name_or_path: teacher
    engine: {{kind: scripted, answers: answers.jsonl}}
  student: {{model_name_or_path: {model}, chat_template: own.jinja}}
stages:
  rows: {{stage: load_dataset, path: rows.jsonl}}
  asked:
    stage: assign
    rows: rows
    variants:
      none: {{text: "", when: {{absent: choices}}}}
      letter: {{text: Name the letter., when: {{present: choices}}}}
  answers:
    stage: generate
    rows: asked
    model: teacher
    template: ask.jinja
    system_column: system_message
  t: {{stage: train_sft, model: student, rows: answers, messages_column: messages}}
"""
TEMPLATE = """\
{% for m in messages %}[{{ m.role }}]{{ m.content }}<|end|>{% endfor %}
{%- if add_generation_prompt %}[assistant]{% endif %}"""


def test_a_system_message_and_none_come_through_to_training(tmp_path, monkeypatch, model_dir, cli):
    monkeypatch.chdir(tmp_path)
    rows = [{"id": "a", "question": "Ann?", "choices": None}]
    rows.append({"id": "b", "question": "Bob?", "choices": ["1", "2"]})
    said = [{"contains": "Ann?", "completion": "Yes."}, {"contains": "Bob?", "completion": "No."}]
    for name, each in (("rows", rows), ("answers", said)):
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in each))
    (tmp_path / "own.jinja").write_text(TEMPLATE)
    (tmp_path / "ask.jinja").write_text("Q: {{ question }}")
    file = tmp_path / "orca.yaml"
    file.write_text(PIPELINE.format(model=model_dir))
    assert cli("run", str(file), "--until", "answers", "--workspace", "ws").code == 0
    said = cli("preview", str(file), "--tokens", "t", "--workspace", "ws")
    assert said.code == 0
    assert "[user]Q: Ann?<|end|>[assistant]«Yes.<|end|>»" in said.out
    assert "[system]Name the letter.<|end|>[user]Q: Bob?<|end|>[assistant]«No.<|end|>»" in said.out
    assert "[system]<|end|>" not in said.out


def test_what_is_asked_and_kept(run_stage, tmp_path):
    asked = {}
    rows = [
        {"id": "a", "question": "Ann?", "system_message": "Be brief."},
        {"id": "b", "question": "Bob?", "system_message": ""},
        {"id": "c", "question": "Cid?", "system_message": None},
    ]
    (tmp_path / "ask.jinja").write_text("Q: {{ question }}")
    stage = Generate(
        stage="generate",
        rows="rows",
        model="m",
        template=str(tmp_path / "ask.jinja"),
        system_column="system_message",
        max_error_rate=0.5,
    )

    def answer(request):
        asked[request.id] = [turn["role"] for turn in request.prompt]
        return "<think>Who?</think> Yes."

    run = run_stage(stage, {"rows": rows}, {"m": answer})
    assert asked == {"a-0": ["system", "user"], "b-0": ["user"]}
    first, second, third = run.rows
    assert first["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Q: Ann?"},
        {"role": "assistant", "content": "Yes.", "reasoning_content": "Who?"},
    ]
    assert second["messages"] == [
        {"role": "user", "content": "Q: Bob?"},
        first["messages"][2],
    ]
    assert third["messages"] is None
    assert third["error"] == "system_message is null; an empty text is no system message"
    assert stage.output_columns({"rows": frozenset(rows[0])}) == set(run.features)
