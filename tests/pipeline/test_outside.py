"""Models, answers and data that are not there, or are no such thing, are found before a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Failure = Callable[..., str]
PLACE = "toy.yaml:4: models.teacher.model_name_or_path: "
ENGINE = "toy.yaml:4: models.teacher.engine"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("good", "untokenized", "broken"):
        (tmp_path / "m" / name).mkdir(parents=True)
        (tmp_path / "m" / name / "config.json").write_text("{}")
        (tmp_path / "m" / name / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")
        (tmp_path / "m" / name / "tokenizer.json").write_text("{}")
    (tmp_path / "m" / "untokenized" / "tokenizer.json").unlink()
    (tmp_path / "m" / "broken" / "config.json").write_text("{")
    (tmp_path / "file").write_text("")
    (tmp_path / "answers.jsonl").write_text(json.dumps({"contains": "", "completion": "x"}))
    (tmp_path / "damaged.jsonl").write_text("{")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("file", "file is a file; a model is a directory with config.json, or a Hub name"),
        ("./nope", "no directory ./nope, and it is not a name on the Hub"),
        ("/nope/x", "no directory /nope/x"),
        ("~/nope", "no directory ~/nope"),
        ("~nobody/nope", "no directory ~nobody/nope"),
        ("a/b/c", "no directory a/b/c"),
        ("data/models/nope", "did you mean"),
        ("m/untokenized", "m/untokenized has no tokenizer"),
        ("m/broken", "m/broken/config.json is damaged"),
    ],
)  # fmt: skip
def test_models(failure: Failure, good: str, model: str, expected: str) -> None:
    message = failure(good.replace("org/teacher", model))
    assert message.partition("\n  ")[2].startswith(PLACE)
    assert expected in message


@pytest.mark.parametrize("model", ["m/good", "./m/good", "org/teacher", "gpt2"])
def test_models_that_are_fine(load: Callable[..., object], good: str, model: str) -> None:
    assert load(good.replace("org/teacher", model))


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        ("answers: nope.jsonl", f"{ENGINE}.answers: nope.jsonl is not a file in"),
        ("answers: damaged.jsonl", f"{ENGINE}.answers: damaged.jsonl, line 1:"),
        ("", f"{ENGINE}: a scripted engine needs one of engine.answers"),
        ("answers: answers.jsonl, function: 'a:b'", "and not both"),
    ],
)
def test_scripted_models(failure: Failure, good: str, engine: str, expected: str) -> None:
    text = good.replace("org/teacher", f"org/teacher, engine: {{kind: scripted, {engine}}}")
    assert expected in failure(text)
    unnamed = failure(text.replace("name: toy\n", "seed: 1\n").replace("seed: 3", "x: 1"))
    assert expected in unnamed  # though the header is wrong as well


SERVED = "org/teacher, engine: {kind: openai, base_url: 'http://localhost:8000/v1'}"


def test_a_served_model_is_looked_for_nowhere(load: Callable[..., object], good: str) -> None:
    untrained = good[: good.index("  trained:")] + good[good.index("profiles:") :]
    for name in ("org/teacher", "a/b/c:8b", "m/broken", "file"):
        assert load(untrained.replace("org/teacher", SERVED.replace("org/teacher", name)))


def test_a_served_model_cannot_be_trained(failure: Failure, good: str) -> None:
    message = failure(good.replace("org/teacher", SERVED))
    assert "stages.trained.model: 'teacher' is on a server" in message
    assert message.count("on a server") == 1  # not of what is trained from it, too


@pytest.mark.parametrize(
    ("engine", "place", "expected"),
    [
        ("base_url: 'localhost:8000'", ".base_url", "expected an address such as http://local"),
        ("base_url: 'http://h/v1', prize: 3", ".prize", "did you mean 'price'?"),
        ("base_url: 'http://h/v1', price: {input: 1}", ".price.output", "is required and missing"),
        ("model: x", ".base_url", "is required and missing"),
    ],
)
def test_settings_of_a_server(
    failure: Failure, good: str, engine: str, place: str, expected: str
) -> None:
    message = failure(
        good.replace("org/teacher", f"org/teacher, engine: {{kind: openai, {engine}}}")
    )
    assert f"{ENGINE}{place}: " in message
    assert expected in message


def test_data(load: Callable[..., object], failure: Failure, good: str) -> None:
    text = good.replace("stage: toy_rows\n    n: 4", "stage: load_dataset\n    path: answer.jsonl")
    text = text[: text.index("profiles:")]
    assert "toy.yaml:8: stages.numbers.path: no file or directory 'answer.jsonl'" in failure(text)
    assert load(text.replace("answer.jsonl", "org/data"))


def test_a_model_that_a_stage_names_itself(
    load: Callable[..., object], failure: Failure, good: str
) -> None:
    text = good[: good.index("profiles:")] + (
        "  near: {stage: select_similar, rows: numbers, questions: answers, model: ./nowhere}\n"
    )
    said = "stages.near.model: no directory ./nowhere, and it is not a name on the Hub"
    assert said in failure(text)
    assert load(text.replace("./nowhere", "org/model"))


@pytest.mark.parametrize("tracker", ["trackio", "wandb", "tensorboard", "mlflow"])
def test_a_tracker_that_is_not_installed_is_said_where_it_is_named(
    failure: Failure, good: str, tracker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *_: None if name == tracker else object()
    )
    message = failure(good.replace("seed: 3", f"seed: 3\nreport_to: {tracker}"))
    missing = f"{tracker} is not installed; pip install 'llm-distill[{tracker}]'"
    assert f"toy.yaml:3: report_to: {missing}" in message
    training = "stage: train_sft\n    report_to: " + tracker
    message = failure(good.replace("stage: toy_train", training, 1))
    assert f"stages.trained.report_to: {missing}" in message


def test_only_the_four_trackers(failure: Failure, good: str) -> None:
    message = failure(good.replace("seed: 3", "seed: 3\nreport_to: neptune"))
    assert "report_to: got 'neptune'; allowed: 'none', 'trackio', 'wandb', 'tensor" in message


def test_a_training_reports_where_the_pipeline_does_unless_it_says_otherwise(
    load: Callable[..., Any], good: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: object())
    text = good.replace("stage: toy_train", "stage: train_sft")
    text = text.replace("n: 4", "n: 4\n    mode: odd")  # so that its columns are not known
    text = text.replace("model: trained", "model: trained\n    report_to: none")
    text = text.replace("seed: 3", "seed: 3\nreport_to: mlflow")
    pipeline = load(text)
    assert pipeline.stages["trained"].report_to == "mlflow"
    assert pipeline.stages["again"].report_to == "none"
    assert load(text, assignments=["report_to=none"]).stages["trained"].report_to == "none"
