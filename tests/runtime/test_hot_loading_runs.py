"""A student in rounds on one server: each round asks the adapter of the round before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_distill.errors import ConfigError
from llm_distill.pipeline.load import load_pipeline
from tests.engines.adapter_server import AdapterServer

PIPELINE = """\
name: rounds
variables: {task_description: Solve the word problem., examples: []}
models:
  student:
    model_name_or_path: data/models/tiny-student
    prompt_format: text
    engine:
      {kind: openai, base_url: "URL", model: base, adapters: hot_load, adapters_folder: FOLDER}
stages:
  problems: {stage: load_dataset, path: data/word_problems, split: train, limit: 4}
  rounds:
    repeat:
      times: 2
      start: {trained: student}
      stages:
        answers:
          {stage: generate, rows: problems, model: trained@previous, template: arte/exam.jinja}
        trained:
          {stage: train_sft, rows: answers, model: trained@previous, max_steps: 2, peft: {r: 4}}
  exam: {stage: generate, rows: problems, model: trained@last, template: arte/exam.jinja}
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[AdapterServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    made = AdapterServer()
    yield made
    made.close()


def text(url: str, folder: Path) -> str:
    return PIPELINE.replace("URL", url).replace("FOLDER", str(folder))


@pytest.mark.slow
def test_a_round_asks_what_the_round_before_has_trained(
    server: AdapterServer, bench: Callable[[str], Any], tmp_path: Path
) -> None:
    toy = bench(text(server.url, tmp_path / "adapters"))
    record = toy.run()

    def asked(stage: str) -> str:
        (name,) = {row["completion"].partition(":")[0] for row in toy.rows(record, stage)}
        return str(name)

    first, second = asked("answers@2"), asked("exam")
    assert asked("answers@1") == "base"
    assert server.said == [f"load {first}", f"load {second}"]
    assert first != second
    assert {path.name for path in (tmp_path / "adapters").iterdir()} == {first, second}
    n_calls = len(server.calls)
    assert n_calls == 12
    assert {action for action, _ in toy.plan().values()} == {"reuse"}
    # Another adapter of the same name: what was written by the one before is not handed back.
    record = toy.run("stages.rounds.repeat.stages.trained.learning_rate=1.0e-3")
    assert len(server.calls) == n_calls + 8
    assert asked("answers@1") == "base"
    assert not {asked("answers@2"), asked("exam")} & {first, second}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "peft: {r: 4}",
            "peft: {use_dora: true}",
            r"answers.model.*'trained@1' cannot be laid over 'student' on its server .*: "
            "peft.use_dora; train a plain LoRA adapter",
        ),
        ("peft: {r: 4}", "peft: {train_embeddings: true}", "peft.train_embeddings"),
        ("peft: {r: 4}", "peft: {modules_to_save: [norm]}", "peft.modules_to_save"),
        (", peft: {r: 4}", "", "exam.model.*'trained@2' cannot .*: it trains all weights"),
        (
            "  exam: {stage: generate, rows: problems, model: trained@last,",
            "  whole: {stage: merge_adapter, model: trained@last}\n"
            "  exam: {stage: generate, rows: problems, model: whole,",
            "'whole' cannot be laid over 'student' on its server .*: it gives whole weights",
        ),
        ("adapters: hot_load, ", "", "adapters_folder goes with adapters: hot_load"),
        (
            "adapters: hot_load, adapters_folder: FOLDER",
            "max_concurrency: 2",
            "is on a server .engine kind openai.: no weights to load",
        ),
    ],
)
def test_what_no_server_lays_over_its_weights_is_refused_at_validate(
    old: str, new: str, message: str, bench: Callable[[str], Any], tmp_path: Path
) -> None:
    given = PIPELINE.replace(old, new)
    assert given != PIPELINE
    toy = bench(given.replace("URL", "http://localhost:1/v1").replace("FOLDER", str(tmp_path)))
    with pytest.raises(ConfigError, match=message):
        load_pipeline(str(toy.file))
