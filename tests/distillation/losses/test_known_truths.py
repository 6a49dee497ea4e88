"""The losses in worlds whose truth is known, and the guards on what such a student writes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llm_distill.methods.rollouts import Limits, Rollout, Watched, repeated, trouble, watched
from scripts.on_policy_truths import (
    AFTER,
    BEFORE,
    LENGTHS,
    LONGEST,
    TEACHER,
    TEACHER_RETURNS,
    Writer,
    fitted,
    learned_to_return,
    share_on_path,
)


def test_what_a_student_never_visits_it_does_not_learn() -> None:
    off_policy = learned_to_return(from_own_texts=False)
    on_policy = learned_to_return(from_own_texts=True)
    assert on_policy == pytest.approx(TEACHER_RETURNS, abs=1e-3)
    # On the path a step errs in 5 %: without a way back 0.95 of a share is left after each.
    for n, truth in zip(LENGTHS, (0.80, 0.66, 0.48, 0.29), strict=True):
        assert 0.95 * (1 - 0.95**n) / (1 - 0.95) / n == pytest.approx(truth, abs=0.005)
        assert share_on_path(n, off_policy) == pytest.approx(truth, abs=0.02)
        assert share_on_path(n, on_policy) == pytest.approx(0.95, abs=0.005)


def test_forward_kl_covers_both_modes_and_reverse_kl_takes_one() -> None:
    forward = fitted("forward_kl")
    assert (forward.mean, forward.deviation) == pytest.approx((0, math.sqrt(10)), abs=0.05)
    for start, mode in ((2.0, 3), (-2.0, -3)):
        reverse = fitted("reverse_kl", start)
        assert (reverse.mean, reverse.deviation) == pytest.approx((mode, 1), abs=0.05)
        assert reverse.kl == pytest.approx(math.log(2), abs=0.01)


def written(writer: Writer, n: int) -> Watched:
    """Figures of n texts, where a loop says one word again."""
    random, texts = np.random.default_rng(0), []
    for number in range(n):
        state, words = "free", []
        while state in ("free", "loop") and len(words) < LONGEST:
            words.append(f"w{len(words)}" if state == "free" else "so")
            if state == "free":
                chances = [1 - writer.ends - writer.enters, writer.enters, writer.ends]
            else:
                chances = [0, writer.stays, 1 - writer.stays]
            state = str(random.choice(["free", "loop", "end"], p=chances))
        text, is_cut = " ".join(words), state != "end"
        id_ = str(number)
        texts.append(Rollout(id_, id_, len(text), is_cut, False, repeated(text), len(words)))
    return watched(texts)


def test_matching_the_teacher_in_a_loop_makes_texts_long_and_the_guard_sees_it() -> None:
    assert [w.mean for w in (BEFORE, AFTER, TEACHER)] == pytest.approx([7.5, 18.9, 10.2], abs=0.05)
    assert AFTER.cut == pytest.approx(0.08, abs=0.005)
    first, now = written(BEFORE, 400), written(AFTER, 400)
    assert now.mean_tokens == pytest.approx(AFTER.mean, abs=2)
    assert now.truncated == pytest.approx(AFTER.cut, abs=0.03)
    assert now.repetition > 3 * first.repetition
    limits = Limits(truncated=0.1, repetition=0.4, growth=2.0)
    assert trouble(first, None, limits) is None
    for at, limit in ((limits, "growth"), (Limits(0.05, 0.4, None), "truncated")):
        found = trouble(now, first, at)
        assert found is not None
        assert found.limit == limit
    assert trouble(written(TEACHER, 400), first, limits) is None
