"""A finished run for what is done with one: a LoRA student of text, and a student of chats."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llm_distill.cli.main import main

MODELS = Path(__file__).parents[1] / "data" / "models"
PIPELINE = f"""\
name: made
variables: {{task_description: Solve it.}}
models:
  writer:
    model_name_or_path: scripted/writer
    engine: {{kind: scripted, answers: answers.jsonl}}
  student: {{model_name_or_path: {MODELS / "tiny-student"}, prompt_format: text}}
  talker: {{model_name_or_path: {MODELS / "tiny-teacher"}}}
stages:
  items: {{stage: load_dataset, path: data/word_problems, split: test, limit: 6}}
  answers:
    stage: generate
    rows: items
    model: writer
    template: arte/rationale_bare.jinja
    completion_column: rationale
  said: {{stage: load_dataset, path: said.jsonl}}
  tuned:
    stage: train_sft
    rows: answers
    model: student
    prompt_template: arte/exam.jinja
    completion_column: rationale
    max_steps: 4
    learning_rate: 5.0e-3
    peft: {{r: 4}}
  spoken:
    stage: train_sft
    rows: said
    model: talker
    messages_column: messages
    max_steps: 1
  again: {{stage: train_sft, rows: said, model: spoken, messages_column: messages, max_steps: 1,
    peft: {{r: 2}}}}
  exam:
    stage: evaluate
    rows: items
    models: [student, tuned]
    shots: [0, 1]
    examples: answers
    template: arte/exam.jinja
    sampling: {{temperature: 0, max_tokens: 12, stop: ["\\nQuestion:"]}}
"""
SYSTEM = "You count."
SAID = """\
{"id": "a", "messages": [{"role": "system", "content": "You count."},
 {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}
"""


def make_finished_run(folder: Path) -> Path:
    """Run the pipeline in a folder; gives the workspace."""
    (folder / "answers.jsonl").write_text(
        '{"contains": "", "completion": "It is 4. <ans>4</ans>"}\n'
    )
    (folder / "said.jsonl").write_text(SAID.replace("\n ", " "))
    (folder / "made.yaml").write_text(PIPELINE)
    patch = pytest.MonkeyPatch()
    before = Path.cwd()
    patch.setattr("sys.argv", ["llm-distill", "run", "made.yaml", "--workspace", "data"])
    os.chdir(folder)
    try:
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code, "the run failed"
    finally:
        os.chdir(before)
        patch.undo()
    return folder / "data"
