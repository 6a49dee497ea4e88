"""How well predicted labels agree with the right ones: F1, confusions, calibration. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_distill.methods.statistics import DRAWS, Estimate

N_BINS = 10
"""Of equal width, for calibration."""


@dataclass(frozen=True)
class ClassFigures:
    """Of one class. precision, recall, f1: None where nothing defines them. n: items of it."""

    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    n: int


@dataclass(frozen=True)
class Bin:
    """Predictions whose confidence is within a tenth. right: how many of the n are right."""

    low: float
    high: float
    confidence: float
    right: int
    n: int


def by_class(references: Sequence[str], predictions: Sequence[str | None]) -> list[ClassFigures]:
    """Precision, recall and F1 of each class, in the order of their names.

    F1 = 2 · right / (items of the class + items predicted as it).

    Args:
        references: The right label of each item.
        predictions: What was said; None for nothing, which is wrong and no class.
    """
    pairs = list(zip(references, predictions, strict=True))
    of, said = Counter(references), Counter(p for p in predictions if p is not None)
    hits = Counter(r for r, p in pairs if r == p)
    return from_counts(of, said, hits)


def from_counts(
    of: Mapping[str, int], said: Mapping[str, int], hits: Mapping[str, int]
) -> list[ClassFigures]:
    """By label how often it is right, is said, and both: the figures, in the order of names."""
    return [
        ClassFigures(
            name,
            hits.get(name, 0) / said[name] if said.get(name) else None,
            hits.get(name, 0) / of[name] if of.get(name) else None,
            2 * hits.get(name, 0) / (of.get(name, 0) + said.get(name, 0)),
            of.get(name, 0),
        )
        for name in sorted({*of, *said})
    ]


def macro_f1(references: Sequence[str], predictions: Sequence[str | None]) -> Estimate:
    """The mean F1 over the classes that occur among the references, with a 95 % interval.

    Items are drawn with replacement (percentile bootstrap); a class that is not drawn is no part of
    that draw's mean. A class that is predicted only has no F1 of its own, but costs the others
    recall.

    Raises:
        ValueError: there are no items, or the two differ in length.
    """
    value, drawn = _macro(references, [predictions])
    return _estimate(value[0], drawn[:, 0])


def macro_f1_difference(
    references: Sequence[str], first: Sequence[str | None], second: Sequence[str | None]
) -> Estimate:
    """`macro_f1` of second − first over the same items: each is drawn with both predictions.

    Raises:
        ValueError: as `macro_f1`.
    """
    value, drawn = _macro(references, [first, second])
    return _estimate(value[1] - value[0], drawn[:, 1] - drawn[:, 0])


def _estimate(value: float, drawn: Any) -> Estimate:
    import numpy as np

    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(float(value), float(low), float(high))


def _macro(references: Sequence[str], by: Sequence[Sequence[str | None]]) -> tuple[Any, Any]:
    """The macro-F1 of each list of predictions, and of each bootstrap sample [DRAWS, lists].

    Items of one kind (right label and predictions) are drawn together: a sample is how often each
    kind is drawn.
    """
    import numpy as np

    if not references:
        raise ValueError("a macro-F1 needs at least one item")
    counted = Counter(zip(references, *by, strict=True))
    kinds = dict(sorted(counted.items(), key=repr))  # the order of the items must not matter
    names = {name: index for index, name in enumerate(sorted({*references}))}
    often = np.asarray([*kinds.values()], dtype=float)
    n = int(often.sum())
    draws = np.random.default_rng(0).multinomial(n, often / n, size=DRAWS)
    true = _places([kind[0] for kind in kinds], names)

    def of(counts: Any) -> Any:
        found = []
        for place in range(1, len(by) + 1):
            said = _places([kind[place] for kind in kinds], names)
            whole = counts @ (true + said)
            with np.errstate(invalid="ignore"):
                f1 = 2 * (counts @ (true * said)) / whole
            f1 = np.where(counts @ true > 0, f1, np.nan)  # a class that is not there has no F1
            found.append(np.nanmean(f1, axis=1))
        return np.stack(found, axis=1)

    return of(often[None])[0], of(draws)


def _places(labels: Sequence[str | None], names: dict[str, int]) -> Any:
    """[kinds, classes]: 1 where the label is the class."""
    import numpy as np

    found = np.zeros((len(labels), len(names)))
    for row, label in enumerate(labels):
        if label in names:
            found[row, names[label]] = 1
    return found


def confusions(
    references: Sequence[str], predictions: Sequence[str | None]
) -> Counter[tuple[str, str | None]]:
    """How often each right label was given which."""
    return Counter(zip(references, predictions, strict=True))


def calibration(confidences: Sequence[float], right: Sequence[bool]) -> list[Bin]:
    """Predictions by confidence, in bins of equal width; empty ones are left out.

    Raises:
        ValueError: a confidence is not within 0 to 1.
    """
    if any(not 0 <= each <= 1 for each in confidences):
        raise ValueError("a confidence is within 0 to 1")
    binned: dict[int, list[tuple[float, bool]]] = {}
    for confidence, is_right in zip(confidences, right, strict=True):
        binned.setdefault(_bin(confidence), []).append((confidence, is_right))
    return [
        Bin(
            index / N_BINS,
            (index + 1) / N_BINS,
            sum(confidence for confidence, _ in of) / len(of),
            sum(is_right for _, is_right in of),
            len(of),
        )
        for index, of in sorted(binned.items())
    ]


def _bin(confidence: float) -> int:
    return min(int(confidence * N_BINS), N_BINS - 1)


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Σ n_b / n · |share of right in b − mean confidence in b| (Guo et al. 2017, eq. 3).

    Raises:
        ValueError: there are no predictions.
    """
    n = sum(each.n for each in bins)
    if not n:
        raise ValueError("a calibration error needs predictions")
    return sum(each.n / n * abs(each.right / each.n - each.confidence) for each in bins)


def calibration_error(confidences: Sequence[float], right: Sequence[bool]) -> Estimate:
    """`expected_calibration_error` with a 95 % interval over items.

    Its ends are not quantiles of drawn errors: noise makes an error larger, in each draw once more,
    so they would leave out the 0 of a model that is perfectly calibrated. Two errors differ by no
    more than the sum over the bins of what their gaps (share of right − mean confidence, times the
    bin's share of items) differ by, so the interval reaches as far to both sides as that sum does
    in 95 % of draws. A gap is drawn from a normal distribution with the variance of its items, or
    with that which their confidences themselves speak of if it is larger: of a hundred items of
    99 %, all of them right, the items alone would say that nothing can vary.

    Raises:
        ValueError: as `calibration` and `expected_calibration_error`.
    """
    import numpy as np

    value = expected_calibration_error(calibration(confidences, right))
    n, said = len(confidences), np.asarray(confidences, float)
    bins = [_bin(confidence) for confidence in confidences]
    gaps = np.asarray(right, float) - said
    sums, squares, expected = (
        np.bincount(bins, of, N_BINS) for of in (gaps, gaps**2, said * (1 - said))
    )
    spread = np.sqrt(np.maximum(squares - sums**2 / n, expected)) / n
    drawn = np.random.default_rng(0).normal(0, spread, (DRAWS, N_BINS))
    reach = float(np.quantile(np.abs(drawn).sum(axis=1), 0.95))
    return Estimate(value, max(0.0, value - reach), min(1.0, value + reach))
