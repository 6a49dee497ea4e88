"""Classifiers of several labels, and losses with a gold label: the same however a step is cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.methods.class_targets import several_hard_target, several_soft_target
from llm_distill.models.sources import ModelSource
from llm_distill.rows.unusable import UnusableRowError
from llm_distill.stages.classify import Classify
from tests.training.test_classifier import (
    WORDS,
    Run,
    encoder,
    stage,
    texts,
    trained,
    weights_of,
)

__all__ = ["encoder"]
NAMES = sorted(WORDS)
PLD = {"targets": "soft", "loss": "pld", "gold_column": "right", "gold_weight": 0.25}


def of_sets(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """A text has words of its labels, of which every fourth text has none."""
    found = []
    for index, row in enumerate(texts(n, seed)):
        first, second = NAMES[index % 3], NAMES[(index // 3) % 3]
        labels = [] if index % 4 == 3 else sorted({first, second})
        words = [word for label in labels for word in WORDS[label][:3]] or ["the", "of", "and"]
        found.append({**row, "text": " ".join(words), "labels": labels})
    return found


def judged(n: int) -> list[dict[str, Any]]:
    """Rows with a teacher's probabilities, which are wrong about every fifth."""
    found = []
    for index, row in enumerate(texts(n)):
        likeliest = NAMES[(NAMES.index(row["label"]) + (index % 5 == 0)) % 3]
        shares = [
            0.6 if name == likeliest else 0.1 + 0.2 * (i == 1) for i, name in enumerate(NAMES)
        ]
        probabilities = [share / sum(shares) for share in shares]
        found.append({**row, "choices": NAMES, "probabilities": probabilities})
    return [{**row, "right": row["label"]} for row in found]


def asked(run_stage: Run, folder: Path, rows: list[Any], **settings: Any) -> list[dict[str, Any]]:
    made = Classify(stage="classify", rows="r", model="m", **settings)
    source = ModelSource("m", str(folder), prompt_format="text")
    found: list[dict[str, Any]] = run_stage(made, {"r": rows}, models={"m": source}).rows
    return found


