"""A student that is trained here and writes on its server, with the adapter of each step."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_distill.errors import ConfigError, LLMDistillError
from llm_distill.manifest import Manifest, read_manifest
from llm_distill.models.sources import ModelSource
from llm_distill.paths import bundled_root
from llm_distill.pipeline.load import load_pipeline
from llm_distill.rehearsal.rehearsal import write_rehearsal
from llm_distill.runtime.artifact import Workspace
from tests.engines.loopback import Call, Loopback, refuse
from tests.engines.scoring_server import ScoringServer
from tests.engines.writing_server import WritingServer

PIPELINE = """\
name: served
variables: {task_description: Solve the word problem., examples: []}
models:
  teacher: {model_name_or_path: data/models/tiny-teacher, prompt_format: text}
  student:
    model_name_or_path: data/models/tiny-student
    prompt_format: text
    engine:
      {kind: openai, base_url: "URL", model: base, adapters: hot_load, adapters_folder: FOLDER}
stages:
  problems: {stage: load_dataset, path: data/word_problems, split: train, limit: 6}
  taught:
    stage: train_distill
    model: student
    teacher: teacher
    rows: problems
    prompt_template: arte/exam.jinja
    online: true
    losses: {alm: 1.0}
    alm: {temperature: 100, debias: false}
    rollouts: {writer: engine, max_tokens: 12, temperature: 0, max_truncated: 1}
    peft: {r: 4}
    max_steps: 3
    learning_rate: 2.0e-3
    per_device_train_batch_size: 2
    max_length: 256
    logging_steps: 1
    save_steps: 2
"""
TAUGHT = "stages.taught."
OPD = (
    f"{TAUGHT}losses={{opd: 1.0}}",
    f"{TAUGHT}rollouts.temperature=1",
    f"{TAUGHT}max_steps=4",
    f"{TAUGHT}learning_rate=1e-2",
)


@pytest.fixture(scope="module")
def answering() -> Iterator[WritingServer]:
    place = str(bundled_root() / "data/models/tiny-student")
    made = WritingServer(ModelSource("base", place, prompt_format="text"))
    yield made
    made.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, answering: WritingServer) -> WritingServer:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    answering.models[1:] = []
    answering.said.clear()
    answering.calls.clear()
    answering.broken, answering.fault, answering.most = None, "", 64
    return answering


@pytest.fixture
def toy(server: WritingServer, bench: Callable[[str], Any], tmp_path: Path) -> Any:
    return bench(text(server.url, tmp_path / "adapters"))


def text(url: str, folder: Path) -> str:
    return PIPELINE.replace("URL", url).replace("FOLDER", str(folder))


def history(toy: Any, *changes: str) -> list[dict[str, float]]:
    found: list[dict[str, float]] = taught(toy, *changes).metrics["history"]
    return found


def taught(toy: Any, *changes: str) -> Manifest:
    found = read_manifest(toy.workspace.path(toy.run(*changes).stages["taught"].artifact))
    assert found is not None
    return found


@pytest.mark.slow
def test_it_learns_what_it_learns_from_texts_that_are_written_where_it_is_trained(
    toy: Any, server: WritingServer
) -> None:
    """Greedy texts, which both write alike, in each step with the weights of that step."""
    served = history(toy)
    loads = [said for said in server.said if said.startswith("load")]
    assert len(set(loads)) == 3
    here = history(toy, f"{TAUGHT}rollouts.writer=training")
    assert len(served) == len(here) == 3
    for one, other in zip(served, here, strict=True):
        for name in ("loss", "alm", "rollouts/tokens", "rollouts/truncated", "grad_norm"):
            assert one[name] == pytest.approx(other[name], rel=1e-3, abs=1e-5), name
    asked = [call for call in server.calls if call.body["max_tokens"] == 12]
    drawn = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}
    assert all(call.body[name] == value for call in asked for name, value in drawn.items())
    assert len(asked) == 6  # two rows in each of three steps
    assert all(isinstance(call.body["prompt"], list) for call in asked)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [pytest.param("ddp", marks=pytest.mark.exhaustive), "fsdp2"])
def test_two_processes_learn_what_one_does(
    strategy: str, toy: Any, server: WritingServer, tmp_path: Path
) -> None:
    """The first asks for both, with an adapter whose halves fsdp2 gathers."""
    one = history(toy)
    n_asked = len(server.calls)
    toy.workspace = Workspace(tmp_path / "two")  # how many processes there are changes no result
    two = history(toy, f"{TAUGHT}launch={{processes: 2, strategy: {strategy}}}")
    for own, shared in zip(one, two, strict=True):
        for name in ("loss", "alm", "rollouts/tokens"):
            assert shared[name] == pytest.approx(own[name], rel=1e-3, abs=1e-5), name
    assert len(server.calls) == 2 * n_asked
    prompts = [
        sorted(str(c.body["prompt"]) for c in server.calls[i:][:n_asked]) for i in (0, n_asked)
    ]
    assert prompts[0] == prompts[1]


@pytest.mark.slow
def test_tokens_of_an_older_student_are_weighed(toy: Any, server: WritingServer) -> None:
    """With the adapter of each step opd has nothing to weigh; with one of two steps it has."""
    fresh = history(toy, *OPD)
    old = history(toy, *OPD, f"{TAUGHT}rollouts.reload_every=2")
    assert [point["opd_apart"] < 1e-4 for point in fresh] == [True] * 4
    assert [point["opd_apart"] < 1e-4 for point in old] == [True, False, True, False]
    assert all(point["opd_apart"] > 1e-3 for point in old[1::2])
    assert len([said for said in server.said if said.startswith("load")]) == 4 + 2


@pytest.mark.slow
def test_a_training_whose_server_went_away_ends_as_one_that_was_not_cut(
    toy: Any, server: WritingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut in the fourth step, which an adapter of the third writes; it goes on from the third."""
    settings = (*OPD, f"{TAUGHT}rollouts.reload_every=2", "models.student.engine.max_attempts=1")
    whole = history(toy, *settings)
    toy.workspace = Workspace(tmp_path / "cut")
    answered: list[Call] = []

    async def until_the_fourth(call: Call) -> Any:
        answered.append(call)
        texts = [each for each in answered if each.body["max_tokens"] == 12]
        return await (refuse(500) if len(texts) > 6 else server.written)(call)

    monkeypatch.setattr(server, "answer", until_the_fourth)
    with pytest.raises(LLMDistillError, match="step 4: .*goes on from its last checkpoint"):
        toy.run(*settings)
    monkeypatch.setattr(server, "answer", server.written)
    n_asked = len(server.calls)
    resumed = history(toy, *settings)
    again = [call for call in server.calls[n_asked:] if call.body["max_tokens"] == 12]
    assert len(again) == 4  # the third and the fourth step's
    for one, other in zip(resumed, whole, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)


