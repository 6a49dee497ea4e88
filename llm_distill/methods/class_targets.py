"""What a classifier is trained towards: for each class a share, of labels or a teacher. Pure."""

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
    if label is None or not str(label).strip():
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
    found = _by_name(choices, probabilities)
    given = [found.get(name) or 0.0 for name in classes]
    if not all(isfinite(each) and each >= 0 for each in given):
        raise UnusableRowError("a probability that is none")
    total = sum(given)
    if total <= 0:
        raise UnusableRowError("no probability of a class")
    return [each / total for each in given]


def several_hard_target(labels: object, classes: Sequence[str]) -> list[float]:
    """1 for each of the labels, 0 for the others; a text may have none of them.

    Raises:
        UnusableRowError: there is no list, or a label is no class.
    """
    if not isinstance(labels, Sequence) or isinstance(labels, str):
        raise UnusableRowError("no labels")
    if not {*labels} <= {*classes}:
        raise UnusableRowError("a label that is no class")
    return [float(name in labels) for name in classes]


def several_soft_target(
    choices: object, probabilities: object, classes: Sequence[str]
) -> list[float]:
    """Each class's probability, by its name; they need not add up to 1.

    Raises:
        UnusableRowError: there are no probabilities, or a class has none.
    """
    found = _by_name(choices, probabilities)
    given = [found.get(name) for name in classes]
    known = [each for each in given if each is not None]
    if len(known) < len(classes):
        raise UnusableRowError("no probability of a class")
    if not all(0 <= each <= 1 for each in known):
        raise UnusableRowError("a probability that is none")
    return known


def _by_name(choices: object, probabilities: object) -> Mapping[str, float]:
    if not isinstance(choices, Sequence) or not isinstance(probabilities, Sequence):
        raise UnusableRowError("no probabilities")
    if len(choices) != len(probabilities):
        raise UnusableRowError("as many choices as probabilities are needed")
    return dict(zip(choices, probabilities, strict=True))


def balanced_weights(labels: Sequence[str]) -> dict[str, float]:
    """By class n / (classes · rows of it), so that each class counts alike and the mean is 1.

    As scikit-learn's `class_weight="balanced"`.
    """
    counts = Counter(labels)
    return {name: len(labels) / (len(counts) * n) for name, n in counts.items()}
