"""Classifiers: what they learn, towards which targets, and the same however a step is cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from pydantic import ValidationError

from llm_distill.errors import DataError, ModelError
from llm_distill.methods.class_targets import balanced_weights, hard_target, soft_target
from llm_distill.models.classifiers import load_classifier
from llm_distill.models.sources import ModelSource, load_model
from llm_distill.rows.unusable import UnusableRowError
from llm_distill.stages.classify import Classify
from llm_distill.stages.train_classifier import TrainClassifier, _warn_of_unknown
from llm_distill.training.classifier import ClassifierTrainer, collate
from llm_distill.training.loop import WholeHistory
from tests.tiny_tokenizer import tiny_tokenizer

Run = Callable[..., Any]
WORDS = {
    "arts": ["opera", "film", "novel", "stage", "museum"],
    "science": ["atom", "cell", "orbit", "gene", "lens"],
    "sports": ["goal", "club", "race", "cup", "team"],
}
SETTINGS: dict[str, Any] = {
    "stage": "train_classifier",
    "model": "m",
    "rows": "r",
    "learning_rate": 3e-3,
    "num_train_epochs": 6,
    "per_device_train_batch_size": 8,
    "logging_steps": 1,
}


def texts(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Four words each, three of them of its class."""
    random, names = Random(seed), sorted(WORDS)
    found = []
    for index in range(n):
        label = names[index % 3]
        words = random.choices(WORDS[label], k=3) + random.choices(WORDS[random.choice(names)], k=1)
        random.shuffle(words)
        found.append({"id": f"{seed}-{index}", "text": " ".join(words), "label": label})
    return found


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    from transformers import BertConfig, BertModel

    path = tmp_path_factory.mktemp("models") / "encoder"
    tokenizer = tiny_tokenizer([row["text"] for row in texts(60)], 330)
    tokenizer.save_pretrained(path)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
    )
    BertModel(config).save_pretrained(path)
    return ModelSource("m", str(path), prompt_format="text")


def stage(**settings: Any) -> TrainClassifier:
    return TrainClassifier(**{**SETTINGS, **settings})


def trained(
    run_stage: Run,
    source: ModelSource,
    rows: list[Any],
    at: Path | None = None,
    **settings: Any,
) -> Any:
    return run_stage(stage(**settings), {"r": rows}, models={"m": source}, work_dir=at)


def weights_of(run: Any) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(run.model.directory / "model.safetensors")


def predictions(run_stage: Run, folder: Path, rows: list[Any]) -> list[dict[str, Any]]:
    asked = Classify(stage="classify", rows="r", model="m", batch_size=7)
    source = ModelSource("m", str(folder), prompt_format="text")
    found: list[dict[str, Any]] = run_stage(asked, {"r": rows}, models={"m": source}).rows
    return found


