"""Several answers to one item, sampled from one model: pass@k, votes, and consensus."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, fsum, log
from typing import Literal

from llm_distill.methods.answers import AnswerKind, answers_equal

Vote = Literal["majority", "score_sum", "best_score"]


def pass_at_k(n: int, n_correct: int, k: int) -> float:
    """The chance that k of n answers, drawn without replacement, include a right one.

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


def answer_groups(answers: Sequence[str | None], kind: AnswerKind = "exact") -> list[list[int]]:
    """Indices of the answers that are equal, in the order of each group's first one.

    An answer joins the first group whose first answer it equals, so that an equality that is not
    transitive cannot chain two answers together. Those that could not be read (None, blank) are
    not in any group: they agree with nothing, not even with each other.
    """
    groups: list[list[int]] = []
    for index, answer in enumerate(answers):
        if answer is None or not answer.strip():
            continue
        same = (group for group in groups if answers_equal(answer, answers[group[0]] or "", kind))
        group = next(same, None)
        if group is None:
            groups.append([index])
        else:
            group.append(index)
    return groups


def disagreement(answers: Sequence[str | None], kind: AnswerKind = "exact") -> float:
    """1 − the share of the most common answer: 0 where all are equal, 1 − 1/n where all differ.

    The variation ratio (Freeman 1965; Gal et al. 2017, arXiv 1703.02910). An answer that could not
    be read (None, blank) is unlike any other.

    Raises:
        ValueError: there are no answers.
    """
    return 1 - max(_sizes(answers, kind)) / len(answers)


def answer_entropy(answers: Sequence[str | None], kind: AnswerKind = "exact") -> float:
    """−Σ p·ln p in nats over the shares p of different answers, 0 to ln n.

    Over answers, not over tokens: two ways to one answer are one (the discrete semantic entropy of
    Farquhar et al. 2024). From n samples it is too low, the more so the more answers there are, so
    rank with it, at one n. Unread answers as in `disagreement`.

    Raises:
        ValueError: there are no answers.
    """
    shares = [size / len(answers) for size in _sizes(answers, kind)]
    return max(0.0, -fsum(share * log(share) for share in shares))  # not -0.0


def _sizes(answers: Sequence[str | None], kind: AnswerKind) -> list[int]:
    """How many answers are each of the different ones; one for each that could not be read."""
    if not answers:
        raise ValueError("there are no answers to compare")
    read = [len(group) for group in answer_groups(answers, kind)]
    return [*read, *[1] * (len(answers) - sum(read))]


def majority(answers: Sequence[str | None], kind: AnswerKind = "exact") -> int | None:
    """The index of the most common answer (Wang et al. 2022); of equals the one given first.

    Answers that could not be read (None, blank) do not vote; None if no answer could be read.
    """
    groups = answer_groups(answers, kind)
    return max(groups, key=len)[0] if groups else None


def elected(
    answers: Sequence[str | None],
    scores: Sequence[float | None],
    vote: Vote,
    kind: AnswerKind = "exact",
) -> int | None:
    """The index of the answer that a vote elects, or None: Learning by Teaching (arXiv 2406.14629).

    majority: the most common answer, whatever the scores. score_sum: the answer with the highest
    sum of scores (the paper's SUM), for scores from 0 up: with negative ones the rarest answer
    would win. best_score: that of the best score (MAX). Of equals the more common one wins, then
    the one given first. Of the elected answer's samples it is the best-scored one.

    Args:
        answers: that could not be read (None, blank) do not vote.
        scores: of each answer; those without one (None) vote by majority only.
        vote: how.
        kind: when two answers are the same.
    """
    if vote == "majority":
        return majority(answers, kind)
    pairs = zip(answers, scores, strict=True)
    scored = [answer if score is not None else None for answer, score in pairs]
    worth = [score or 0.0 for score in scores]

    def rank(group: list[int]) -> tuple[float, int]:
        values = [worth[index] for index in group]
        return (sum(values) if vote == "score_sum" else max(values), len(group))

    groups = answer_groups(scored, kind)
    if not groups:
        return None
    group = max(groups, key=rank)
    return max(group, key=lambda index: worth[index])


def consensus(
    answers: Sequence[str | None], min_agreement: int, kind: AnswerKind = "exact"
) -> tuple[list[int], str | None]:
    """Indices of the answers that agree, or none and the reason.

    At least `min_agreement` must be equal. A tie is not a consensus: to take the first would be to
    draw lots.
    """
    groups = sorted(answer_groups(answers, kind), key=len, reverse=True)
    if not groups:
        return [], "no answer"
    if len(groups[0]) < min_agreement:
        return [], "no agreement"
    if len(groups) > 1 and len(groups[1]) == len(groups[0]):
        return [], "a tie"
    return groups[0], None