def test_several_labels_are_learned_and_given(run_stage: Run, encoder: ModelSource) -> None:
    run = trained(run_stage, encoder, of_sets(120), several=True, num_train_epochs=10)
    assert run.metrics["rows_without_label"] == 30
    assert run.dropped == {}
    config = json.loads((run.model.directory / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    held = of_sets(40, seed=1)
    found = asked(run_stage, run.model.directory, held, several=True)
    right = sum(row["labels"] == of["labels"] for row, of in zip(found, held, strict=True))
    assert right >= 34
    assert [] in [row["labels"] for row in found]
    assert any(sum(row["probabilities"]) > 1.2 for row in found)
    strict = asked(run_stage, run.model.directory, held, several=True, threshold=0.99)
    assert sum(len(row["labels"]) for row in strict) < sum(len(row["labels"]) for row in found)
    one = asked(run_stage, run.model.directory, held[:1], several=True)[0]
    assert one["probabilities"] == pytest.approx(found[0]["probabilities"], abs=1e-5)
    with pytest.raises(DataError, match="trained to give a text several labels; set several: true"):
        asked(run_stage, run.model.directory, held)


@pytest.mark.parametrize("kind", ["several", "pld", "logit_mse"])
def test_a_step_is_the_same_however_it_is_cut(
    run_stage: Run, encoder: ModelSource, kind: str, tmp_path: Path
) -> None:
    """Texts differ in length, rows in weight, and the last step has fewer."""
    own = {"several": {"several": True}, "pld": PLD, "logit_mse": {**PLD, "loss": "logit_mse"}}
    rows = [{**row, "sure": 0.2 + n % 4} for n, row in
            enumerate(of_sets(13) if kind == "several" else judged(13))]  # fmt: skip
    if kind == "logit_mse":
        rows[3]["right"] = None  # it learns from its teacher alone
    common = {"train_batch_size": 8, "weight_column": "sure", "num_train_epochs": 2, **own[kind]}
    whole, cut = (
        trained(
            run_stage, encoder, rows, per_device_train_batch_size=n, at=tmp_path / str(n), **common
        )
        for n in (8, 3)
    )
    losses = [[point["loss"] for point in run.metrics["history"]] for run in (whole, cut)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    after = weights_of(cut)
    for name, weight in weights_of(whole).items():
        assert torch.allclose(weight, after[name], atol=1e-4), name


def test_a_gold_label_of_weight_1_is_the_label_alone(
    run_stage: Run, encoder: ModelSource, tmp_path: Path
) -> None:
    mixed = {"targets": "soft", "gold_column": "right", "gold_weight": 1}
    one, other = (
        weights_of(trained(run_stage, encoder, judged(24), max_steps=3, at=tmp_path / name, **own))
        for name, own in (("mixed", mixed), ("hard", {"label_column": "right"}))
    )
    for name in one:
        assert torch.allclose(one[name], other[name], atol=1e-6), name


def test_rows_that_have_no_gold_label(run_stage: Run, encoder: ModelSource) -> None:
    rows = judged(12)
    rows[0]["right"], rows[1]["right"] = None, "weather"
    run = trained(run_stage, encoder, rows, max_steps=1, **PLD)
    assert run.dropped == {"no gold label": 1, "a gold label that is no class": 1}
    mixed = {"targets": "soft", "gold_column": "right", "gold_weight": 0.5}
    run = trained(run_stage, encoder, rows, max_steps=1, **mixed)
    assert run.dropped == {"a gold label that is no class": 1}


def test_targets_of_several_by_hand() -> None:
    assert several_hard_target(["b"], ["a", "b"]) == [0, 1]
    assert several_hard_target([], ["a", "b"]) == [0, 0]
    assert several_soft_target(["b", "a"], [0.9, 0.8], ["a", "b"]) == [0.8, 0.9]
    for labels in (None, "a", ["a", "c"]):
        with pytest.raises(UnusableRowError):
            several_hard_target(labels, ["a", "b"])
    for p in ([0.5], [0.5, 1.5], [0.5, None], [0.5, float("nan")]):
        with pytest.raises(UnusableRowError):
            several_soft_target(["a", "b"], p, ["a", "b"])


def test_one_label_and_several_are_not_mixed(run_stage: Run, encoder: ModelSource) -> None:
    with pytest.raises(DataError, match="holds text, and several: true reads lists of labels"):
        trained(run_stage, encoder, texts(6), several=True, label_column="label")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"loss": "pld"}, "name its column .gold_column"),
        ({"gold_weight": 0.5}, "name the column with the right label"),
        ({"gold_column": "x"}, "changes nothing without gold_weight, fusion_rows or loss: pld"),
        ({"gold_column": "x", "gold_weight": 0.5}, "go with a teacher's targets: soft"),
        ({"loss": "logit_mse"}, "go with a teacher's targets: soft"),
        ({"several": True, "class_weights": "balanced"}, "are for one label a text"),
        (
            {"several": True, "targets": "soft", "gold_column": "x", "gold_weight": 1},
            "for one label",
        ),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        stage(**settings)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_two_processes_train_what_one_does(encoder: ModelSource, tmp_path: Path) -> None:
    """With gold labels in some rows only, and a last step of three rows for two to share."""
    from safetensors.torch import load_file

    from tests.training.test_ranks import train

    rows = [{**row, "right": row["right"] if n % 3 else None} for n, row in enumerate(judged(11))]
    own = {**PLD, "loss": "cross_entropy", "train_batch_size": 8, "per_device_train_batch_size": 4}
    found = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        made = stage(launch={"processes": processes}, num_train_epochs=2, **own)
        done = train(made, folder, rows, encoder)
        losses = [point["loss"] for point in done.manifest["metrics"]["history"]]
        found.append((losses, load_file(done.directory / "model.safetensors")))
    (losses, whole), (others, shared) = found
    assert losses == pytest.approx(others, abs=1e-5)
    for name, weight in whole.items():
        assert torch.allclose(weight, shared[name], atol=1e-4), name


def test_an_abstention_is_a_class_only_if_a_list_says_so(
    run_stage: Run, encoder: ModelSource, tmp_path: Path
) -> None:
    """As `label` with abstain gives them: the label is null, the choices are not."""
    choices = {"choices": [*NAMES, "other"]}
    rows = [{**row, **choices, "probabilities": [*row["probabilities"], 0]} for row in judged(12)]
    rows[3] |= {"label": None, "probabilities": [0.1, 0, 0, 0.9]}
    with pytest.raises(DataError, match=r"row 0-3 of 'r' has no label, and 'other' is .*labels"):
        trained(run_stage, encoder, rows, targets="soft", max_steps=1)
    for more in ("", ", other"):
        file = tmp_path / f"labels{len(more)}.yaml"
        file.write_text(f"[{', '.join(NAMES)}{more}]")
        own = {"targets": "soft", "labels": str(file), "max_steps": 1, "at": tmp_path / file.stem}
        metrics = trained(run_stage, encoder, rows, **own).metrics
        assert metrics["classes"] == [*NAMES, *(["other"] if more else [])]
        assert metrics["n_rows"] == 12
