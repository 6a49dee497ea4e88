"""Agreement against published examples, brute force from the definitions, and scikit-learn."""

from __future__ import annotations

import random
from itertools import combinations, product
from math import log2, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_distill.methods.agreement import (
    cohen_kappa,
    estimate,
    krippendorff_alpha,
    label_loyalty,
    labelled,
    percentage_agreement,
    probability_loyalty,
    tabulate,
    weighted_kappa,
)

_ = None
# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: four observers, twelve
# units, missing values; nominal .743, ordinal .815, interval .849.
OBSERVERS = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3),
    (_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _),
)
labels = st.lists(st.tuples(*[st.sampled_from(["a", "b", "c", None])] * 2), min_size=2, max_size=30)
ratings = st.lists(st.tuples(*[st.sampled_from([1, 2, 4, 7, None])] * 3), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_of_krippendorffs_example(level: str, alpha: float) -> None:
    assert krippendorff_alpha(tabulate(*OBSERVERS), level) == pytest.approx(alpha, abs=5e-4)  # type: ignore[arg-type]
    assert labelled(tabulate(*OBSERVERS)) == 11


def test_alpha_of_krippendorffs_example_with_two_values() -> None:
    """Section A of the same paper: two observers, ten articles, α = 0.095."""
    first, second = (0, 1, 0, 0, 0, 0, 0, 0, 1, 0), (1, 1, 1, 0, 0, 1, 0, 0, 0, 0)
    assert krippendorff_alpha(tabulate(first, second)) == pytest.approx(0.095, abs=5e-4)


def test_kappa_of_a_worked_example() -> None:
    """50 proposals: 20 both yes, 15 both no; p_o = 0.7, p_e = 0.5 · 0.6 + 0.5 · 0.4 = 0.5."""
    table = {("yes", "yes"): 20, ("yes", "no"): 5, ("no", "yes"): 10, ("no", "no"): 15}
    assert cohen_kappa(table) == pytest.approx(0.4)
    assert percentage_agreement(table) == pytest.approx(0.7)


@given(labels)
@settings(deadline=None)
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[str | None, str | None]]) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    found = cohen_kappa(tabulate(*zip(*pairs, strict=True)))
    if not both or len({label for pair in both for label in pair}) == 1:
        assert found is None
        return
    assert found == pytest.approx(sklearn.cohen_kappa_score(*zip(*both, strict=True)))


@given(ratings)
@settings(deadline=None)
def test_weighted_kappa_is_scikit_learns(rated: list[tuple[int | None, ...]]) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    pairs = [(a, b) for a, b, _ in rated]
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    found = weighted_kappa(tabulate(*zip(*pairs, strict=True)))
    if not both or len({grade for pair in both for grade in pair}) == 1:
        assert found is None
        return
    first, second = zip(*both, strict=True)
    grades = list(range(1, 8))  # with all between: the distance counts, not the rank
    expected = sklearn.cohen_kappa_score(first, second, labels=grades, weights="quadratic")
    assert found == pytest.approx(expected)


@given(labels)
def test_kappa_from_its_definition(pairs: list[tuple[str | None, str | None]]) -> None:
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    found = cohen_kappa(tabulate(*zip(*pairs, strict=True)))
    if found is None:
        assert len({label for pair in both for label in pair}) < 2
        return
    observed = sum(a == b for a, b in both) / len(both)
    chance = sum(a == b for (a, _), (_, b) in product(both, both)) / len(both) ** 2
    assert found == pytest.approx((observed - chance) / (1 - chance))


@given(ratings)
@settings(deadline=None)
def test_alpha_from_its_definition(units: list[tuple[int | None, ...]]) -> None:
    """1 − the mean disagreement of pairs within units over that of all pairs of values.

    Pairs of a unit with m values weigh 1 / (m − 1), so that each value counts once.
    """
    pairable = [[v for v in unit if v is not None] for unit in units]
    pairable = [unit for unit in pairable if len(unit) > 1]
    values = [v for unit in pairable for v in unit]
    ordered = sorted(values)

    def rank_distance(a: float, b: float) -> float:
        low, high = sorted((a, b))
        between = sum(low <= v <= high for v in ordered)
        return (between - (ordered.count(low) + ordered.count(high)) / 2) ** 2

    distances = {
        "nominal": lambda a, b: float(a != b),
        "interval": lambda a, b: float((a - b) ** 2),
        "ordinal": lambda a, b: rank_distance(a, b) if a != b else 0.0,
    }
    for level, distance in distances.items():
        found = krippendorff_alpha(tabulate(*zip(*units, strict=True)), level)  # type: ignore[arg-type]
        if len(set(values)) < 2:
            assert found is None
            continue
        within = sum(
            2 * distance(a, b) / (len(unit) - 1)
            for unit in pairable
            for a, b in combinations(unit, 2)
        ) / len(values)
        overall = sum(distance(a, b) for a, b in combinations(values, 2)) * 2
        overall /= len(values) * (len(values) - 1)
        assert found == pytest.approx(1 - within / overall)


