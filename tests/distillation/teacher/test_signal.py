"""A teacher that speaks in a way of its own: what the protocol has is all that a training asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from llm_distill.distillation.alignment.aligned import AlignedRow
from llm_distill.distillation.alignment.chunks import TokenScores
from llm_distill.distillation.alignment.encoding import EncodedRow, RowEncoder
from llm_distill.distillation.batches import Example, collate
from llm_distill.distillation.dataset import chunk_columns, chunks_of
from llm_distill.distillation.lm_head.head import Head
from llm_distill.distillation.losses.alm import AlmSettings
from llm_distill.distillation.losses.divergence import divergences_from_logits
from llm_distill.distillation.settings import DistillSettings, LossWeights
from llm_distill.models.sources import ModelSource
from llm_distill.training.data import NO_LOSS
from tests.distillation import tiny
from tests.distillation.trainers import trainer

if TYPE_CHECKING:
    from llm_distill.distillation.losses.loss import Divergences


class Agreeing:
    """Of batches: its distributions are the student's own."""

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, torch.Tensor]:
        said = torch.tensor([float(example["said"][0]) for example in examples])
        return collate(examples, pad_token_id) | {"said": said}

    def divergences(
        self,
        hidden: torch.Tensor,
        head: Head,
        batch: Any,
        divergences: Divergences,
    ) -> dict[str, torch.Tensor]:
        assert batch["said"].tolist() == [7.0] * len(tiny.ROWS)
        return divergences_from_logits(hidden, head, hidden.detach(), head, divergences)


@dataclass(frozen=True)
class Served:
    """As a server would say it: every token has the probability 1/e."""

    source: ModelSource
    encoder: RowEncoder
    settings: DistillSettings
    in_process = False

    def of_tokens(self, row: Any, teacher: EncodedRow) -> dict[str, Any]:
        return {"said": np.array([7], np.float32)}

    def of_chunks(
        self, row: Any, teacher: EncodedRow, found: AlignedRow, n_tokens: int
    ) -> tuple[dict[str, Any], AlignedRow]:
        scores = TokenScores(np.full(len(teacher.ids), -1.0), None)
        chunks = chunks_of(found, scores, self.settings.alm)
        return chunk_columns(chunks, n_tokens), chunks.aligned

    def open(self, student: Any, device: torch.device) -> Agreeing:
        return Agreeing()


def test_a_signal_of_its_own_reaches_dataset_batches_and_losses(
    student: ModelSource, tmp_path: Path
) -> None:
    settings = DistillSettings(
        losses=LossWeights(alm=1.0, forward_kl=1.0), alm=AlmSettings(debias=False)
    )
    made = trainer(student, student, settings, tmp_path / "run", signal=Served)
    dataset: Any = made.train_dataset
    for example in dataset:
        assert example["chunk_logps"].sum() == -(example["labels"] != NO_LOSS).sum()
    made.train()
    (point,) = [entry for entry in made.state.log_history if "loss" in entry]
    assert point["forward_kl"] == pytest.approx(0, abs=1e-5)
    assert point["alm"] > 0.1
