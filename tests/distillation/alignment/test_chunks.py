"""Merging chunks and summing what a teacher says of them, against loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_distill.distillation.alignment.aligned import AlignedRow
from llm_distill.distillation.alignment.chunks import TokenScores, merged_into_next, teacher_chunks
from llm_distill.distillation.losses.alm import AlmSettings


@st.composite
def rows(draw):
    """A row of a few contents: chunks that follow each other, with gaps before some."""
    spans = ([], [])
    at = [1, 1]
    ends = []
    for _ in range(draw(st.integers(0, 8))):
        for side in range(2):
            at[side] += draw(st.sampled_from([0, 0, 0, 2]))  # tokens in no chunk
            n = draw(st.integers(1, 3))
            spans[side].append((at[side], at[side] + n - 1))
            at[side] += n
        ends.append(draw(st.sampled_from([False, False, True])))
    index = [np.array(part, np.int64).reshape(-1, 2) for part in spans]
    aligned = AlignedRow(*index[0].T, *index[1].T, np.array(ends, np.bool_), 0, 0)
    keep = np.array([draw(st.booleans()) for _ in ends], np.bool_)
    return aligned, keep, at[0]


def spans_of(aligned):
    return list(
        zip(
            aligned.teacher_first.tolist(),
            aligned.teacher_last.tolist(),
            aligned.student_first.tolist(),
            aligned.student_last.tolist(),
            aligned.is_end.tolist(),
            strict=True,
        )
    )


def merged_one_by_one(aligned, keep):
    found, open_since, before = [], None, None
    for span, kept in zip(spans_of(aligned), keep, strict=True):
        a_first, a_last, b_first, b_last, is_end = span
        follows = before is not None and (a_first, b_first) == (before[1] + 1, before[3] + 1)
        if not follows or open_since is None:
            open_since = (a_first, b_first)
        if kept:
            found.append((open_since[0], a_last, open_since[1], b_last, is_end))
            open_since = None
        before = span
    return found


@given(rows())
def test_merging_is_that_of_a_loop(case):
    aligned, keep, _ = case
    assert spans_of(merged_into_next(aligned, keep)) == merged_one_by_one(aligned, keep)


@given(rows(), st.integers(0, 2**32 - 1))
def test_the_teachers_side_is_that_of_a_loop(case, seed):
    aligned, _, n_tokens = case
    generator = np.random.default_rng(seed)
    logps, boundary_logps = (np.log(generator.uniform(0.01, 1, n_tokens + 3)) for _ in range(2))
    logps[0] = np.nan  # a token that is not in the loss
    scores = TokenScores(logps, boundary_logps)
    found = teacher_chunks(aligned, scores, AlmSettings(gamma=0.3))
    sure = [
        is_end or np.exp(boundary_logps[last]) >= 0.3 for _, last, _, _, is_end in spans_of(aligned)
    ]
    expected = [
        sum(logps[first : last + 1]) + (0 if is_end else boundary_logps[last])
        for first, last, _, _, is_end in merged_one_by_one(aligned, sure)
    ]
    assert found.logps.tolist() == pytest.approx(expected, rel=1e-5)
    assert found.is_open.tolist() == [not end for end in found.aligned.is_end]
    plain = teacher_chunks(aligned, TokenScores(logps, None), AlmSettings(debias=False))
    expected = [sum(logps[first : last + 1]) for first, last, *_ in spans_of(aligned)]
    assert plain.logps.tolist() == pytest.approx(expected, rel=1e-5)
    assert not plain.is_open.any()


@pytest.mark.parametrize("debias", [False, True])
def test_nan_spoils_its_chunk_and_no_other(debias):
    """Chunks 1–2, 3 and 5–6 of tokens 0–7: 0, 4 and 7 are in none."""
    first, last = np.array([1, 3, 5]), np.array([2, 3, 6])
    aligned = AlignedRow(first, last, first, last, np.zeros(3, np.bool_), 0, 0)
    logps = -np.arange(1.0, 9)
    for token, chunk in enumerate([None, 0, 0, 1, None, 2, 2, None]):
        spoilt = np.where(np.arange(8) == token, np.nan, logps)
        scores = TokenScores(spoilt, np.zeros(8))
        found = teacher_chunks(aligned, scores, AlmSettings(debias=debias)).logps
        expected = np.array([-5.0, -4.0, -13.0])
        if chunk is not None:
            expected[chunk] = np.nan
        np.testing.assert_array_equal(found, expected)


def test_debiasing_needs_what_it_adds():
    empty = np.zeros(0, np.int64)
    aligned = AlignedRow(empty, empty, empty, empty, np.zeros(0, np.bool_), 0, 0)
    with pytest.raises(ValueError, match=r"log p\(boundary\)"):
        teacher_chunks(aligned, TokenScores(np.zeros(3), None), AlmSettings())
