"""Whether two expressions in LaTeX are equal, by math-verify and sympy. Nothing here raises."""

from __future__ import annotations

import logging
import re
import threading
from typing import Any

from llm_distill.methods.quantities import read_quantity

TIMEOUT = 5
"""Seconds that math-verify gets for reading an answer, and again for comparing it."""

# Expressions that would be worked out digit by digit, for hours: a power of a power of numbers, an
# exponent of five digits, a factorial of a large or composed number, a long sum or product.
ENDLESS = re.compile(
    r"(?:\^|\*\*)[\s{(]*(?:\d+[\s})]*(?:\^|\*\*)|-?\d{5,})"
    r"|(?:\d{4,}|[)}!])\s*!"
    r"|(?:\\[dt]?binom|\\sum|\\prod|\\int).*\d{5,}"
    r"|\d[eE]\+?\d{4,}",
    re.DOTALL,
)


def equal_expressions(answer: str, reference: str, tolerance: float) -> bool:
    """Whether they are equal, for all values of their variables.

    Args:
        answer: Without decoration.
        reference: Without decoration.
        tolerance: Relative, where one of two numbers is a decimal and the other is not a fraction.
    """
    # Its time limit is a signal, which only the main thread can have; elsewhere it would fail.
    limit = TIMEOUT if threading.current_thread() is threading.main_thread() else None
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of that at every call
    try:
        from math_verify import verify

        gold, given = (_parsed(text, limit) for text in (reference, answer))
        if not gold or not given:
            return False
        scalar = _equal_scalars(given[0], gold[0], tolerance)
        if scalar is not None:
            return scalar
        sides = ((gold, given), (given, gold))  # an interval and an inequality one way only
        return any(verify(*each, float_rounding=12, timeout_seconds=limit) for each in sides)
    except Exception:  # what a model wrote must not end a run, whatever a parser makes of it
        return False


def _parsed(text: str, limit: int | None) -> list[Any]:
    """As sympy sees it; a number with what stands around it is not read wrongly again."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse
    from sympy import Rational

    number = read_quantity(text)
    if number is not None and not number.units and not number.words:
        exact = Rational(number.value.numerator, number.value.denominator)
        return [exact if exact.is_Integer else exact.evalf(60)]
    # It would cut units off, and `ab` of `2ab` is one to it; without a whole parse it reads a part.
    normalized = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none"
    )
    found: list[Any] = parse(
        f"${text}$",
        [LatexExtractionConfig(normalization_config=normalized)],
        "no_fallback",
        parsing_timeout=limit,
    )
    return found


def _equal_scalars(a: Any, b: Any, tolerance: float) -> bool | None:
    """Whether two numbers of sympy are equal; None where one is not a number."""
    from sympy import Expr, Float

    if not (isinstance(a, Expr) and isinstance(b, Expr)) or a.free_symbols or b.free_symbols:
        return None
    a, b = a.doit(), b.doit()
    difference, size = abs((a - b).evalf(60)), max(abs(a.evalf(60)), abs(b.evalf(60)))
    if not difference.is_number or not size.is_finite:
        return bool(a == b)
    decimal = any(each.atoms(Float) for each in (a, b))
    return bool(difference <= size * (tolerance if decimal else 1e-50))
