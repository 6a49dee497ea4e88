"""A teacher on a server: its likelihoods are those of the model here, and a student learns them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from llm_distill.errors import ConfigError
from llm_distill.manifest import Manifest, read_manifest
from llm_distill.models.sources import ModelSource
from llm_distill.pipeline.load import load_pipeline
from llm_distill.runtime.record import RunRecord
from tests.engines.loopback import Loopback, refuse
from tests.engines.scoring_server import ScoringServer
from tests.golden.fingerprints import identities

TEACHER = "data/models/tiny-teacher"
PIPELINE = f"""
name: served
models:
  here: {{model_name_or_path: {TEACHER}, prompt_format: text}}
  teacher:
    model_name_or_path: {TEACHER}
    prompt_format: text
    engine: {{kind: openai, base_url: URL, model: served-model, price: {{input: 1, output: 1}}}}
  student: {{model_name_or_path: data/models/tiny-student, prompt_format: text}}
stages:
  problems:
    stage: load_dataset
    path: data/word_problems
    split: train
    limit: 12
  scores: &scores
    stage: score_likelihood
    rows: problems
    model: teacher
    scorer: engine
    top_k: 4
    prompt_template: arte/exam.jinja
    variables: {{task_description: Solve the word problem.}}
    completion_column: reference_answer
  scores_here: {{<<: *scores, model: here, scorer: forward_pass}}
  across: &taught
    stage: train_distill
    model: student
    teacher: teacher
    rows: scores
    prompt_template: arte/exam.jinja
    variables: {{task_description: Solve the word problem.}}
    completion_column: reference_answer
    losses: {{alm: 1.0}}
    alm: {{debias: false}}
    max_steps: 2
  same_tokenizer: {{<<: *taught, model: here, losses: {{forward_kl: 1.0}}}}
"""


def manifest_of(toy: Any, record: RunRecord, stage: str) -> Manifest:
    found = read_manifest(toy.workspace.path(record.stages[stage].artifact))
    assert found is not None
    return found


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    for name in ("http_proxy", "HTTP_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    made = Loopback()
    made.answer = ScoringServer(ModelSource("teacher", TEACHER, prompt_format="text"))
    yield made
    made.close()


@pytest.mark.slow
def test_a_student_learns_from_a_teacher_on_a_server(
    bench: Callable[[str], Any], server: Loopback
) -> None:
    toy = bench(PIPELINE.replace("URL", server.url))
    server.faults.extend([refuse(429)])
    record = toy.run()
    served, here = (toy.rows(record, name) for name in ("scores", "scores_here"))
    assert len(served) == 12
    for one, other in zip(served, here, strict=True):
        assert one["scored_text"] == other["scored_text"]
        for column in ("teacher_logps", "teacher_top_logps"):
            np.testing.assert_allclose(one[column], other[column], atol=1e-4)
        assert one["teacher_top_ids"] == other["teacher_top_ids"]
    manifest = manifest_of(toy, record, "scores")
    assert manifest.cost > 0
    asked = len(server.calls)
    assert asked == 12 + 2 + 1  # the rows, the probe, and one that was refused
    for name in ("across", "same_tokenizer"):
        assert manifest_of(toy, record, name).metrics["steps"] == 2
    # What was scored is kept, whatever becomes of the stage's rows.
    again = toy.run(force=("scores",))
    assert manifest_of(toy, again, "scores").completions == {"reused": 12}
    assert len(server.calls) == asked


LOOP = (
    PIPELINE.partition("  scores: &scores")[0]
    + """\
  taught:
    stage: train_distill
    model: student
    teacher: teacher
    rows: problems
    prompt_template: arte/exam.jinja
    variables: {task_description: Solve the word problem.}
    completion_column: reference_answer
    online: engine
    rollouts: {max_tokens: 16}
    losses: {opd: 1.0}
    per_device_train_batch_size: 2
    gradient_accumulation_steps: 2
    max_steps: 2
"""
)


@pytest.mark.slow
def test_a_teacher_on_a_server_is_asked_in_each_step_and_its_cost_is_counted(
    bench: Callable[[str], Any], server: Loopback
) -> None:
    toy = bench(LOOP.replace("URL", server.url))
    record = toy.run()
    manifest = manifest_of(toy, record, "taught")
    assert manifest.metrics["steps"] == 2
    assert manifest.cost > 0
    assert manifest.completions == {"made": 8 + 1}  # the texts of both steps, and one before them
    asked = len(server.calls)
    assert asked == 8 + 1 + 2
    again = manifest_of(toy, toy.run(force=("taught",)), "taught")  # writes the same texts
    assert again.completions == {"reused": 9}
    assert again.content_digest == manifest.content_digest
    assert (again.cost, len(server.calls)) == (0, asked)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("online: engine", "online: true"), "online: engine asks it about each step's texts"),
        (
            ("online: engine\n    rollouts: {max_tokens: 16}", "online: true"),
            r"score_likelihood ask it once \(scorer: engine\)",
        ),
        (("kind: openai, base_url: URL, model: served-model, price: {input: 1, output: 1}",
          "kind: scripted, answers: answers.jsonl"), "likelihoods"),
    ],
)  # fmt: skip
def test_a_teacher_that_cannot_be_in_memory_or_asked_is_told(
    change: tuple[str, str], message: str, bench: Callable[[str], Any]
) -> None:
    assert change[0] in LOOP
    with pytest.raises(ConfigError, match=rf"taught\.teacher: 'teacher' .*{message}"):
        load_pipeline(str(bench(LOOP.replace(*change).replace("URL", "http://x/v1")).file))


def test_another_tokenizer_makes_other_scores(bench: Callable[[str], Any]) -> None:
    text = PIPELINE.replace("URL", "http://localhost:1/v1")
    named = f"teacher:\n    model_name_or_path: {TEACHER}"
    assert named in text
    before = identities(str(bench(text).file))[""]
    after = identities(
        str(
            bench(
                text.replace(named, f"teacher:\n    model_name_or_path: {TEACHER[:-7]}student")
            ).file
        )
    )[""]
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"scores", "across", "same_tokenizer"}
