"""Rows one after the other in one sequence, so that no token of a forward pass is padding.

    three rows of 5, 2 and 4 tokens    padded: 3 × 5 = 15 tokens    packed: 1 × 11

Positions begin anew with each row, and a model's attention sees where: a row is read as if alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from trl.data_utils import pack_dataset
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from llm_distill.errors import ModelError
from llm_distill.models.limits import n_rows

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = ("input_ids", "labels")


def packed(dataset: Dataset, length: int) -> Dataset:
    """Rows of `input_ids` and `labels` in packs of at most `length` tokens (best fit decreasing).

    No row is cut. A pack says in `seq_lengths` how long each of its rows is.
    """
    dataset = dataset.remove_columns([n for n in dataset.column_names if n not in COLUMNS])
    return pack_dataset(dataset, length, "bfd")


def check_rows_stay_apart(model: Any, pad_token_id: int) -> None:
    """Read two rows in one sequence and each alone.

    Raises:
        ModelError: the model does not read them alike, so it would be trained on something else.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    vocabulary = min(n_rows(inner), 64)
    rows = [[token % vocabulary for token in range(1, 9)], [token % vocabulary for token in (9, 3)]]
    collate = DataCollatorForLanguageModeling(pad_token_id, padding_free=True)
    batch = collate([{"input_ids": ids, "labels": ids} for ids in rows])
    batch.pop("labels")
    was_training = inner.training
    inner.eval()
    with torch.no_grad():
        found = inner(**_on(inner, batch), use_cache=False).logits[0].float()
        alone = [inner(**_on(inner, {"input_ids": torch.tensor([ids])})).logits[0] for ids in rows]
    inner.train(was_training)
    wanted = torch.cat(alone).float()
    allowed = 1e-3 if inner.dtype == torch.float32 else 5e-2
    if (found - wanted).abs().max() > allowed * wanted.abs().max():
        raise ModelError(
            f"{type(inner).__name__} (type {inner.config.model_type}) reads rows that stand in one "
            "sequence otherwise than alone, so it cannot be trained on packed rows; leave packing "
            "and padding_free out"
        )


def _on(model: Any, batch: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.to(model.device) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
    }
