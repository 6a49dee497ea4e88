"""How well sets of labels agree with the right ones: micro- and macro-F1. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from llm_distill.methods.classification import ClassFigures, from_counts
from llm_distill.methods.statistics import DRAWS, Estimate

Labels = Collection[str]


@dataclass(frozen=True)
class SetFigures:
    """micro: 2 · right / (right ones + given ones), over the labels of all texts. macro: the mean
    of each label's F1, over the labels that occur among the right ones.
    """

    micro: Estimate
    macro: Estimate


def by_label(references: Sequence[Labels], predictions: Sequence[Labels]) -> list[ClassFigures]:
    """Precision, recall and F1 of each label by itself, in the order of their names."""
    pairs = list(zip(references, predictions, strict=True))
    of = Counter(name for right in references for name in {*right})
    said = Counter(name for given in predictions for name in {*given})
    hits = Counter(name for right, given in pairs for name in {*right} & {*given})
    return from_counts(of, said, hits)


def set_figures(references: Sequence[Labels], predictions: Sequence[Labels]) -> SetFigures:
    """Micro- and macro-F1 with 95 % intervals over items (percentile bootstrap).

    A label that is not drawn is no part of that draw's macro-F1.

    Raises:
        ValueError: the two differ in length, or no text has a label.
    """
    value, drawn = _figures(references, [predictions])
    return SetFigures(*(_estimate(value[of, 0], drawn[:, of, 0]) for of in (0, 1)))


def set_figures_difference(
    references: Sequence[Labels], first: Sequence[Labels], second: Sequence[Labels]
) -> SetFigures:
    """`set_figures` of second − first over the same items: each is drawn with both predictions.

    Raises:
        ValueError: as `set_figures`.
    """
    value, drawn = _figures(references, [first, second])
    change, changes = value[:, 1] - value[:, 0], drawn[..., 1] - drawn[..., 0]
    return SetFigures(*(_estimate(change[of], changes[:, of]) for of in (0, 1)))


def _estimate(value: Any, drawn: Any) -> Estimate:
    import numpy as np

    low, high = np.nanquantile(drawn, (0.025, 0.975))  # a draw may be of texts without a label
    return Estimate(float(value), float(low), float(high))


def _figures(references: Sequence[Labels], by: Sequence[Sequence[Labels]]) -> tuple[Any, Any]:
    """Micro and macro of each list of predictions [2, lists], and of each draw [DRAWS, 2, lists].

    Items of one kind (right labels and predictions) are drawn together: a sample is how often each
    kind is drawn.
    """
    import numpy as np

    if not any(references):
        raise ValueError("an F1 needs a right label")
    kinds = Counter(
        tuple(tuple(sorted({*labels})) for labels in item)
        for item in zip(references, *by, strict=True)
    )
    kinds = Counter(dict(sorted(kinds.items())))  # the order of the items must not matter
    names = sorted({name for item in kinds for labels in item for name in labels})
    often = np.asarray([*kinds.values()], dtype=float)
    n = int(often.sum())
    draws = np.random.default_rng(0).multinomial(n, often / n, size=DRAWS)
    places = [[[name in labels for name in names] for labels in item] for item in kinds]
    true, *said = np.moveaxis(np.asarray(places, dtype=float), 1, 0)  # each [kinds, names]

    def of(counts: Any) -> Any:
        found = []
        there = counts @ true
        for given in said:
            hits, whole = counts @ (true * given), there + counts @ given
            with np.errstate(invalid="ignore"):
                micro = 2 * hits.sum(1) / whole.sum(1)
                f1 = np.where(there > 0, 2 * hits / whole, 0.0)
                macro = f1.sum(1) / (there > 0).sum(1)
            found.append(np.stack([micro, macro], axis=1))
        return np.stack(found, axis=2)

    return of(often[None])[0], of(draws)
