"""What a batch lists of its rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llm_distill.distillation.batches import collate, spans
from llm_distill.distillation.lm_head.head import Head
from llm_distill.distillation.losses.objective import Objective, counts
from llm_distill.distillation.settings import DistillSettings, LossWeights

NO = -100
EXAMPLES = [
    {  # prompt 5 6, answer 7 8 with its end 1; chunks: 7 8 | 1, the second is not debiased
        "input_ids": np.array([5, 6, 7, 8, 1], np.int32),
        "labels": np.array([NO, NO, 7, 8, 1], np.int32),
        "chunk_of": np.array([-1, -1, 0, 0, 1], np.int32),
        "chunk_logps": np.array([-1.0, -2.0], np.float32),
        "chunk_ends": np.array([3, -1], np.int32),
    },
    {  # a document: its first token is not predicted, log p(boundary) is read after its last
        "input_ids": np.array([9, 4, 3], np.int32),
        "labels": np.array([9, 4, 3], np.int32),
        "chunk_of": np.array([-1, -1, 0], np.int32),
        "chunk_logps": np.array([-3.0], np.float32),
        "chunk_ends": np.array([2], np.int32),
    },
]


def test_positions_and_what_is_read_there():
    batch = {name: tensor.tolist() for name, tensor in collate(EXAMPLES, 0).items()}
    assert batch == {
        "input_ids": [[5, 6, 7, 8, 1], [9, 4, 3, 0, 0]],
        "attention_mask": [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]],
        "positions": [1, 2, 3, 5, 6, 7],
        "targets": [7, 8, 1, 4, 3, 0],
        "labelled": [0, 1, 2, 3, 4],
        "own": [0, 1, 2, 3, 4],
        "chunk_of": [0, 0, 1, -1, 2, -1],
        "chunk_logps": [-1.0, -2.0, -3.0],
        "chunk_open": [True, False, True],
        "chunk_ends": [2, 0, 5],
    }
    assert counts(collate(EXAMPLES, 0)).tolist() == [5, 3, 5, 0, 0]


def test_what_the_student_wrote_is_labelled_and_not_the_row_s_own():
    batch = collate([{**EXAMPLES[0], "is_rollout": True}, EXAMPLES[1]], 0)
    assert batch["labelled"].tolist() == [0, 1, 2, 3, 4]
    assert batch["own"].tolist() == [3, 4]
    assert counts(batch).tolist() == [5, 3, 2, 0, 0]


def test_rows_without_chunks():
    batch = collate([{name: EXAMPLES[0][name] for name in ("input_ids", "labels")}], 0)
    assert batch["positions"].tolist() == [1, 2, 3]
    assert counts(batch).tolist() == [3, 0, 3, 0, 0]


def test_spans_are_listed_by_the_tokens_of_both_sides():
    """Numbered as the labelled tokens of the batch, and as the teacher's in the loss."""
    first = {  # chunks: 7 | 8 1; the teacher has them as 21 22 | 23, and 24 in none
        **EXAMPLES[0],
        "chunk_kinds": [1, 0],
        **{"student_first": [2, 3], "student_last": [2, 4]},
        **{"teacher_first": [1, 3], "teacher_last": [2, 3]},
        **{"teacher_ids": [20, 21, 22, 23, 24], "teacher_in_loss": [1, 2, 3, 4]},
    }
    second = {  # one chunk: 3, whose token before is labelled as well
        **EXAMPLES[1],
        "chunk_kinds": [-1, 0],  # the one before it is not compared
        **{"student_first": [1, 2], "student_last": [1, 2]},
        **{"teacher_first": [2, 3], "teacher_last": [2, 4]},
        **{"teacher_ids": [30, 31, 32, 33, 34], "teacher_in_loss": [2, 3, 4]},
    }
    found = {name: tensor.tolist() for name, tensor in spans([first, second]).items()}
    assert found == {
        "span_tokens": [0, 1, 2, 4],
        "span_sizes": [1, 2, 1],
        "span_kinds": [1, 0, 0],
        "teacher_span_tokens": [0, 1, 2, 5, 6],
        "teacher_span_sizes": [2, 1, 2],
        "teacher_targets": [21, 22, 23, 24, 32, 33, 34],
    }
    assert counts(collate([first, second], 0) | spans([first, second])).tolist() == [5, 3, 5, 3, 0]


def objective(**losses: float) -> Objective:
    return Objective(DistillSettings(losses=LossWeights(**losses)), torch.arange(12) % 3 == 0)


@pytest.mark.parametrize("padding", [0, 7])
def test_order_and_padding_do_not_count(padding):
    """Each token's hidden state is its own id's, so a row's are the same wherever it stands."""
    torch.manual_seed(0)
    head, states = Head(torch.randn(12, 4)), torch.randn(12, 4)
    long = {"input_ids": np.full(9, 2, np.int32), "labels": np.full(9, NO, np.int32)}
    empty = {"chunk_logps": np.zeros(0, np.float32), "chunk_ends": np.zeros(0, np.int32)}
    long |= {"chunk_of": np.full(9, -1, np.int32), **empty}
    found = []
    for examples in (EXAMPLES, EXAMPLES[::-1], [long, *EXAMPLES], [EXAMPLES[1], long, EXAMPLES[0]]):
        batch = collate(examples, padding)
        sums = objective(alm=1, sft=1).sums(states[batch["input_ids"]], head, batch)
        found.append({name: value.item() for name, value in sums.items()})
    assert all(one == pytest.approx(found[0], rel=1e-6) for one in found[1:])
    assert found[0]["alm"] > 0