@given(ratings, st.randoms())
def test_order_of_items_and_of_annotators_does_not_matter(
    units: list[tuple[int | None, ...]], chance: random.Random
) -> None:
    found = krippendorff_alpha(tabulate(*zip(*units, strict=True)))
    shuffled = chance.sample(units, len(units))
    turned = [unit[::-1] for unit in shuffled]
    assert krippendorff_alpha(tabulate(*zip(*turned, strict=True))) == pytest.approx(found)
    pairs = tabulate(*zip(*[unit[:2] for unit in units], strict=True))
    swapped = {(b, a): n for (a, b), n in pairs.items()}
    for figure in (cohen_kappa, percentage_agreement):
        assert figure(swapped) == pytest.approx(figure(pairs))


def test_an_interval_does_not_depend_on_the_order_and_covers_its_figure() -> None:
    pairs = [("a", "a")] * 30 + [("b", "b")] * 20 + [("a", "b")] * 10
    tables = [tabulate(*zip(*order, strict=True)) for order in (pairs, pairs[::-1])]
    one, other = (estimate(cohen_kappa, table) for table in tables)
    assert one == other
    assert one is not None
    assert one.low < one.value < one.high
    agreement = estimate(percentage_agreement, tables[0])
    assert agreement is not None
    spread = sqrt(50 / 60 * 10 / 60 / 60)  # of a binomial share
    assert agreement.low == pytest.approx(50 / 60 - 1.96 * spread, abs=0.02)
    assert agreement.high == pytest.approx(50 / 60 + 1.96 * spread, abs=0.02)


def test_one_label_throughout_leaves_them_undefined() -> None:
    table = tabulate("aaa", "aaa")
    assert cohen_kappa(table) is None
    assert krippendorff_alpha(table) is None
    assert estimate(cohen_kappa, table) is None
    assert percentage_agreement(table) == 1.0
    nothing = tabulate([None, "a"], ["a", None])
    assert (cohen_kappa(nothing), percentage_agreement(nothing), labelled(nothing)) == (_, _, 0)


def test_a_label_that_the_student_left_out_is_a_miss_for_loyalty_only() -> None:
    table = tabulate(["a", "a", "b", None], ["a", None, "b", "b"])
    assert label_loyalty(table) == pytest.approx(2 / 3)
    assert percentage_agreement(table) == 1.0
    assert label_loyalty(tabulate([None], ["a"])) is None


def test_probability_loyalty() -> None:
    assert probability_loyalty([0.2, 0.8], [0.2, 0.8]) == 1.0
    assert probability_loyalty([1, 0], [0, 1]) == 0.0
    assert probability_loyalty([0.1, 0.2, 0.7], [0.1, 0.2, 0.7]) == 1.0  # rounds below zero
    entropy = -0.75 * log2(0.75) - 0.25 * log2(0.25)  # JSD = H(mixture) − mean of the entropies
    assert probability_loyalty([1, 0], [0.5, 0.5]) == pytest.approx(1 - sqrt(entropy - 0.5))


@given(*[st.lists(st.floats(0.01, 1), min_size=3, max_size=3)] * 2)
def test_probability_loyalty_is_one_minus_scipys_distance(p: list[float], q: list[float]) -> None:
    from scipy.spatial.distance import jensenshannon

    p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
    distance = np.nan_to_num(jensenshannon(p, q, 2))  # NaN of equal ones that round below zero
    assert probability_loyalty(p, q) == pytest.approx(1 - distance, abs=1e-6)


@pytest.mark.parametrize(
    "student", [[1.0], [0.6, 0.6], [1.2, -0.2], [float("nan"), 1.0], []], ids=str
)
def test_what_is_no_distribution(student: list[float]) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        probability_loyalty([0.5, 0.5], student)
