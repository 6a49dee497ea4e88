"""score_student_fit in a run: what is kept, what is asked again, and what is refused at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from llm_distill.engines.base import Score
from llm_distill.engines.transformers.engine import TransformersEngine
from llm_distill.errors import ConfigError
from llm_distill.pipeline.load import load_pipeline
from llm_distill.runtime import execute
from llm_distill.runtime.perform import perform
from tests.golden.fingerprints import identities

SERVER = '{kind: openai, base_url: "http://localhost:1/v1"}'
PIPELINE = """\
name: fit
models:
  student:
    model_name_or_path: data/models/tiny-student
    prompt_format: text
    engine: {kind: transformers, batch_size: 2}
  server: {model_name_or_path: served, engine: SERVER}
stages:
  problems: {stage: load_dataset, path: data/word_problems, split: train, limit: 40}
  fit:
    stage: score_student_fit
    rows: problems
    model: student
    signal: nll_low
    prompt_template: arte/exam.jinja
    variables: {task_description: Solve the word problem.}
    completion_column: reference_answer
""".replace("SERVER", SERVER)


def completions(toy: Any) -> dict[str, int]:
    """Of the newest run of the stage."""
    found = [*toy.workspace.artifacts.glob("fit-*/manifest.json")]
    newest = max(found, key=lambda path: path.stat().st_mtime_ns)
    return json.loads(newest.read_text())["completions"]  # type: ignore[no-any-return]


def test_what_the_engine_said_is_kept_through_a_kill_and_for_other_signals(
    bench: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "perform_in_worker", perform)
    whole = TransformersEngine.score

    def killed(self: TransformersEngine, requests: Any) -> Any:
        for number, score in enumerate(whole(self, requests)):
            if number == 7:
                raise KeyboardInterrupt
            yield score

    toy = bench(PIPELINE)
    with monkeypatch.context() as patch:
        patch.setattr(TransformersEngine, "score", killed)
        with pytest.raises(KeyboardInterrupt):
            toy.run()
    rows = toy.rows(toy.run(), "fit")
    assert [row["id"] for row in rows] == [f"train-{i:04d}" for i in range(40)]
    kept = completions(toy)
    assert kept["reused"] >= 7
    assert kept["made"] + kept["reused"] == 40

    def closed(self: TransformersEngine, requests: Any) -> Score:
        raise AssertionError("the engine was asked")

    with monkeypatch.context() as patch:
        patch.setattr(TransformersEngine, "score", closed)
        toy.write(PIPELINE.replace("nll_low", "nll_high"))
        high = toy.rows(toy.run(), "fit")
    assert [row["score"] for row in high] == [-row["score"] for row in rows]
    toy.write(PIPELINE.replace("nll_low", "ifd"))
    ratios = toy.rows(toy.run(), "fit")
    assert [row["mean_nll"] for row in ratios] == [row["mean_nll"] for row in rows]
    assert completions(toy)["reused"] >= 40  # and answers that are the same read alone once
    toy.write(PIPELINE.replace("nll_low", "rsr"))
    ranked = toy.rows(toy.run(), "fit")
    assert completions(toy)["made"] == 40
    assert all(1 <= row["mean_rank"] <= 100 for row in ranked)


@pytest.mark.parametrize(("signal", "n_fingerprints"), [("rsr", 2), ("scas", 1)])
def test_only_what_an_engine_says_depends_on_its_settings(
    signal: str, n_fingerprints: int, bench: Callable[[str], Any]
) -> None:
    found = set()
    for quantization in ("null", "fp8"):
        engine = f"engine: {{kind: vllm, quantization: {quantization}}}"
        text = PIPELINE.replace("engine: {kind: transformers, batch_size: 2}", engine)
        toy = bench(text.replace("nll_low", signal))
        found.add(identities(str(toy.file))[""]["fit"])
    assert len(found) == n_fingerprints


def test_mistakes_are_found_before_anything_runs(bench: Callable[[str], Any]) -> None:
    served = PIPELINE.replace("model: student", "model: server")
    for text, message in (
        (
            served.replace(SERVER, "{kind: scripted, function: os.path:join}"),
            "'server' has the engine kind scripted, which has no likelihoods of given texts; ",
        ),
        (served.replace("nll_low", "scas"), r"fit\.model: 'server' is on a server"),
        (PIPELINE.replace("nll_low", "nll"), "got 'nll'; allowed: 'nll_low', 'nll_high'"),
        (PIPELINE.replace("signal: nll_low\n    ", ""), "signal"),
        (PIPELINE.replace("nll_low", "ifd\n    r_max: 50"), "r_max is a setting of signal: rsr"),
        (PIPELINE.replace("reference_answer", "answr"), "answr"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_pipeline(str(bench(text).file))
