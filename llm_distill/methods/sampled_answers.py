"""Several answers to one item, drawn from one model: pass@k and the majority's answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

from llm_distill.methods.answers import AnswerKind, answers_equal


def pass_at_k(n: int, n_correct: int, k: int) -> float:
    """The chance that k of n answers, drawn without replacement, hold a right one.

    Unbiased for pass@k of the model: 1 − C(n − c, k) / C(n, k), with c right ones (Chen et al.
    2021, arXiv 2107.03374, eq. 1). 1 − (1 − c/n)^k would be biased.

    Raises:
        ValueError: not 1 ≤ k ≤ n, or not 0 ≤ n_correct ≤ n.
    """
    if not 1 <= k <= n or not 0 <= n_correct <= n:
        raise ValueError(f"pass@{k} of {n_correct} right ones among {n} is not defined")
    return 1 - comb(n - n_correct, k) / comb(n, k)


def budgets(n: int) -> list[int]:
    """The k for which pass@k is shown for n answers: powers of two below n, and n."""
    return [*(2**i for i in range(n.bit_length()) if 2**i < n), n]


def votes(answers: Sequence[str | None], kind: AnswerKind = "exact") -> dict[int, int]:
    """How many answers equal each different one, which its first index stands for.

    Answers that could not be read (None, blank) have no vote.
    """
    found: dict[int, int] = {}
    for index, answer in enumerate(answers):
        if answer is None or not answer.strip():
            continue
        same = (first for first in found if answers_equal(answer, answers[first] or "", kind))
        first = next(same, index)
        found[first] = found.get(first, 0) + 1
    return found


def majority(answers: Sequence[str | None], kind: AnswerKind = "exact") -> int | None:
    """The index of the first answer that the most answers equal (Wang et al. 2022).

    None where nobody has a vote. Of two answers with as many votes, the one that was given first
    is taken.
    """
    counts = votes(answers, kind)
    return max(counts, key=lambda first: counts[first], default=None)
