"""Rows of token ids to the batches of the training loop, padded on the right.

Only positions whose output is read are listed, so the head is computed for these alone: the one
before each token in the loss, and the one of each chunk's last token, for log p(boundary).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from llm_distill.training.data import NO_LOSS

Example = dict[str, Any]
"""Of a row: input_ids [T], labels [T] and, for ALM, chunk_of [T], chunk_logps [C], chunk_ends [C].

chunk_of: the chunk of each token, −1 for none. chunk_logps: the teacher's side of each chunk.
chunk_ends: the index of each chunk's last token, −1 where log p(boundary) is not counted.
For losses on sampled tokens: rollout_logps [T], by whoever sampled them, NaN where nobody knows;
chunk_is_token [C], the chunk is one token, the same for teacher and student; first_tokens [1], how
many of the completion's tokens they are of, missing where of all.
"""


def collate(examples: Sequence[Example], pad_token_id: int) -> dict[str, torch.Tensor]:
    """A batch; B rows, T tokens in the longest, N positions that are read, C chunks, L labels.

    input_ids, attention_mask: [B, T].
    positions: [N], into the hidden states as [B · T, H]. targets: [N], the token that follows; 0
        where none is asked for.
    labelled: [L], the positions whose target counts in the losses by token, as indices of N.
    own: those of them that are in texts of the rows' own, and not in what the student wrote.
    chunk_of: [N], the chunk that the target belongs to, −1 for none.
    chunk_logps: float32 [C]. chunk_open: bool [C], log p(boundary) counts, at chunk_ends [C], of N.
    Where the rows have them, rollout_logps: float32 [N], of the targets; chunk_is_token: bool [C];
        sampled: those of `labelled` that losses on sampled tokens are of;
        top_ids and top_logps [L, k]: the teacher's likeliest tokens.
    """
    longest = max(len(example["input_ids"]) for example in examples)
    ids = np.full((len(examples), longest), pad_token_id, dtype=np.int64)
    mask = np.zeros((len(examples), longest), dtype=np.int64)
    parts: dict[str, list[NDArray[Any]]] = {}
    n_read = n_chunks = 0
    for row, example in enumerate(examples):
        tokens = np.asarray(example["input_ids"])
        ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        read = _read(example)
        read["positions"] += row * longest
        read["labelled"] += n_read
        read["own"] += n_read
        if "sampled" in read:
            read["sampled"] += n_read
        read["chunk_ends"] += n_read
        read["chunk_of"][read["chunk_of"] >= 0] += n_chunks
        n_read += len(read["positions"])
        n_chunks += len(read["chunk_ends"])
        for name, values in read.items():
            parts.setdefault(name, []).append(values)
    whole = {name: np.concatenate(values) for name, values in parts.items()}
    arrays = {"input_ids": ids, "attention_mask": mask, **whole}
    return {name: torch.from_numpy(values) for name, values in arrays.items()}


def spans(examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    """The S aligned chunks of a batch, as what they are on both sides; rows one after another.

    examples: with the arrays of an `AlignedRow`, chunk_kinds, teacher_ids and teacher_in_loss.

    Returns:
        span_tokens: int64, indices of `labelled` in `collate`, span after span; span_sizes:
        int64 [S], tokens in each. teacher_span_tokens, teacher_span_sizes: likewise, as indices of
        the teacher's tokens in the loss. teacher_targets: int64, these tokens. span_kinds: int64
        [S]; chunks whose tokens cannot be compared are left out (see `alignment.shared.Kind`).
    """
    parts: dict[str, list[NDArray[Any]]] = {}
    n_labelled = n_teacher = 0
    for example in examples:
        labelled = np.flatnonzero(_is_labelled(example))
        in_loss = np.asarray(example["teacher_in_loss"], dtype=np.int64)
        found = {"teacher_targets": np.asarray(example["teacher_ids"], dtype=np.int64)[in_loss]}
        kinds = np.asarray(example["chunk_kinds"], dtype=np.int64)
        found["span_kinds"] = kinds[kinds >= 0]
        sides = ("", "student", labelled, n_labelled), ("teacher_", "teacher", in_loss, n_teacher)
        for name, side, places, before in sides:
            first, last = (
                np.asarray(example[f"{side}_{end}"])[kinds >= 0] for end in ("first", "last")
            )
            sizes = last - first + 1
            starts = np.repeat(np.searchsorted(places, first) - np.cumsum(sizes) + sizes, sizes)
            found[f"{name}span_tokens"] = starts + np.arange(sizes.sum()) + before
            found[f"{name}span_sizes"] = sizes
        n_labelled, n_teacher = n_labelled + len(labelled), n_teacher + len(in_loss)
        for name, values in found.items():
            parts.setdefault(name, []).append(values.astype(np.int64))
    return {name: torch.from_numpy(np.concatenate(values)) for name, values in parts.items()}


def _is_labelled(example: Example) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.asarray(example["labels"]) != NO_LOSS
    found[0] = False  # nothing comes before it that could predict it
    return found


def _read(example: Example) -> dict[str, NDArray[Any]]:
    """What is read of a row; positions are its own, chunks are numbered from 0."""
    tokens = np.asarray(example["input_ids"], dtype=np.int64)
    chunk_of = np.asarray(example.get("chunk_of", np.full(len(tokens), -1)), dtype=np.int64)
    ends = np.asarray(example.get("chunk_ends", ()), dtype=np.int64)
    is_labelled = _is_labelled(example)
    before = np.flatnonzero(is_labelled | (chunk_of >= 0)) - 1
    positions = np.union1d(before, ends[ends >= 0])
    follows = np.minimum(positions + 1, len(tokens) - 1)
    is_target = np.isin(positions, before)
    labelled = np.searchsorted(positions, np.flatnonzero(is_labelled) - 1)
    return {
        "positions": positions,
        "targets": np.where(is_target, tokens[follows], 0),
        "labelled": labelled,
        "own": labelled[:0] if example.get("is_rollout") else labelled.copy(),
        "chunk_of": np.where(is_target, chunk_of[follows], -1),
        "chunk_logps": np.asarray(example.get("chunk_logps", ()), dtype=np.float32),
        "chunk_open": ends >= 0,
        "chunk_ends": np.searchsorted(positions, np.maximum(ends, 0)) if len(ends) else ends,
        **_sampled(example, np.where(is_target, follows, 0), labelled),
        **_top(example, int(is_labelled.sum())),
    }


def _sampled(
    example: Example, targets: NDArray[Any], labelled: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    """targets: which of the row's tokens they are; 0 for none, which nobody samples."""
    if "rollout_logps" not in example:
        return {}
    first = example.get("first_tokens")
    return {
        "sampled": labelled[: None if first is None else int(first[0])].copy(),
        "rollout_logps": np.asarray(example["rollout_logps"], dtype=np.float32)[targets],
        "chunk_is_token": np.asarray(example["chunk_is_token"], dtype=np.bool_),
    }


def _top(example: Example, n_labels: int) -> dict[str, NDArray[Any]]:
    """Stored flat, k tokens a label."""
    if "top_ids" not in example:
        return {}
    ids, logps = np.asarray(example["top_ids"]), np.asarray(example["top_logps"])
    k = len(ids) // n_labels
    return {
        "top_ids": ids.astype(np.int64).reshape(-1, k),
        "top_logps": logps.astype(np.float32).reshape(-1, k),
    }
