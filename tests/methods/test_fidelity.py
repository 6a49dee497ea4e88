"""Fidelity against counting one by one, and of students whose fidelity is planted."""

from __future__ import annotations

from random import Random

import pytest
from scipy.spatial.distance import jensenshannon

from llm_distill.methods.agreement import cohen_kappa, probability_loyalty, tabulate
from llm_distill.methods.fidelity import Said, fidelity, loyalty_by_name

LABELS = "abcd"


def world(n: int, seed: int = 0, accuracy: float = 0.7) -> tuple[list[str], list[Said]]:
    """Right labels, and a teacher that is wrong now and then, evenly."""
    random = Random(seed)
    right = [random.choice(LABELS) for _ in range(n)]
    return right, [_answer(random, of, accuracy) for of in right]


def _answer(random: Random, right: str, accuracy: float) -> Said:
    wrong = random.choice([label for label in LABELS if label != right])
    answer = right if random.random() < accuracy else wrong
    return Said(answer, answer == right)


def test_by_counting() -> None:
    right, teacher = world(200)
    random = Random(1)
    student = [_answer(random, of, 0.8) for of in right]
    teacher[3] = Said(None, False)
    student[5] = Said(None, False)
    found = {name: each.estimate.value for name, each in fidelity(teacher, student).items()}
    pairs = list(zip(teacher, student, strict=True))
    t_right, s_right = sum(t.is_right for t in teacher), sum(s.is_right for s in student)
    assert found["right"] == s_right / 200
    assert found["gain"] == pytest.approx((s_right - t_right) / 200)
    answered = [(t, s) for t, s in pairs if t.answer is not None]
    assert found["agreement"] == sum(t.answer == s.answer for t, s in answered) / 199
    wrong = [(t, s) for t, s in answered if not t.is_right]
    assert found["where the teacher is wrong"] == sum(t.answer == s.answer for t, s in wrong) / len(
        wrong
    )
    kept = [s.is_right for t, s in answered if t.is_right]
    assert found["where the teacher is right"] == sum(kept) / len(kept)
    table = tabulate([t.answer for t in teacher], [s.answer for s in student])
    assert found["kappa"] == cohen_kappa(table)
    assert "probability loyalty" not in found
    turned = fidelity(teacher[::-1], student[::-1])
    assert {n: e.estimate.value for n, e in turned.items()} == pytest.approx(found)


def test_a_copy_inherits_every_mistake() -> None:
    _, teacher = world(400)
    found = fidelity(teacher, teacher)
    for name in ("agreement", "where the teacher is wrong", "where the teacher is right", "kappa"):
        assert found[name].estimate.value == 1.0
    assert found["gain"].estimate.value == 0.0
    assert found["where the teacher is wrong"].n == sum(not each.is_right for each in teacher)


def test_a_student_of_its_own_inherits_what_chance_gives() -> None:
    right, teacher = world(3000, accuracy=0.6)
    random = Random(5)
    guesses = [Said(a := random.choice(LABELS), a == of) for of in right]
    blind = fidelity(teacher, guesses)
    assert blind["where the teacher is wrong"].estimate.value == pytest.approx(1 / 4, abs=0.03)
    assert blind["kappa"].estimate.value == pytest.approx(0, abs=0.03)
    better = [_answer(random, of, 0.85) for of in right]
    apart = fidelity(teacher, better)
    assert apart["where the teacher is wrong"].estimate.value == pytest.approx(0.05, abs=0.02)
    assert apart["gain"].estimate.low > 0.2
    # One that has half of the teacher's mistakes, and is right elsewhere.
    half = [t if t.is_right or random.random() < 0.5 else Said(of, True)
            for t, of in zip(teacher, right, strict=True)]  # fmt: skip
    taken = fidelity(teacher, half)["where the teacher is wrong"].estimate
    assert taken.low < 0.5 < taken.high


def test_probabilities_are_matched_by_name_and_compared_to_base_2() -> None:
    p, q = {"a": 0.7, "b": 0.3}, {"b": 0.6, "c": 0.4}
    vectors = [0.7, 0.3, 0.0], [0.0, 0.6, 0.4]
    expected = 1 - float(jensenshannon(*vectors, base=2))
    assert loyalty_by_name(p, q) == pytest.approx(expected)
    assert loyalty_by_name(p, q) == pytest.approx(probability_loyalty(*vectors))
    assert loyalty_by_name({"a": 1.0}, {"b": 1.0}) == 0
    assert loyalty_by_name(p, {"b": 0.3, "a": 0.7}) == 1
    same, other = Said("a", True, p), Said("b", False, q)
    found = fidelity([same, same, same], [same, other, Said("a", True)])
    loyalty = found["probability loyalty"]
    assert loyalty.n == 2
    assert loyalty.estimate.value == pytest.approx((1 + expected) / 2)
    assert loyalty.estimate.low <= loyalty.estimate.value <= loyalty.estimate.high


def test_what_is_over_no_item_is_left_out() -> None:
    right, none = Said("a", True), Said(None, False)
    assert fidelity([], []) == {}
    assert "where the teacher is wrong" not in fidelity([right], [right])
    assert "kappa" not in fidelity([right], [right])  # one label alone: undefined
    assert {*fidelity([none], [right])} == {"right", "gain"}
    with pytest.raises(ValueError, match="shorter|longer"):
        fidelity([right], [])
