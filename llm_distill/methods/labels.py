"""Which labels of a list a model's answers give to a text. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from math import exp
from statistics import fmean
from typing import Any

from llm_distill.rows.label_lists import LabelEntry, plain

TAG = re.compile(r"<label>(.*?)</label>", re.DOTALL | re.IGNORECASE)
SEPARATOR = re.compile(r"[;\n]")
"""Between several labels: names may have commas."""


def named_in(answer: str, names: Sequence[str]) -> str | None:
    """The label that an answer gives: what the last `<label>…</label>` says, or else all of it.

    Names are compared whole, so one may begin like another.

    Returns:
        The name as in the list; None for one that is not in it.
    """
    found = TAG.findall(answer)
    said = plain(found[-1] if found else answer)
    return next((name for name in names if plain(name) == said), None)


def all_named_in(answer: str, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The labels between `;` that an answer gives, in the list's order; and what is not in it."""
    found = TAG.findall(answer)
    said = [plain(each) for each in SEPARATOR.split(found[-1] if found else answer)]
    known = {plain(name): name for name in names}
    given = {known[each] for each in said if each in known}
    others = [each for each in said if each and each not in known]
    return [name for name in names if name in given], others


def shares(votes: Sequence[str], names: Sequence[str]) -> list[float]:
    """Of each name its share of the votes. Self-consistency's estimate of p(label | text).

    Raises:
        ValueError: there are no votes.
    """
    if not votes:
        raise ValueError("shares need at least one vote")
    counts = Counter(votes)
    return [counts[name] / len(votes) for name in names]


def likelihood_shares(logps: Sequence[float]) -> list[float]:
    """Softmax over the labels' log-probabilities: p(label) given that it is one of them.

    Args:
        logps: Of each label's whole text, its end included, so that no label is favoured for being
            the beginning of another.
    """
    highest = max(logps)
    weights = [exp(logp - highest) for logp in logps]
    total = sum(weights)
    return [weight / total for weight in weights]


def calibrated(
    probabilities: Sequence[Sequence[float]],
) -> tuple[list[list[float]], list[float]]:
    """p(label | text) divided by its mean over the texts, made to add up to 1 (batch calibration).

    It takes away that a model likes a label whatever the text says, without any right label (Zhou
    et al., "Batch Calibration", arXiv 2309.17249). Where labels are far from equally frequent it
    takes their frequencies away as well.

    Args:
        probabilities: [texts, labels], for each text with the sum 1.

    Returns:
        The same after calibration, and the means, [labels].
    """
    means = [fmean(of_label) for of_label in zip(*probabilities, strict=True)]
    found = []
    for of_text in probabilities:
        ratios = [p / mean if mean else 0.0 for p, mean in zip(of_text, means, strict=True)]
        total = sum(ratios)
        found.append([ratio / total for ratio in ratios])
    return found, means


def likeliest(probabilities: Sequence[float], names: Sequence[str]) -> tuple[str, float]:
    """The name with the highest probability, of equals the first, and that probability."""
    best = max(range(len(names)), key=probabilities.__getitem__)
    return names[best], probabilities[best]


def above(threshold: float, probabilities: Sequence[float], names: Sequence[str]) -> list[str]:
    """The names whose probability is above it, of labels that do not exclude each other."""
    return [name for name, p in zip(names, probabilities, strict=True) if p > threshold]


def least_sure(probabilities: Sequence[float]) -> float:
    """How sure the least sure of several yes-or-no answers is: the minimum of max(p, 1 − p)."""
    return min(max(p, 1 - p) for p in probabilities)


def merged(
    probabilities: Sequence[float], names: Sequence[str], mark: str
) -> tuple[list[str], list[float]]:
    """Classes that are the same up to the last mark as one, with the sum of their probabilities.

    >>> merged([0.3, 0.4, 0.3], ["arts/1", "sports", "arts/2"], "/")
    (['arts', 'sports'], [0.6, 0.4])
    >>> merged([0.25, 0.75], ["sci/tech/1", "sci/bio/1"], "/")[0]
    ['sci/tech', 'sci/bio']
    """
    sums: dict[str, float] = {}
    for name, p in zip(names, probabilities, strict=True):
        before, found, _ = name.rpartition(mark)
        whole = before if found else name
        sums[whole] = sums.get(whole, 0.0) + p
    return list(sums), list(sums.values())


def cut_to(text: str, n_words: int) -> str:
    """The first words of a text with the white space between them.

    >>> cut_to("one  two\\nthree four", 3)
    'one  two\\nthree'
    """
    match = re.match(rf"\s*(?:\S+\s+){{0,{n_words - 1}}}\S+", text)
    return text if match is None else match.group()


def as_variables(labels: Sequence[LabelEntry]) -> list[Mapping[str, Any]]:
    """For a template: `name`, `definition` and `examples` of each."""
    return [
        {"name": each.name, "definition": each.definition, "examples": list(each.examples)}
        for each in labels
    ]