@pytest.mark.slow
def test_a_prompt_that_the_server_refuses_counts_for_nothing(
    toy: Any, server: WritingServer
) -> None:
    server.broken = toy_prompt(server, toy)
    manifest = taught(toy)
    left_out = [point["rollouts/left_out"] for point in manifest.metrics["history"]]
    assert sorted(left_out) == [0, 0, 0.5]
    assert any("1 of 2 texts are not written" in said for said in manifest.warnings)


def toy_prompt(server: WritingServer, toy: Any) -> list[int]:
    """Of the first row that is asked."""
    toy.run(f"{TAUGHT}max_steps=1")
    (first, *_) = [c.body["prompt"] for c in server.calls if c.body["max_tokens"] == 12]
    server.calls.clear()
    return list(first)


@pytest.mark.slow
def test_a_stop_string_ends_a_text_as_where_it_is_trained(toy: Any) -> None:
    stop = f'{TAUGHT}rollouts.stop=[" t"]'
    served, here = history(toy, stop), history(toy, stop, f"{TAUGHT}rollouts.writer=training")
    assert [p["rollouts/tokens"] for p in served] == [p["rollouts/tokens"] for p in here]
    assert [p["alm"] for p in served] == pytest.approx([p["alm"] for p in here], rel=1e-3)
    assert served[0]["rollouts/truncated"] < 1


