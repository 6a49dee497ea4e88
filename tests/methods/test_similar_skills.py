"""Names that mean the same are merged; names that do not are not."""

from __future__ import annotations

import random
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_distill.methods.similar_skills import merge_similar
from llm_distill.methods.skills import canonical

NAMES = st.text("abs 1", min_size=1).map(canonical).filter(bool)
SAME = [
    ("fraction", "fractions"),
    ("solving_equations", "equation_solving"),
    ("solving_equation", "solving_equations"),
    ("addition_of_fractions", "fraction_addition"),
    ("factorisation", "factorization"),
    ("probability", "probabilities"),
    ("box_plot", "boxes_plots"),
    ("unit_size", "unit_sizes"),
    ("addition_and_subtraction", "subtraction_addition"),
]
DIFFERENT = [
    ("addition", "subtraction"),
    ("linear_equations", "nonlinear_equations"),
    ("even_numbers", "seven_numbers"),
    ("sine", "cosine"),
    ("hundreds", "hundredths"),
    ("one_step_problems", "two_step_problems"),
    ("division_with_remainders", "division_without_remainders"),
    ("conversion_to_decimals", "conversion_from_decimals"),
    ("addition_to_1000000", "addition_to_100000"),
    ("multiplication_of_fractions", "multiplication_of_functions"),
    ("addition", "basic_addition"),
    ("rates", "rats"),
    ("plans", "planes"),
    ("symmetry", "asymmetry"),
    ("inches_to_feet", "feet_to_inches"),
    ("subtracting_a_from_b", "subtracting_b_from_a"),
    ("microeconomics", "macroeconomics"),
    ("intracellular_transport", "intercellular_transport"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_means_the_same(one: str, other: str) -> None:
    assert set(merge_similar({one: 2, other: 1}).values()) == {one}
    assert set(merge_similar({one: 1, other: 2}).values()) == {other}


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_does_not(one: str, other: str) -> None:
    assert merge_similar({one: 2, other: 1}) == {one: one, other: other}


def test_the_order_of_names_does_not_matter() -> None:
    counts = {name: 1 + place % 3 for place, name in enumerate(sum(SAME + DIFFERENT, ()))}
    first = merge_similar(counts)
    for seed in range(20):
        items = list(counts.items())
        random.Random(seed).shuffle(items)
        assert merge_similar(dict(items)) == first


def test_of_equals_the_first_in_the_alphabet_wins() -> None:
    for names in permutations(["fraction", "fractions"]):
        assert set(merge_similar(dict.fromkeys(names, 3)).values()) == {"fraction"}


@given(st.dictionaries(NAMES, st.integers(1, 5), max_size=12))
def test_a_representative_stands_for_itself_and_is_the_most_frequent(
    counts: dict[str, int],
) -> None:
    merged = merge_similar(counts)
    assert set(merged) == set(counts)
    for name, representative in merged.items():
        assert merged[representative] == representative
        assert counts[representative] >= counts[name]
