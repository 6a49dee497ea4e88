"""The table of (answer, reference, verdict): what is the same mathematics, and what is not."""

from __future__ import annotations

from fractions import Fraction

import pytest

from llm_distill.methods.math_answers import equal_as_math
from llm_distill.methods.quantities import read_quantity
from llm_distill.methods.units import read_unit

SAME = [
    # decoration
    ("**72**", "72"),
    ("*72*", "72"),
    ("`72`", "72"),
    ("__72__", "72"),
    (r"\(72\)", "72"),
    ("$$72$$", "72"),
    (r"\text{72}", "72"),
    (r"\fbox{72}", "72"),
    (r"So $x = \boxed{\text{72}}$.", "72"),
    ("７２", "72"),
    ("= 72.", "72"),
    ("The answer is 72", "72"),
    ("approximately 72", "72"),
    (r"\left(1, 2\right)", "(1,2)"),
    # how numbers are written
    ("+5", "5"),
    ("−5", "-5"),
    ("-0", "0"),
    ("1,234.50", "1234.5"),
    (r"1\,000", "1000"),
    ("1{,}000", "1000"),
    ("1 000 000", "1000000"),
    ("1'000", "1000"),
    ("5 million", "5,000,000"),
    ("1e-3", "0.001"),
    (".5", "0.5"),
    ("6.02e23", r"6.02\times 10^{23}"),
    ("1.5×10³", "1500"),
    ("5*10**3", "5000"),
    (r"\frac12", "0.5"),
    ("−½", "-1/2"),
    ("2½", "2.5"),
    (r"2\frac{1}{2}", "5/2"),
    ("3 1/2 cups", "3.5"),
    ("12/6", "2"),
    ("1⁄2", r"\dfrac{2}{4}"),
    # tolerance is for what cannot be written as a decimal
    (r"\frac{1}{3}", "0.333333333"),
    (r"\sqrt2", "1.41421356"),
    (r"2\pi", "6.2831853"),
    # units
    ("18 dollars", "18"),
    (r"\$18", "18"),
    (r"$\$18$", "$18"),
    ("$3.50", "3.5 dollars"),
    ("5 €", "€5"),
    ("72 apples", "72"),
    ("72 apples", "72 apples in total"),
    ("45 minutes", "45"),
    ("180 minutes", "3 hours"),
    ("100 cm", "1 m"),
    (r"5\text{cm}", "5"),
    ("10cm", "0.1 m"),
    ("12 m/s", "12 meters per second"),
    ("36 km/h", "10 m/s"),
    ("50 m²", "50 square meters"),
    (r"100\text{ cm}^2", "100 cm^2"),
    ("90°", r"90^\circ"),
    ("20 °C", "20°C"),
    ("50 percent", "50%"),
    (r"50\%", "50"),
    ("0.5", "50%"),
    # lists, intervals, expressions
    ("2, 3", "3, 2"),
    ("2 or -2", r"\pm 2"),
    (r"a=1 \text{ or } a=-2", "-2, 1"),
    ("x=2, y=3", "y = 3, x = 2"),
    (r"\{1,2\}", r"\{2,1\}"),
    ("[0,1)", "[0, 1)"),
    (r"x\in(-\infty,3)", r"(-\infty,3)"),
    (r"x \geq 3", r"[3,\infty)"),
    ("x>3", "3<x"),
    ("x=5", "5"),
    ("f(x)=2x", "2x"),
    ("x²", "x^2"),
    (r"(x+1)(x+2)", "x^2+3x+2"),
    (r"\frac{x}{2}", "0.5x"),
    ("2ab", "2ba"),
    (r"\log_2 8", "3"),
    ("2*3", "6"),
    ("3!", "6"),
    # dates, times, ranges, words are themselves
    ("10 to 15", "10–15"),
    ("10-15 km", "10 - 15 km"),
    ("10 km - 15 km", "10 km to 15 km"),
    ("2^3-1", "7"),
    ("x_1", "x_{1}"),
    ("1010_{2}", "1010_2"),
    ("09:30", "9:30"),
    ("9:30 am", "9:30 A.M."),
    ("2024-02-04", "2024-2-4"),
    ("No Solution", "no solution"),
]

