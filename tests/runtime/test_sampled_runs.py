"""A student learns from its own texts, which a teacher with another tokenizer has scored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llm_distill.manifest import Manifest, read_manifest
from llm_distill.runtime.record import RunRecord

PIPELINE = """
name: sampled
variables: {task_description: Solve the word problem., examples: []}
models:
  teacher: {model_name_or_path: data/models/tiny-teacher}
  student: {model_name_or_path: data/models/tiny-student, prompt_format: text}
stages:
  problems: {stage: load_dataset, path: data/word_problems, split: train, limit: 64}
  rollouts: &writes
    stage: generate
    rows: problems
    model: student
    template: arte/exam.jinja
    sampling: {temperature: 1.0, max_tokens: 48}
    keep_tokens: true
    n: 2
  scored: &scores
    stage: score_likelihood
    rows: rollouts
    model: teacher
    prompt_template: arte/rationale_procedure.jinja
  taught: &learns
    stage: train_distill
    model: student
    teacher: teacher
    rows: scored
    prompt_template: arte/exam.jinja
    teacher_prompt_template: arte/rationale_procedure.jinja
    losses: {opd: 1.0}
    num_train_epochs: 3
    per_device_train_batch_size: 32
    learning_rate: 3.0e-4
    logging_steps: 1
    on_collapse: ignore
  written_then: {<<: *writes, model: taught}
  scored_then: {<<: *scores, rows: written_then}
  measured:
    <<: *learns
    model: taught
    rows: scored_then
    max_steps: 1
    per_device_train_batch_size: 128
"""


def manifest_of(toy: Any, record: RunRecord, stage: str) -> Manifest:
    found = read_manifest(toy.workspace.path(record.stages[stage].artifact))
    assert found is not None
    return found


@pytest.mark.slow
def test_a_student_learns_from_its_own_texts(bench: Callable[[str], Any]) -> None:
    toy = bench(PIPELINE)
    record = toy.run()
    rollouts = toy.rows(record, "rollouts")
    assert len(rollouts) == 128
    assert all(len(r["completion_ids"]) == len(r["rollout_logps"]) for r in rollouts)
    assert len({row["written_with"] for row in rollouts}) == 1
    training = manifest_of(toy, record, "taught")
    history = training.metrics["history"]
    # Engine and trainer have the same weights before the first step.
    assert history[0]["opd_apart_at_start"] < 1e-4
    alignment = training.metrics["alignment"]
    assert alignment["student_tokens_per_chunk"] > 1.05  # the tokenizers differ
    # On texts of its own at either time the student is nearer to the teacher than it was.
    (then,) = manifest_of(toy, record, "measured").metrics["history"]
    assert then["opd_apart_at_start"] < 1e-4
    assert then["opd"] < 0.9 * history[0]["opd"]
    # The tokens are kept with the completions, whatever becomes of the rows.
    again = toy.run(force=("rollouts",), until="rollouts")
    assert manifest_of(toy, again, "rollouts").completions == {"reused": 128}
    assert toy.rows(again, "rollouts") == rollouts
