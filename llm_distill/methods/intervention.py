"""When to explain: what an explanation is worth for a student, and a budget of explanations.

Saha, Hase & Bansal 2023, "Can Language Models Teach Weaker Agents?" (arXiv 2306.09299): two mental
models of the student say how likely it gives an answer without and with an explanation, and the
questions with the highest difference are explained. Ties and random choices are computed exactly,
as the mean over all orders of the tied, so nothing is drawn here.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, floor, inf

BUDGETS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Shares of the questions that are explained, of the paper's curves."""
ROUNDING = 1e-9  # 0.29 * 100 is a little less than 29


def probability(logp: float, logps_of_choices: Sequence[float] | None = None) -> float:
    """The p of an answer from its log-probability; of a choice, its share of all the choices.

    Args:
        logp: summed over the answer's tokens, in nats.
        logps_of_choices: those of all choices, the answer among them; None: p as it is, as in the
            paper's code, which does not renormalise.

    Returns:
        A number in [0, 1]; where no choice has any probability all are alike.
    """
    if logps_of_choices is None:
        return min(1.0, exp(logp))  # the sum of a certain answer may be a little above 0
    highest = max(logps_of_choices)
    if highest == -inf:
        return 1 / len(logps_of_choices)
    return exp(logp - highest) / sum(exp(other - highest) for other in logps_of_choices)


def n_explained(budget: float, n_items: int) -> int:
    """⌊b · N⌋: how many of the items a budget pays for."""
    return floor(budget * n_items + ROUNDING)


def explained_shares(scores: Sequence[float | None], n: int) -> list[float]:
    """How likely each item is among the `n` with the highest scores, if ties are broken at random.

    Args:
        scores: [n_items]; items without a score come after all others, and tie with each other.
        n: how many are explained, 0 to n_items.

    Returns:
        [n_items] in [0, 1], with the sum n.
    """
    groups: dict[float, list[int]] = {}
    for place, score in enumerate(scores):
        groups.setdefault(-inf if score is None else score, []).append(place)
    shares = [0.0] * len(scores)
    left = n
    for score in sorted(groups, reverse=True):
        places = groups[score]
        paid = min(left, len(places))
        for place in places:
            shares[place] = paid / len(places)
        left -= paid
    return shares


def expected_right(
    shares: Sequence[float], without: Sequence[bool], with_help: Sequence[bool]
) -> list[float]:
    """How likely the student is right on each item, if it is explained with these shares.

    With a share of 0 or 1 exactly the outcome without or with help: at a budget of 0 and of 1 all
    choices are the same.
    """
    return [
        float(after) * share + float(before) * (1 - share)
        for share, before, after in zip(shares, without, with_help, strict=True)
    ]


def oracle_scores(without: Sequence[bool], with_help: Sequence[bool]) -> list[float]:
    """Scores by what help does in truth: those that it turns right first, those it misleads last.

    Then, of those it does not change, what the student gets wrong. The paper's code explains all
    that the student gets wrong, at any budget; this keeps to the budget.
    """
    return [
        (after - before) + 0.5 * (not before and not after)
        for before, after in zip(without, with_help, strict=True)
    ]