DIFFERENT = [
    # small and large numbers
    (r"6.63\times10^{-34}", r"1.05\times10^{-34}"),
    ("0.00000001", "0.00000002"),
    ("1/10000000", "1/20000000"),
    ("299792458.5", "299792458.4"),
    ("1.0000001", "1"),
    ("100000000000000000001", "100000000000000000002"),
    ("2^{-98}", "2^{-99}"),
    ("0.33", "1/3"),
    ("1.41", r"\sqrt{2}"),
    # another number
    ("-5", "5"),
    ("5,000", "5"),
    ("10,000", "10,00"),
    ("3,4", "3.4"),
    ("1010_2", "10"),
    ("2i", "2"),
    ("2ab", "2"),
    ("5m", "5"),
    ("5 ± 2", "5"),
    ("7 remainder 2", "7"),
    ("5 less than x", "5"),
    ("1/0", "1"),
    # units
    ("5 m", "5 km"),
    ("12 m/s", "12 km/h"),
    ("20°C", "20°F"),
    ("€5", "$5"),
    ("5 hours", "5 apples"),
    ("12 boys", "12 girls"),
    ("50 m", "50 m^2"),
    # not arithmetic
    ("10-15", "15-20"),
    ("10-15", "-5"),
    ("10-15 minutes", "10-15 hours"),
    ("x_1", "x_2"),
    ("2024-02-04", "2024-01-05"),
    ("2024-01-05", "2018"),
    ("4/5/2024", "5/4/2024"),
    ("10:30", "1/3"),
    ("9:30", "3:10"),
    ("9:30 am", "9:30 pm"),
    ("12.30", "12:30"),
    ("AB", "BA"),
    (r"\triangle ABC", r"\triangle ACB"),
    ("north", "thorn"),
    ("no solution", "no real solution"),
    # lists and intervals
    ("1728", "1331 and 1728"),
    ("5, 7", "5"),
    ("2", r"\pm 2"),
    ("1, 1, 2", "1, 2, 2"),
    ("(1,2)", "(2,1)"),
    ("(0,1)", "[0,1]"),
    ("[0,1)", "(0,1]"),
    ("D=(0,1.5)", "D=(0,1)"),
    ("x=1", "y=1"),
    ("3", "x>3"),
    ("x<3", "x>3"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&3\\2&4\end{pmatrix}"),
    (r"\infty", r"-\infty"),
]


@pytest.mark.parametrize(("answer", "reference"), SAME)
def test_the_same_written_otherwise_is_right(answer: str, reference: str) -> None:
    assert equal_as_math(answer, reference)
    assert equal_as_math(reference, answer)


@pytest.mark.parametrize(("answer", "reference"), DIFFERENT)
def test_something_else_is_wrong(answer: str, reference: str) -> None:
    assert not equal_as_math(answer, reference)
    assert not equal_as_math(reference, answer)


def test_the_tolerance_is_relative_and_can_be_set() -> None:
    assert not equal_as_math("0.333", "1/3")
    assert equal_as_math("0.333", "1/3", tolerance=1e-2)
    assert equal_as_math("3.33e-9", r"\frac{1}{3} \times 10^{-8}", tolerance=1e-2)
    assert not equal_as_math("0.34", "0.33", tolerance=0.5)


def test_numbers_are_exact() -> None:
    found = read_quantity("1,000.10")
    assert found is not None
    assert found.value == Fraction(10001, 10)


@pytest.mark.parametrize("word", ["cats", "apples", "at", "", "5"])
def test_other_words_are_not_units(word: str) -> None:
    assert read_unit(word) == ()
