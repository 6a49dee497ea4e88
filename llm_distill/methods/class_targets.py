"""What a classifier is trained towards: for each class a share, of a label or a teacher. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite

from llm_distill.rows.unusable import UnusableRowError


def hard_target(label: object, classes: Sequence[str]) -> list[float]:
    """1 for the label, 0 for the others.

    Raises:
        UnusableRowError: there is no label, or it is no class.
    """
    if label is None:
        raise UnusableRowError("no label")
    if label not in classes:
        raise UnusableRowError("a label that is no class")
    return [float(name == label) for name in classes]


def soft_target(choices: object, probabilities: object, classes: Sequence[str]) -> list[float]:
    """Each class's probability, by its name: teachers order classes differently.

    What lies on other names, such as an abstention, is left out, and the rest is made to add up to
    1.

    Raises:
        UnusableRowError: there are no probabilities, or none of a class.
    """
    if not isinstance(choices, Sequence) or not isinstance(probabilities, Sequence):
        raise UnusableRowError("no probabilities")
    if len(choices) != len(probabilities):
        raise UnusableRowError("as many choices as probabilities are needed")
    found: Mapping[str, float] = dict(zip(choices, probabilities, strict=True))
    given = [found.get(name) or 0.0 for name in classes]
    if not all(isfinite(each) and each >= 0 for each in given):
        raise UnusableRowError("a probability that is none")
    total = sum(given)
    if total <= 0:
        raise UnusableRowError("no probability of a class")
    return [each / total for each in given]


def balanced_weights(labels: Sequence[str]) -> dict[str, float]:
    """By class n / (classes · rows of it), so that each class counts alike and the mean is 1.

    As scikit-learn's `class_weight="balanced"`.
    """
    counts = Counter(labels)
    return {name: len(labels) / (len(counts) * n) for name, n in counts.items()}