@pytest.mark.slow
def test_two_servers_are_asked_in_each_step(toy: Any, server: WritingServer) -> None:
    """The teacher's engine stays open while the student's goes from adapter to adapter."""
    source = ModelSource(
        "t", str(bundled_root() / "data/models/tiny-teacher"), prompt_format="text"
    )
    scoring = Loopback()
    try:
        scoring.answer = ScoringServer(source)
        engine = {"kind": "openai", "base_url": scoring.url, "model": "served-model"}
        there = history(toy, f"models.teacher.engine={engine}", f"{TAUGHT}online=engine")
        n_asked = len(scoring.calls)
    finally:
        scoring.close()
    here = history(toy)
    for one, other in zip(there, here, strict=True):
        for name in ("alm", "rollouts/tokens"):
            assert one[name] == pytest.approx(other[name], rel=1e-3, abs=1e-5)
    assert n_asked == 6 + 3  # two texts of each of three steps; the probes


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_server_that_the_training_starts_for_itself(
    processes: int, toy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """One for all steps and processes, on GPUs of its own."""
    caplog.set_level("INFO", "llm_distill.server")
    command = [sys.executable, "-m", "tests.engines.served_writer"]
    engine = {"kind": "vllm_server", "adapters": "hot_load", "gpus": [1], "command": command}
    launch = f"{TAUGHT}launch={{processes: {processes}, strategy: ddp}}"
    own = history(toy, f"models.student.engine={engine}", launch)
    said = [r.getMessage() for r in caplog.records if "server: given" in r.getMessage()]
    (given,) = [json.loads(line.partition("given ")[2]) for line in said]
    assert (given["max-lora-rank"], given["max-loras"], given["gpus"]) == ("8", "2", "1")
    assert "lora-modules" not in given
    here = history(toy, f"{TAUGHT}rollouts.writer=training")
    for one, other in zip(own, here, strict=True):
        for name in ("loss", "alm", "rollouts/tokens", "grad_norm"):
            assert one[name] == pytest.approx(other[name], rel=1e-3, abs=1e-5), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("lora", "loads no adapters while it serves"),
        ("other", "expected target modules"),
        ("blind", "does not see .*adapters_folder"),
    ],
)
def test_a_server_that_takes_no_adapter_stops_the_run(
    fault: str, message: str, toy: Any, server: WritingServer
) -> None:
    server.fault = fault
    with pytest.raises(LLMDistillError, match=message):
        toy.run()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    peft: {r: 4}\n", "", "without peft there is none"),
        ("peft: {r: 4}", "peft: {r: 4, use_dora: true}", "does not lay peft.use_dora over"),
        (", adapters: hot_load, adapters_folder: FOLDER", "", "needs engine.adapters: hot_load"),
        ("max_tokens: 12", "reload_every: 4, max_tokens: 12", "does not divide save_steps: 2"),
        ("writer: engine", "reload_every: 2", "reload_every is of an engine that writes"),
        ("    max_steps", "    launch: {strategy: zero3}\n    max_steps", "with another launch"),
        ("writer: engine, ", "writer: other, ", "'training' or 'engine'"),
    ],
)
def test_what_does_not_go_together_is_said_before_a_run(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    assert old in PIPELINE
    file = tmp_path / "p.yaml"
    changed = PIPELINE.replace(old, new)
    file.write_text(changed.replace("URL", "http://localhost:1/v1").replace("FOLDER", "/tmp"))
    with pytest.raises(ConfigError, match=message):
        load_pipeline(file)


@pytest.mark.parametrize("student", ["student", "tuned"])
def test_a_teacher_whose_adapter_would_be_taken_out_is_refused(
    student: str, tmp_path: Path
) -> None:
    tuned = """
  tuned: {stage: train_sft, model: student, rows: problems, peft: {r: 4},
    completion_column: reference_answer, prompt_template: arte/exam.jinja}
  taught:"""
    changed = PIPELINE.replace("\n  taught:", tuned).replace("online: true", "online: engine")
    file = tmp_path / "p.yaml"
    changed = changed.replace("URL", "http://localhost:1/v1").replace("FOLDER", "/tmp")
    changed = changed.replace("teacher: teacher", "teacher: tuned")
    file.write_text(
        changed.replace("train_distill\n    model: student", f"train_distill\n    model: {student}")
    )
    with pytest.raises(ConfigError, match="taught.teacher: 'tuned' is an adapter on the server"):
        load_pipeline(file)


OWN = "{kind: vllm_server, adapters: hot_load, command: [x], gpus: [1]}"


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (OWN.replace("adapters: hot_load, ", ""), None, "needs engine.adapters|adapters: hot_load"),
        (OWN, "{kind: vllm_server, command: [x]}", "one would be stopped for the other in each"),
        (OWN, "{kind: vllm_server, command: [x], gpus: [1]}", "one would be stopped for the other"),
        (OWN, "{kind: vllm}", "both take memory of this machine"),
        (OWN, "{kind: vllm_server, command: [x], gpus: [0]}", None),
        (OWN, '{kind: openai, base_url: "http://localhost:1/v1"}', None),
    ],
)
def test_two_servers_of_this_machine_need_gpus_of_their_own(
    student: str, teacher: str | None, message: str | None, tmp_path: Path
) -> None:
    written = yaml.safe_load(PIPELINE)
    written["models"]["student"]["engine"] = yaml.safe_load(student)
    if teacher is not None:
        written["models"]["teacher"]["engine"] = yaml.safe_load(teacher)
        written["stages"]["taught"]["online"] = "engine"
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump(written))
    if message is None:
        assert load_pipeline(file).stages["taught"].rollouts.writer == "engine"
        return
    with pytest.raises(ConfigError, match=message):
        load_pipeline(file)


def test_in_a_rehearsal_the_training_writes(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    changed = PIPELINE.replace("temperature: 0,", "temperature: 0, reload_every: 2,")
    file.write_text(changed.replace("URL", "http://localhost:1/v1").replace("FOLDER", "/tmp"))
    written, _ = write_rehearsal(load_pipeline(file), tmp_path, {})
    rollouts = load_pipeline(written).stages["taught"].rollouts
    assert (rollouts.writer, rollouts.reload_every, rollouts.max_tokens) == ("training", 1, 12)


def test_an_engine_that_loads_no_adapters_is_told_what_to_be(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    changed = PIPELINE.replace(
        """
      {kind: openai, base_url: "URL", model: base, adapters: hot_load, adapters_folder: FOLDER}""",
        " {kind: transformers}",
    )
    file.write_text(changed)
    with pytest.raises(ConfigError, match="no adapters that .*kind to vllm_server or openai"):
        load_pipeline(file)
