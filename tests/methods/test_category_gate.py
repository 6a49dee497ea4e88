"""The gate of categories: planted annotators, whose true kappa is known."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from llm_distill.methods.agreement import cohen_kappa, tabulate
from llm_distill.methods.category_gate import CategoryKappas, category_kappas, one_against_rest


def planted(
    n: int, positive: float, people: float, model: float, seed: int
) -> tuple[list[bool], list[list[bool]]]:
    """The model's labels and two people's; each is wrong in these shares of the positive items.

    Of the others as many are wrong as keep the share of yes where it is.
    """
    draw = random.Random(seed)
    truth = [draw.random() < positive for _ in range(n)]

    def labels(error: float) -> list[bool]:
        of_no = error * positive / (1 - positive)
        return [yes != (draw.random() < (error if yes else of_no)) for yes in truth]

    return labels(model), [labels(people), labels(people)]


def pass_rate(times: int, *settings: float) -> float:
    n, *shares = settings
    found = (category_kappas(*planted(int(n), *shares, seed)) for seed in range(times))
    return sum(each.passes(0.8, 0.6) for each in found) / times


def passes_alone(model: Sequence[bool], people: Sequence[Sequence[bool]]) -> bool:
    """Without an interval, as the kappas stand."""
    found = category_kappas(model, people)
    people_kappa, model_kappa = found.people, found.model
    if people_kappa is None or model_kappa is None:
        return False
    return people_kappa.value > 0.8 and model_kappa.value > 0.6


def test_its_values_are_the_means_of_cohens_kappas() -> None:
    model, people = planted(300, 0.3, 0.05, 0.15, 0)
    third = planted(300, 0.3, 0.05, 0.3, 0)[0]
    found = category_kappas(model, [*people, third])
    kappa = {
        (i, j): cohen_kappa(tabulate([float(x) for x in a], [float(x) for x in b]))
        for i, a in enumerate([model, *people, third])
        for j, b in enumerate([model, *people, third])
    }
    assert found.people
    assert found.model
    among = [kappa[1, 2], kappa[1, 3], kappa[2, 3]]
    assert found.people.value == pytest.approx(sum(among) / 3)  # type: ignore[arg-type]
    with_model = [kappa[0, 1], kappa[0, 2], kappa[0, 3]]
    assert found.model.value == pytest.approx(sum(with_model) / 3)  # type: ignore[arg-type]
    assert found.n_positive == sum(map(any, zip(*people, third, strict=True)))


def test_the_order_of_items_and_of_people_does_not_matter() -> None:
    model, (first, second) = planted(120, 0.3, 0.1, 0.2, 1)
    found = category_kappas(model, [first, second])
    assert category_kappas(model[::-1], [first[::-1], second[::-1]]) == found
    turned = category_kappas(model, [second, first])
    assert found.people
    assert turned.people
    assert turned.people.low == pytest.approx(found.people.low, abs=0.02)


def test_what_passes_has_a_high_kappa_and_what_has_none_does_not() -> None:
    """Kappas of 0.97 and 0.89; 0.86 and 0.69, where the bound is short of 0.8; 0.97 and 0.42."""
    assert pass_rate(20, 400, 0.4, 0.01, 0.06) == 1.0
    assert pass_rate(20, 400, 0.4, 0.05, 0.15) < 0.3
    assert pass_rate(20, 400, 0.4, 0.01, 0.35) == 0.0


@pytest.mark.parametrize("n_positive", [1, 2, 3, 7])
def test_a_few_positive_items_pass_by_no_luck(n_positive: int) -> None:
    """All agree on all of them: kappas of 1, and a plain bootstrap would have them at 1 to 1."""
    labels = [place < n_positive for place in range(289)]
    found = category_kappas(labels, [labels, labels])
    assert found.people
    assert found.people.value == found.people.high == 1.0
    assert not found.passes(0.8, 0.6)
    assert found.is_wide == (n_positive < 7)
    assert (found.undefined > 0.01) == (n_positive <= 3)


def test_a_rare_category_passes_by_luck_where_there_is_no_interval() -> None:
    """3 % positive, true kappas of 0.72 of people and 0.71 with the model; 60 draws of 150."""
    samples = [planted(150, 0.03, 0.15, 0.15, seed) for seed in range(60)]
    alone = sum(passes_alone(*sample) for sample in samples)
    assert alone >= 8
    assert not any(category_kappas(*sample).passes(0.8, 0.6) for sample in samples)


def test_the_lower_end_holds_for_rare_and_for_common_categories() -> None:
    for positive in (0.3, 0.04):
        whole = category_kappas(*planted(100_000, positive, 0.06, 0.06, 0)).people
        assert whole
        samples = [category_kappas(*planted(289, positive, 0.06, 0.06, seed)) for seed in range(60)]
        above = sum(bool(s.people) and s.people.low > whole.value for s in samples)  # type: ignore[union-attr]
        assert above <= 5  # of 60; 2.5 % are 1.5


def test_where_nobody_says_yes_there_is_no_kappa() -> None:
    none = [False] * 20
    found = category_kappas(none, [none, none])
    assert isinstance(found, CategoryKappas)
    assert (found.people, found.model, found.passes(-1, -1)) == (None, None, False)


@pytest.mark.parametrize(
    ("model", "people"),
    [([], [[], []]), ([True], [[True]]), ([True], [[True], [True, False]])],
)
def test_what_cannot_be(model: list[bool], people: list[list[bool]]) -> None:
    with pytest.raises(ValueError, match="each with two people's labels"):
        category_kappas(model, people)


def test_each_label_against_the_rest() -> None:
    labels = [[["guess"], ["method"], []], [["Guess "], ["other", "guess"], ["method"]]]
    assert one_against_rest(labels) == {
        "guess": [[True, False, False], [True, True, False]],
        "method": [[False, True, False], [False, False, True]],
        "other": [[False, False, False], [False, True, False]],
    }
    assert one_against_rest([[[]], [[]]]) == {}