@pytest.mark.parametrize("kind", ["encoder", "decoder", "adapter"])
def test_it_learns_and_is_asked(
    run_stage: Run, encoder: ModelSource, text_model: ModelSource, kind: str
) -> None:
    source = text_model if kind == "decoder" else encoder
    own: dict[str, Any] = {}
    if kind == "adapter":  # on random weights, so that it takes longer
        own = {"peft": {"r": 8}, "learning_rate": 5e-3, "num_train_epochs": 20}
    run = trained(run_stage, source, texts(120), **own)
    assert run.metrics["classes"] == ["arts", "science", "sports"]
    assert run.metrics["rows_by_class"] == {"arts": 40, "science": 40, "sports": 40}
    config = json.loads((run.model.directory / "config.json").read_text())
    assert config["id2label"] == {"0": "arts", "1": "science", "2": "sports"}
    held = texts(60, seed=1)
    found = predictions(run_stage, run.model.directory, held)
    right = sum(row["label"] == of["label"] for row, of in zip(found, held, strict=True))
    assert right >= (48 if kind == "adapter" else 54)  # 20 by chance
    first = found[0]
    assert first["choices"] == ["arts", "science", "sports"]
    assert sum(first["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert first["confidence"] == max(first["probabilities"])


def test_what_is_asked_does_not_depend_on_the_batch(run_stage: Run, encoder: ModelSource) -> None:
    run = trained(run_stage, encoder, texts(30), max_steps=3)
    rows = [{"id": "x", "text": None}, {"id": "y", "text": " "}, *texts(20)]
    found = predictions(run_stage, run.model.directory, rows)
    assert [row["error"] for row in found[:3]] == ["no text", "no text", None]
    alone = [predictions(run_stage, run.model.directory, [row])[0] for row in rows[2:5]]
    for one, among in zip(alone, found[2:5], strict=True):
        assert one["probabilities"] == pytest.approx(among["probabilities"], abs=1e-5)


@pytest.mark.parametrize("size", [2, 5])
def test_a_step_is_the_same_however_it_is_cut(
    run_stage: Run, encoder: ModelSource, size: int, tmp_path: Path
) -> None:
    """Rows have different weights, and the last step of an epoch has fewer."""
    rows = [{**row, "sure": 0.2 + index % 4} for index, row in enumerate(texts(25))]
    common = {"train_batch_size": 10, "weight_column": "sure", "num_train_epochs": 2}
    whole, cut = (
        trained(
            run_stage, encoder, rows, per_device_train_batch_size=n, at=tmp_path / str(n), **common
        )
        for n in (10, size)
    )
    losses = [[point["loss"] for point in run.metrics["history"]] for run in (whole, cut)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    after = weights_of(cut)
    for name, weight in weights_of(whole).items():
        assert torch.allclose(weight, after[name], atol=1e-4), name


def test_the_loss_by_hand(encoder: ModelSource) -> None:
    model = load_classifier(encoder, ["a", "b"])
    batch = collate(
        [
            {"input_ids": [5, 6, 7], "target": [1, 0], "weight": 2.0},
            {"input_ids": [8], "target": [0.3, 0.7], "weight": 0.5},
        ],
        0,
    )
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    trainer = ClassifierTrainer.__new__(ClassifierTrainer)
    trainer._whole, trainer.rows_here = 2.5, 2
    trainer.accelerator = type("One", (), {"num_processes": 1})()
    with torch.no_grad():
        logps = model(batch["input_ids"], batch["attention_mask"]).logits.log_softmax(-1)
        loss = trainer.compute_loss(model, dict(batch))
    by_hand = -2 * logps[0, 0] - 0.5 * (0.3 * logps[1, 0] + 0.7 * logps[1, 1])
    assert loss.item() == pytest.approx(by_hand.item() / 2.5, abs=1e-6)


def test_probabilities_are_matched_by_name(
    run_stage: Run, encoder: ModelSource, tmp_path: Path
) -> None:
    names, rows = sorted(WORDS), texts(30)
    hard = [
        {**row, "choices": names, "probabilities": [float(n == row["label"]) for n in names]}
        for row in rows
    ]
    turned = [
        {**row, "choices": row["choices"][::-1], "probabilities": row["probabilities"][::-1]}
        for row in hard
    ]
    one, other, plain = (
        weights_of(
            trained(run_stage, encoder, given, targets=targets, max_steps=4, at=tmp_path / str(n))
        )
        for n, (given, targets) in enumerate([(hard, "soft"), (turned, "soft"), (rows, "hard")])
    )
    for name in one:
        assert torch.equal(one[name], other[name])
        assert torch.equal(one[name], plain[name])


def test_targets_by_hand() -> None:
    assert hard_target("b", ["a", "b"]) == [0, 1]
    assert soft_target(["b", "none", "a"], [0.3, 0.4, 0.3], ["a", "b", "c"]) == [0.5, 0.5, 0]
    for wrong in ((None, None), (["a"], [0.5, 0.5]), (["none"], [1.0]), (["a"], [float("nan")])):
        with pytest.raises(UnusableRowError):
            soft_target(*wrong, ["a", "b"])
    for label in (None, "c"):
        with pytest.raises(UnusableRowError):
            hard_target(label, ["a", "b"])
    found = balanced_weights(["a"] * 6 + ["b"] * 2)
    assert found == {"a": 8 / 12, "b": 2}
    assert 6 * found["a"] == 2 * found["b"]


def test_rare_classes_count_alike_where_that_is_wanted(
    run_stage: Run, encoder: ModelSource
) -> None:
    rows = [row for row in texts(90) if row["label"] != "sports" or row["id"].endswith("2")]
    run = trained(run_stage, encoder, rows, class_weights="balanced", max_steps=1)
    assert run.metrics["rows_by_class"]["sports"] < 10
    assert run.metrics["history"][0]["loss"] == pytest.approx(1.1, abs=0.3)


def test_rows_that_cannot_be_trained_on_are_counted(
    run_stage: Run, encoder: ModelSource, tmp_path: Path
) -> None:
    file = tmp_path / "labels.yaml"
    file.write_text("[sports, arts, weather]")
    rows = [
        *texts(12),
        {"id": "x", "text": "a goal", "label": None},
        {"id": "y", "text": " ", "label": "arts"},
    ]
    run = trained(run_stage, encoder, rows, labels=str(file), max_steps=1)
    assert run.dropped == {"a label that is no class": 4, "no label": 1, "no text": 1}
    assert run.metrics["classes"] == ["sports", "arts", "weather"]
    assert run.warnings == [
        f"'label' of 'r' has what is not in {file}: 'science' 4. That does not count: correct "
        "it, or add it to the list, unless the teacher abstains so",
        "no row has the label weather: it is hardly ever predicted. Add rows of it, or take it out "
        f"of {file}",
    ]
    with pytest.raises(DataError, match="have 1 label: arts; a classifier tells two or more apart"):
        trained(run_stage, encoder, [row for row in texts(9) if row["label"] == "arts"])


def test_what_makes_a_training_worth_little_is_said(
    run_stage: Run, encoder: ModelSource, tmp_path: Path
) -> None:
    spelled = [
        {**row, "label": row["label"].upper()} if i % 2 else row for i, row in enumerate(texts(12))
    ]
    (said,) = trained(run_stage, encoder, spelled, max_steps=1, at=tmp_path / "a").warnings
    assert "'ARTS' and 'arts'" in said


def test_words_that_the_tokenizer_does_not_know_are_said() -> None:
    """Of a tokenizer by bytes there are none."""
    said: list[str] = []
    context: Any = SimpleNamespace(warn=said.append)
    dataset = Dataset.from_dict({"input_ids": [[7, 1, 8, 1], [9, 9, 9, 9, 9, 9]]})
    _warn_of_unknown(context, dataset, 9, "m")
    (warning,) = said
    assert warning.startswith("60% of the tokens are unknown to the tokenizer of 'm'")
    _warn_of_unknown(context, dataset, 8, "m")
    _warn_of_unknown(context, dataset, None, "m")
    assert len(said) == 1


def test_texts_that_all_get_one_label_are_said(run_stage: Run, encoder: ModelSource) -> None:
    folder = trained(run_stage, encoder, texts(60), max_steps=1).model.directory
    asked = Classify(stage="classify", rows="r", model="m")
    source = ModelSource("m", str(folder), prompt_format="text")
    rows = [{"id": str(n), "text": "the goal"} for n in range(20)]
    (said,) = run_stage(asked, {"r": rows}, models={"m": source}).warnings
    assert said.startswith("all 20 texts got the label '")
    assert not run_stage(asked, {"r": rows[1:]}, models={"m": source}).warnings


def test_a_class_that_a_filter_has_emptied_is_said(
    run_stage: Run, encoder: ModelSource, tmp_path: Path
) -> None:
    """As `select` with at_least leaves them: the labels that there were are among the choices."""
    choices = {"choices": ["arts", "science", "sports", "weather"]}
    rows = [row | choices for row in texts(30) if row["label"] != "sports"]
    run = trained(run_stage, encoder, rows, max_steps=1)
    assert run.metrics["classes"] == ["arts", "science"]
    (said,) = run.warnings
    assert said.startswith(
        "no row of 'r' has the label sports, weather, which is among its choices: it is no class"
    )
    others = [row | {"choices": ["arts/1", "arts/2"]} for row in texts(30)]
    assert trained(run_stage, encoder, others, max_steps=1, at=tmp_path / "o").warnings == []
    shares = [row | {"probabilities": [0.5, 0.4, 0.1, 0.0]} for row in rows]
    soft = trained(run_stage, encoder, shares, max_steps=1, targets="soft", at=tmp_path / "s")
    assert soft.metrics["classes"] == choices["choices"]
    assert soft.warnings == [
        "no row has the label science, sports, weather: it is hardly ever predicted. Add rows of "
        "it, or name a list without it (labels)"
    ]


def test_a_training_that_was_cut_off_goes_on(
    run_stage: Run, encoder: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(BaseException): ...

    own = {"max_steps": 6, "save_steps": 2}
    whole = weights_of(trained(run_stage, encoder, texts(24), at=tmp_path / "whole", **own))
    original = WholeHistory.on_step_end

    def cut(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        original(self, args, state, control, **more)
        if state.global_step == 5:
            raise Cut

    monkeypatch.setattr(WholeHistory, "on_step_end", cut)
    with pytest.raises(Cut):
        trained(run_stage, encoder, texts(24), at=tmp_path / "cut", **own)
    monkeypatch.setattr(WholeHistory, "on_step_end", original)
    run = trained(run_stage, encoder, texts(24), at=tmp_path / "cut", **own)
    assert run.metrics["resumed_from_step"] == 4
    for name, weight in weights_of(run).items():
        assert torch.equal(weight, whole[name]), name


def test_held_out_rows_choose_the_best(run_stage: Run, encoder: ModelSource) -> None:
    made = stage(eval_rows="e", eval_steps=2, load_best_model_at_end=True, max_steps=8)
    run = run_stage(made, {"r": texts(60), "e": texts(30, seed=2)}, models={"m": encoder})
    losses = [point["eval_loss"] for point in run.metrics["history"] if "eval_loss" in point]
    assert len(losses) == 5  # before the first step, and four times
    assert losses[-1] < losses[0]
    assert "best_step" in run.metrics


def test_what_is_no_classifier_is_not_asked(
    run_stage: Run, encoder: ModelSource, text_model: ModelSource
) -> None:
    asked = Classify(stage="classify", rows="r", model="m")
    with pytest.raises(ModelError, match="is no classifier; train one"):
        run_stage(asked, {"r": texts(2)}, models={"m": text_model})
    run = trained(run_stage, text_model, texts(12), max_steps=1)
    with pytest.raises(ModelError, match="is a classifier, and writes nothing"):
        load_model(ModelSource("m", str(run.model.directory), prompt_format="text"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"on_collapse": "stop"}, "a classifier writes nothing to be looked at"),
        ({"peft": {}, "quantization": {"bits": 4}}, "the result is a whole model"),
        ({"peft": {}, "launch": {"strategy": "fsdp2"}}, "take ddp, or train all weights"),
        ({"peft": {"train_embeddings": True}}, "is for language models"),
        ({"labels": "nowhere.yaml"}, "labels: no file 'nowhere.yaml'"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        stage(**settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    "own", [{}, pytest.param({"peft": {"r": 4}}, marks=pytest.mark.exhaustive)]
)
def test_two_processes_train_what_one_does(
    encoder: ModelSource, tmp_path: Path, own: dict[str, Any]
) -> None:
    """Eleven rows, eight to a step: the second step of an epoch has three, for two to share."""
    from safetensors.torch import load_file

    from tests.training.test_ranks import train

    rows = [{**row, "sure": 0.5 + n % 3} for n, row in enumerate(texts(11))]
    common = {"train_batch_size": 8, "per_device_train_batch_size": 4, "weight_column": "sure"}
    found = []
    for processes in (1, 2):
        made = stage(launch={"processes": processes}, num_train_epochs=3, **common, **own)
        folder = tmp_path / str(processes)
        folder.mkdir()
        done = train(made, folder, rows, encoder)
        losses = [point["loss"] for point in done.manifest["metrics"]["history"]]
        found.append((losses, load_file(done.directory / "model.safetensors")))
    (losses, whole), (others, shared) = found
    assert losses == pytest.approx(others, abs=1e-5)
    for name, weight in whole.items():
        assert torch.allclose(weight, shared[name], atol=1e-4), name
