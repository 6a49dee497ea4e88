"""split_labels: a teacher's classes in parts, which a student learns and classify adds up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from llm_distill.errors import DataError
from llm_distill.models.class_embeddings import embedded, output_layer
from llm_distill.models.classifiers import load_classifier
from llm_distill.models.sources import ModelSource
from llm_distill.stages.split_labels import SplitLabels
from llm_distill.training.classifier import collate
from tests.training.test_classifier import Run, encoder, texts, trained
from tests.training.test_classifier_targets import asked

__all__ = ["encoder"]


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return texts(60)


def split(run_stage: Run, teacher: ModelSource, rows: list[Any], **settings: Any) -> Any:
    made = SplitLabels(stage="split_labels", rows="r", model="m", **{"parts": 2, **settings})
    return run_stage(made, {"r": rows}, models={"m": teacher})


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_embeddings_are_what_the_output_layer_reads(encoder: ModelSource, kind: str) -> None:
    """Alone and in a batch, padded, the same."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(0)
    if kind == "encoder":
        model = load_classifier(encoder, ["a", "b"]).eval()
    else:
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
        config = LlamaConfig(vocab_size=20, num_attention_heads=2, pad_token_id=0, **sizes)
        model = LlamaForSequenceClassification(config).eval()
    ids = [[5, 6, 7, 8], [9, 5]]
    with torch.no_grad():
        logits, found = embedded(model, collate([{"input_ids": each} for each in ids], 0))
        assert torch.allclose(output_layer(model)(found), logits, atol=1e-5)
        _, alone = embedded(model, collate([{"input_ids": ids[1]}], 0))
    assert torch.allclose(alone[0], found[1], atol=1e-5)


def test_a_student_of_parts(
    run_stage: Run, encoder: ModelSource, rows: list[Any], tmp_path: Path
) -> None:
    taught = trained(run_stage, encoder, rows, at=tmp_path / "teacher", num_train_epochs=6)
    teacher = ModelSource("m", str(taught.model.directory), prompt_format="text")
    odd = [{"id": "x", "text": " ", "label": "arts"}, {"id": "y", "text": "goal", "label": None}]
    run = split(run_stage, teacher, [*odd, *rows])
    assert run.dropped == {"no text": 1}
    assert run.rows[0]["choices"][:3] == ["arts/1", "arts/2", "science/1"]
    said = asked(run_stage, taught.model.directory, rows)
    for row, whole in zip(run.rows[1:], said, strict=True):
        p = row["probabilities"]
        sums = [p[0] + p[1], p[2] + p[3], p[4] + p[5]]
        assert sums == pytest.approx(whole["probabilities"], abs=1e-5)
    again = split(run_stage, teacher, [*odd, *rows], batch_size=7)
    for row, other in zip(run.rows, again.rows, strict=True):
        assert row["probabilities"] == pytest.approx(other["probabilities"], abs=1e-4)
    by_chance = split(run_stage, teacher, rows, by="random")
    assert by_chance.rows[0]["probabilities"] != run.rows[1]["probabilities"]

    own = {"targets": "soft", "num_train_epochs": 6}
    student = trained(run_stage, encoder, run.rows, at=tmp_path / "student", **own)
    assert len(student.metrics["classes"]) == 6
    found = asked(run_stage, student.model.directory, rows, merge_at="/")
    assert found[0]["choices"] == ["arts", "science", "sports"]
    assert sum(found[0]["probabilities"]) == pytest.approx(1, abs=1e-5)
    right = sum(row["label"] == of["label"] for row, of in zip(found, rows, strict=True))
    assert right >= 40  # 20 by chance
    with pytest.raises(DataError, match="merge_at: no class of model 'm' has '#' in its name"):
        asked(run_stage, student.model.directory, rows, merge_at="#")
    with pytest.raises(DataError, match="the class 'arts' has 1 texts .*; lower parts"):
        split(run_stage, teacher, rows[:3])
