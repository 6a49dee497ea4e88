"""How far a student does as its teacher does, and how far it is better: fidelity, generalisation.

Stanton et al. 2021, "Does knowledge distillation really work?" (arXiv 2106.05945), tell the two
apart. How often two agree is bounded by how often each is right, so the agreement is also given
where the teacher is wrong: what is left there is what the student has taken over. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llm_distill.methods.agreement import (
    cohen_kappa,
    estimate,
    probability_loyalty,
    tabulate,
)
from llm_distill.methods.statistics import (
    Estimate,
    bootstrap,
    paired_bootstrap,
    wilson_interval,
)


@dataclass(frozen=True)
class Said:
    """What one model answered to an item.

    Attributes:
        answer: None for none that could be read; such as a label.
        is_right: Whether it is the right one.
        probabilities: Of each answer that it chose between; None where they are not known.
    """

    answer: str | None
    is_right: bool
    probabilities: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Measure:
    """A figure and the number of items that it is over."""

    estimate: Estimate
    n: int


def fidelity(teacher: Sequence[Said], student: Sequence[Said]) -> dict[str, Measure]:
    """Figures of a student beside its teacher, over the same items in the same order.

    right: Accuracy, with Wilson's interval.
    gain: Accuracy above the teacher's, item by item, with the bootstrap interval over items.
    agreement: The share of equal answers (label loyalty, Xu et al. 2021), over the items that the
        teacher answered; no answer of the student is another one.
    kappa: Cohen's κ of the items that both answered.
    where the teacher is wrong: The agreement over those items: inherited mistakes. Of a copy it is
        1, of a student whose mistakes are its own and even (1 − its accuracy) / (answers − 1).
    where the teacher is right: The same over the others: what it has not lost.
    probability loyalty: The mean of 1 − √JSD to base 2, answers matched by name, over the items
        with the probabilities of both, with the bootstrap interval.

    What is over no item, or undefined, is left out.

    Raises:
        ValueError: they differ in length, or probabilities do not add up to 1.
    """
    pairs = list(zip(teacher, student, strict=True))
    if not pairs:
        return {}
    right = [s.is_right for _, s in pairs]
    found = {
        "right": Measure(wilson_interval(sum(right), len(right)), len(right)),
        "gain": Measure(paired_bootstrap([t.is_right for t, _ in pairs], right), len(right)),
    }
    answered = [(t, s) for t, s in pairs if t.answer is not None]
    subsets = {
        "agreement": answered,
        "where the teacher is wrong": [(t, s) for t, s in answered if not t.is_right],
        "where the teacher is right": [(t, s) for t, s in answered if t.is_right],
    }
    for name, of in subsets.items():
        if of:
            same = sum(t.answer == s.answer for t, s in of)
            found[name] = Measure(wilson_interval(same, len(of)), len(of))
    table = tabulate([t.answer for t, _ in pairs], [s.answer for _, s in pairs])
    both = sum(t.answer is not None and s.answer is not None for t, s in pairs)
    kappa = estimate(cohen_kappa, table) if both else None
    if kappa is not None:
        found["kappa"] = Measure(kappa, both)
    loyalties = [
        loyalty_by_name(t.probabilities, s.probabilities)
        for t, s in pairs
        if t.probabilities is not None and s.probabilities is not None
    ]
    if loyalties:
        found["probability loyalty"] = Measure(bootstrap(loyalties), len(loyalties))
    return found


def loyalty_by_name(teacher: Mapping[str, float], student: Mapping[str, float]) -> float:
    """`agreement.probability_loyalty` of answers by name; one that a side does not have is 0.

    Raises:
        ValueError: a side is no distribution.
    """
    names = list(dict.fromkeys([*teacher, *student]))
    sides = ([side.get(name, 0.0) for name in names] for side in (teacher, student))
    return probability_loyalty(*sides)
