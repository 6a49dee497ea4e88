"""Equations in a text: found, and right or wrong, against Python's own arithmetic."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from random import Random
from time import process_time

import pytest

from llm_distill.methods.calculations import calculated, calculations, wrong_steps


def found(text: str) -> list[tuple[str, str, bool]]:
    return [(text[slice(*c.left)], text[slice(*c.right)], c.is_right) for c in calculations(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # As the bundled models write, and as others do.
        ("2. 3 + 4 = 7. 3. 7 + 2 = 9. <ans>9</ans>", [("3 + 4", "7", True), ("7 + 2", "9", True)]),
        ("So 48/2 = <<48/2=24>>24 clips.", [("48/2", "24", True)]),
        ("\\(3 \\times 4 = 12\\)", [("3 \\times 4", "12", True)]),
        ("- 3 + 4 = 7\n- 7 x 2 = 15", [("3 + 4", "7", True), ("7 x 2", "15", False)]),
        ("**3 + 4 = 8**", [("3 + 4", "8", False)]),
        ("(3 + 4 = 7)", [("3 + 4", "7", True)]),
        ("total = 3 + 4 = 7", [("3 + 4", "7", True)]),
        ("2 + 3 + 4 = 5 + 4 = 9", [("2 + 3 + 4", "5 + 4", True), ("5 + 4", "9", True)]),
        ("2 + 3 + 4 = 6 + 4 = 10", [("2 + 3 + 4", "6 + 4", False), ("6 + 4", "10", True)]),
        ("$1,000 * 20% = $200", [("$1,000 * 20%", "$200", True)]),
        ("3 / 4 * 100 = 75%, or 3/4 = 75%", [("3 / 4 * 100", "75%", True), ("3/4", "75%", True)]),
        # Rounded to the decimals that are written, and to none of those that are not.
        ("10 / 3 = 3.33, 2 / 3 = 0.66", [("10 / 3", "3.33", True), ("2 / 3", "0.66", True)]),
        ("10 / 3 = 3", [("10 / 3", "3", False)]),
        ("3.5 + 1 = 4.6", [("3.5 + 1", "4.6", False)]),
        ("3 + 4 = 8 pens", [("3 + 4", "8", False)]),
    ],
)
def test_equations_of_numbers_are_found(text: str, expected: list[tuple[str, str, bool]]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "x + 3 = 7", "2x + 3 + 4 = 7", "3 + 4 = 7 + x", "3 + 4 = 7x", "3 + 4 = 2^3", "x^2 + 4 = 5",
        "2^3 + 4 = 12", "3 + 4 == 7", "Monday + 3 = Thursday", "3 pens + 4 pens = 7 pens", "5 = 5",
        "3/0 = 5", "3 + (4 = 7", "a2 + 4 = 6", "n = 5", "", "7 > 3, so Ann.",
    ],
)  # fmt: skip
def test_what_is_not_read_is_not_judged(text: str) -> None:
    assert found(text) == []


def test_whatever_is_calculated_is_what_python_says() -> None:
    rng = Random(0)
    for _ in range(300):
        numbers = [str(rng.randint(0, 12)) for _ in range(4)]
        signs = [rng.choice("+-*/") for _ in range(3)]
        a, b, c, d = numbers
        side = rng.choice(
            [
                f"{a} {signs[0]} {b} {signs[1]} {c} {signs[2]} {d}",
                f"({a} {signs[0]} {b}) {signs[1]} ({c} {signs[2]} {d})",
                f"{a} {signs[0]} ({b} {signs[1]} {c} {signs[2]} {d})",
            ]
        )
        exact = side
        for number in dict.fromkeys(numbers):
            exact = " ".join(exact.replace("(", "( ").replace(")", " )").split())
            exact = " ".join(
                f"Fraction({word})" if word == number else word for word in exact.split()
            )
        try:
            expected = eval(exact)
        except ZeroDivisionError:
            assert calculated(side) is None
            continue
        assert calculated(side) == expected


def test_each_wrong_result_is_counted_and_no_other() -> None:
    """All sums of two steps with every right or wrong result."""
    for a, b, c, first, second in product(
        range(1, 4), range(1, 4), range(1, 4), *[range(-1, 2)] * 2
    ):
        middle = a + b + first
        last = middle + c + second
        text = f"1. Start with {a}. 2. {a} + {b} = {middle}. 3. {middle} + {c} = {last}."
        assert wrong_steps(text) == ((first != 0) + (second != 0), 2)


def test_exactly() -> None:
    assert calculated("0.1 + 0.2") == Fraction(3, 10)


@pytest.mark.parametrize("text", ["1+" * 4000, "1+1=" * 4000, "1" * 9000, "1 + 1 = 2 " * 1000])
def test_long_texts_take_no_long_time(text: str) -> None:
    start = process_time()
    calculations(text)
    assert process_time() - start < 2
