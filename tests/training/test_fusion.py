"""Classifiers whose teachers' ratios are learned: the outer gradient, a plan, a kill, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.evaluation.results import Results
from llm_distill.models.sources import ModelSource
from llm_distill.stages.combine_labels import CombineLabels
from llm_distill.training.fusion import FusionTrainer, moved
from llm_distill.training.loop import WholeHistory
from tests.training.test_classifier import (
    WORDS,
    Run,
    encoder,
    predictions,
    stage,
    texts,
    weights_of,
)

__all__ = ["encoder"]
NAMES = sorted(WORDS)
FUSED = {"targets": "soft", "fusion_rows": "held", "fusion_learning_rate": 0.004}
WRONG = ({"science": "sports"}, {"arts": "science"}, {"sports": "arts"})
"""Of three teachers, each of which takes a class of its own for another, always."""


def labelled(rows: list[dict[str, Any]], wrong: dict[str, str], sure: float) -> list[dict]:
    found = []
    for row in rows:
        said = wrong.get(row["label"], row["label"])
        p = [sure if name == said else (1 - sure) / 2 for name in NAMES]
        of = {"label": said, "choices": NAMES, "probabilities": p}
        found.append({**row, "right": row["label"], **of})
    return found


def together(run_stage: Run, rows: list[dict[str, Any]], sure: list[float]) -> list[dict]:
    of = {f"t{n}": labelled(rows, WRONG[n], each) for n, each in enumerate(sure)}
    made = CombineLabels(stage="combine_labels", rows=[*of], keep_each=True)
    found: list[dict] = run_stage(made, of).rows
    return found


def fused_student(
    run_stage: Run, source: ModelSource, rows: list[dict], at: Path | None = None, **own: Any
) -> Any:
    held = [
        {"id": r["id"], "text": r["text"], "reference_answer": r["label"]} for r in texts(45, 7)
    ]
    given = {"r": rows, "held": held}
    return run_stage(stage(**{**FUSED, **own}), given, models={"m": source}, work_dir=at)


def ratios(run: Any) -> dict[tuple[str, str], float]:
    (table,) = Results.from_metrics(run.metrics).own
    return {(f.labels["source"], f.labels["of"]): f.value for f in table.figures}


def test_the_gradient_is_that_of_a_real_student(
    run_stage: Run, encoder: ModelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One ratio is moved; the loss on the same validation rows after the same virtual step."""
    checked = []

    def teach(self: FusionTrainer, model: Any, batch: dict[str, torch.Tensor]) -> None:
        model.eval()
        own, found = self.outer_gradient(model, batch)
        before = [p.detach().clone() for p in model.parameters()]

        def after(text: int, source: int, by: float) -> float:
            forced = own.detach().clone()
            forced[text, source] += by
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(self, "_ratios", lambda *_: forced)
                targets, gold = batch["target"], batch.get("gold")
                texts_ = {k: v for k, v in batch.items() if k in ("input_ids", "attention_mask")}
                logits = model(**texts_).logits
                losses = self.objective(logits, self.wanted(logits, targets, gold))
                ways = torch.autograd.grad(losses.mean(), [*model.parameters()], allow_unused=True)
            here = [*model.parameters()]
            steps = [
                torch.zeros_like(p) if w is None else w for p, w in zip(here, ways, strict=True)
            ]
            with moved(here, steps, -self.args.learning_rate), torch.no_grad():
                return float(self._held_loss(model))

        for text, source in ((0, 0), (3, 1), (5, 2)):
            slope = (after(text, source, 0.5) - after(text, source, -0.5)) / 1.0
            checked.append((found[text, source].item(), slope))
        for p, was in zip(model.parameters(), before, strict=True):
            assert torch.equal(p, was)
        model.train()

    monkeypatch.setattr(FusionTrainer, "_teach", teach)
    rows = together(run_stage, texts(8), [0.9, 0.8])
    fused_student(run_stage, encoder, rows, gold_column="right", max_steps=1, learning_rate=0.3)
    assert len(checked) == 3
    for found, slope in checked:
        assert found == pytest.approx(slope, rel=0.05)
        assert abs(found) > 1e-5


