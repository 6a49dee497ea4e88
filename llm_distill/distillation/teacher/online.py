"""A teacher in memory that scores each batch as it is read, in place of stored scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from llm_distill.distillation.alignment.chunks import TokenScores, at_tokens
from llm_distill.distillation.alignment.encoding import RowEncoder
from llm_distill.distillation.batches import collate
from llm_distill.distillation.dataset import Example, with_online_chunks
from llm_distill.distillation.lm_head.head import Head, head_logps
from llm_distill.distillation.lm_head.model_head import backbone_of, head_of
from llm_distill.distillation.losses.loss import Needs
from llm_distill.distillation.settings import DistillSettings
from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource, load_model
from llm_distill.training.data import NO_LOSS


@dataclass(frozen=True)
class OnlineTeacher:
    """Scores rows as `score_likelihood` does, in the training process.

    model: anything whose backbone and head give its distributions. A student that learns another
        tokenizer can be its own: the same weights, with its adapter off.
    opens: the set B over the teacher's vocabulary, bool [V].
    """

    model: Any
    head: Head
    opens: torch.Tensor
    pad_token_id: int

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def read(self, examples: Sequence[Example]) -> tuple[list[TokenScores], torch.Tensor]:
        """Scores by token of each row, and the hidden states that predict its tokens, [L, H].

        examples: with teacher_ids and teacher_in_loss, the indices of the tokens to be scored.
        """
        rows = [_as_training_row(example) for example in examples]
        device = self.head.weight.device
        batch = {name: t.to(device) for name, t in collate(rows, self.pad_token_id).items()}
        hidden = backbone_of(self.model)(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
        ).last_hidden_state
        read = hidden.flatten(0, 1)[batch["positions"]]
        logps, log_pbs = head_logps(read, self.head, batch["targets"], self.opens)
        assert log_pbs is not None
        found = logps[batch["labelled"]], log_pbs[batch["chunk_ends"]]
        if not all(values.isfinite().all() for values in found):
            raise ModelError(
                "the teacher in memory computes likelihoods that are no numbers; try another dtype "
                "for it"
            )
        per_row = np.cumsum([len(example["teacher_in_loss"]) for example in examples])[:-1]
        of_rows = (np.split(values.float().cpu().numpy(), per_row) for values in found)
        scores = [
            TokenScores(
                at_tokens(len(example["teacher_ids"]), example["teacher_in_loss"], own),
                at_tokens(len(example["teacher_ids"]), example["teacher_in_loss"], own_pbs),
            )
            for example, own, own_pbs in zip(examples, *of_rows, strict=True)
        ]
        return scores, read[batch["labelled"]]


@dataclass(frozen=True)
class OnlineCollator:
    """Rows to a batch, with what the teacher says of them."""

    teacher: OnlineTeacher
    settings: DistillSettings
    pad_token_id: int

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        scores, hidden = self.teacher.read(examples)
        if self.settings.losses.needing(Needs.CHUNKS):
            alm, pairs = self.settings.alm, zip(examples, scores, strict=True)
            examples = [with_online_chunks(example, own, alm) for example, own in pairs]
        batch = collate(examples, self.pad_token_id)
        needs_hidden = self.settings.losses.needing(Needs.DISTRIBUTIONS)
        return batch | ({"teacher_hidden": hidden} if needs_hidden else {})


def online_teacher(source: ModelSource, encoder: RowEncoder, device: torch.device) -> OnlineTeacher:
    """The teacher, on the device that training uses.

    Raises:
        ModelError: see `load_model` and `head_of`.
    """
    model = load_model(source, device=str(device)).requires_grad_(False)
    head = head_of(model)
    opens = torch.from_numpy(encoder.opens(len(head.weight))).to(device)
    return OnlineTeacher(model, head, opens, encoder.tokenizer.pad_token_id)


def _as_training_row(example: Example) -> Example:
    """The row as `collate` takes it: its scored tokens are labels, log p(B) is read behind each."""
    ids = np.asarray(example["teacher_ids"])
    index = np.asarray(example["teacher_in_loss"])
    labels = np.full(len(ids), NO_LOSS)
    labels[index] = ids[index]
    return {"input_ids": ids, "labels": labels, "chunk_ends": index}
