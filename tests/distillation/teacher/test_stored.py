"""Stored scores as a training reads them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from llm_distill.distillation.alignment.encoding import Content, EncodedRow
from llm_distill.distillation.lm_head.head import Head
from llm_distill.distillation.losses.divergence import divergences_from_top
from llm_distill.distillation.teacher.stored import StoredScores
from llm_distill.errors import DataError
from tests.distillation.losses.test_divergence import DIVERGENCES

SETTINGS: Any = None
STORED = StoredScores("r", "t", "t 1", 5, SETTINGS)
CONTENT = Content(1, 2, b"x", np.array([1]), is_closed=False)
ONE_TOKEN = EncodedRow(np.array([1, 2], np.int32), (CONTENT,))


def row(*logps: float) -> dict[str, Any]:
    return {"id": "a", "teacher_top_ids": [3, 0, 4], "teacher_top_logps": list(logps)}


def test_a_likely_token_that_the_teacher_holds_impossible_counts_for_nothing() -> None:
    """As where top_k is more than a model that masks tokens leaves."""
    found = STORED.top(row(math.log(0.6), math.log(0.4), -math.inf), ONE_TOKEN)
    torch.manual_seed(0)
    hidden, head = torch.randn(1, 4), Head(torch.randn(5, 4))
    ids = torch.from_numpy(found["top_ids"]).long()[None]
    logps = torch.from_numpy(found["top_logps"])[None]
    of_three = divergences_from_top(hidden, head, ids, logps, DIVERGENCES)
    of_two = divergences_from_top(hidden, head, ids[:, :2], logps[:, :2], DIVERGENCES)
    assert float(of_three["forward_kl"]) == pytest.approx(float(of_two["forward_kl"]), abs=1e-4)
    assert all(value.isfinite() for value in of_three.values())


@pytest.mark.parametrize("odd", [math.nan, math.inf, 0.5])
def test_what_is_no_log_probability_is_refused(odd: float) -> None:
    with pytest.raises(DataError, match="row a of 'r': teacher_top_logps holds .* not a log"):
        STORED.top(row(-0.5, -1.0, odd), ONE_TOKEN)