def test_by_text_it_beats_the_mean(run_stage: Run, encoder: ModelSource, tmp_path: Path) -> None:
    """The first is surest, so that its mistakes have the last word in a mean."""
    rows = together(run_stage, texts(90), [0.98, 0.6, 0.6])
    assert [len(row["teacher_probabilities"]) for row in rows] == [9] * 90
    assert {row["label"] for row in rows if row["right"] == "science"} == {"sports"}
    own = {"num_train_epochs": 10}
    fused_run = fused_student(run_stage, encoder, rows, tmp_path / "fused", **own)
    found = ratios(fused_run)
    assert sum(found.values()) == pytest.approx(1)
    made = stage(targets="soft", **own)
    mean_run = run_stage(made, {"r": rows}, models={"m": encoder}, work_dir=tmp_path / "mean")
    held = texts(60, seed=1)
    right = [
        sum(row["label"] == of["label"] for row, of in zip(said, held, strict=True)) / 60
        for said in (predictions(run_stage, run.model.directory, held)
                     for run in (fused_run, mean_run))
    ]  # fmt: skip
    assert right[1] < 0.75
    assert right[0] > right[1] + 0.15


def test_it_goes_on_after_a_kill_as_if_there_had_been_none(
    run_stage: Run, encoder: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(BaseException): ...

    rows = together(run_stage, texts(24), [0.9, 0.8])
    own = {"max_steps": 4, "save_steps": 2}
    whole = fused_student(run_stage, encoder, rows, tmp_path / "whole", **own)
    original = WholeHistory.on_step_end

    def cut(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        original(self, args, state, control, **more)
        if state.global_step == 3:
            raise Cut

    monkeypatch.setattr(WholeHistory, "on_step_end", cut)
    with pytest.raises(Cut):
        fused_student(run_stage, encoder, rows, tmp_path / "cut", **own)
    monkeypatch.setattr(WholeHistory, "on_step_end", original)
    again = fused_student(run_stage, encoder, rows, tmp_path / "cut", **own)
    assert again.metrics["resumed_from_step"] == 2
    after = weights_of(again)
    for name, weight in weights_of(whole).items():
        assert torch.equal(weight, after[name]), name
    assert ratios(again) == ratios(whole)


def test_one_teacher_and_a_label_that_some_rows_lack(run_stage: Run, encoder: ModelSource) -> None:
    rows = labelled(texts(24), WRONG[0], 0.9)
    rows[0]["right"] = None
    run = fused_student(run_stage, encoder, rows, gold_column="right", max_steps=2)
    found = ratios(run)
    assert set(found) >= {
        ("teacher 1", "ratio"),
        ("the label", "ratio"),
        ("teacher 1", "where not"),
    }
    with pytest.raises(DataError, match="one teacher and no label beside it"):
        fused_student(run_stage, encoder, rows)
    two = together(run_stage, texts(4), [0.9, 0.8])
    of_one = {**two[0], "id": "x", "teacher_probabilities": two[0]["probabilities"]}
    with pytest.raises(DataError, match="the probabilities of 1, 2 teachers"):
        fused_student(run_stage, encoder, [*two, of_one])


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"targets": "hard"}, "targets: soft"),
        ({"gold_column": "right", "gold_weight": 0.5}, "leave out loss, gold_weight"),
        ({"class_weights": "balanced"}, "class_weights"),
        ({"fusion_rows": "r"}, "hold others out"),
        ({"eval_rows": "e"}, "leave eval_rows out"),
        ({"launch": {"processes": 2}}, "launch.processes: 1"),
        ({"fusion_rows": None}, "fusion_learning_rate needs fusion_rows"),
    ],
)
def test_what_does_not_go_together(own: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        stage(**{**FUSED, **own})


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"shuffle_weights": True}, "name the column with the weights"),
        (
            {"shuffle_weights": True, "weight_column": "w", "class_weights": "balanced"},
            "leave one out",
        ),
    ],
)
def test_weights_that_cannot_be_shuffled(own: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        stage(**own)
