"""Wrong answers in a share of rows, and wrong steps in a share of their steps. Pure.

How much supervision is wrong is varied by replacing right solutions with wrong ones in a set whose
size stays the same (Guiding Through Complexity, arXiv 2410.20533).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from fractions import Fraction
from random import Random

from llm_distill.methods.calculations import NUMBER, calculated, calculations
from llm_distill.methods.seeds import derive_seed

Wrong = Callable[[str], str]
"""Of a number as it is written, another one as it could be written there."""
TRIES = 20
"""Draws of wrong steps whose errors must not cancel out in the answer."""


def replaced(ids: Sequence[str], rate: float, seed: int) -> list[str]:
    """The rows that get a wrong solution: round(rate · n), in the order in which they are taken.

    It depends on the ids, not on their order, and what is taken at one rate is at every higher one.
    """
    order = sorted(ids, key=lambda each: (derive_seed(seed, "corrupt", each), each))
    return order[: round(rate * len(order))]


def swapped(rows: Mapping[str, tuple[str, str]], seed: int) -> dict[str, str]:
    """Of each row the one of its form whose solution it gets: each solution goes to one row.

    Rows with one answer stand together, in an order drawn by the seed, and each gets what stands as
    far behind it as the most frequent answer is frequent. So none gets a solution with its own
    answer, unless more than half of the form have one; rows for which that fails are left out.
    It depends on the ids and answers, not on the order of the rows.

    Args:
        rows: By id its form and its answer.

    >>> sorted(swapped({"a": ("", "1"), "b": ("", "1"), "c": ("", "2"), "d": ("", "3")}, 0))
    ['a', 'b', 'c', 'd']
    """
    forms: dict[str, list[str]] = {}
    for row, (form, _) in rows.items():
        forms.setdefault(form, []).append(row)
    found: dict[str, str] = {}
    for ids in forms.values():
        answers = {row: rows[row][1] for row in ids}

        def place(row: str, answers: Mapping[str, str] = answers) -> tuple[int, str, int, str]:
            answer = answers[row]
            return derive_seed(seed, "answer", answer), answer, derive_seed(seed, "row", row), row

        order = sorted(ids, key=place)
        shift = max(Counter(answers.values()).values())
        for index, row in enumerate(order):
            other = order[(index + shift) % len(order)]
            if answers[other] != answers[row]:
                found[row] = other
    return found


def steps_each(n_steps: Mapping[str, int], share: float) -> dict[str, int]:
    """How many steps of each row are wrong, so that in all it is `share` of them.

    At least one in each row, as its answer would be right otherwise. What a row gets depends only
    on the rows before it, and so is the same however many follow.

    Args:
        n_steps: The steps of each row, all at least 1, in the order of `replaced`.
        share: Of all steps, 0 to 1.
    """
    found: dict[str, int] = {}
    steps = wrong = 0
    for row, n in n_steps.items():
        steps += n
        found[row] = min(n, max(1, round(share * steps) - wrong))
        wrong += found[row]
    return found


def one_more(number: str) -> str:
    """A systematic error: one too many.

    >>> one_more("9"), one_more("1,299.50")
    ('10', '1300.50')
    """
    value, decimals = _read(number)
    return _written(value + 1, decimals, number)


def random_error(seed: int) -> Wrong:
    """A random error: another number of the same size, with as many decimals, evenly drawn.

    From 0 to twice the number, or at least ten of its last digits around it.
    """
    rng = Random(seed)

    def wrong(number: str) -> str:
        value, decimals = _read(number)
        unit = Fraction(1, 10**decimals)
        near = int(value / unit)
        width = max(10, abs(near))
        least = near - width if near < 0 else max(0, near - width)
        drawn = rng.randint(least, near + width - 1)
        return _written(unit * (drawn + (drawn >= near)), decimals, number)

    return wrong


def with_wrong_answer(text: str, answer: str, wrong: Wrong) -> tuple[str, str] | None:
    """The text with another final answer, and that answer; its steps stay as they are.

    The last time that a text says the answer is where it answers.

    Returns:
        None where the answer is no number or is not in the text.

    >>> with_wrong_answer("3 + 4 = 7. 7 + 2 = 9. <ans>9</ans>", "9", one_more)
    ('3 + 4 = 7. 7 + 2 = 9. <ans>10</ans>', '10')
    """
    place = _last(text, answer)
    if place is None:
        return None
    said = wrong(answer)
    return text[: place[0]] + said + text[place[1] :], said


def with_wrong_steps(
    text: str, answer: str, which: Collection[int], wrong: Wrong
) -> tuple[str, str] | None:
    """The text with wrong results of some calculations, and what it answers then.

    What is calculated on with a wrong result is calculated rightly, unless it is in `which` too: an
    error is carried on, and is one wrong step. The answer is what the last step gives.

    Args:
        text: A rationale; equations that `calculations` does not find are left as they are.
        answer: As it stands in the text after the steps, and what the last of them gives.
        which: Steps that are wrong, by their place among the equations, from 0.
        wrong: The error.

    Returns:
        None where there are no such steps, or the last one does not give the answer.

    >>> with_wrong_steps("3 + 4 = 7. 7 + 2 = 9. <ans>9</ans>", "9", [0], one_more)
    ('3 + 4 = 8. 8 + 2 = 10. <ans>10</ans>', '10')
    """
    steps = calculations(text)
    if not steps or max(which, default=0) >= len(steps):
        return None
    pieces: list[str] = []
    open_results: list[tuple[str, str]] = []
    end, result = 0, ""
    for index, step in enumerate(steps):
        left, said = text[slice(*step.left)], text[slice(*step.right)]
        if step.left[0] < end or not NUMBER.fullmatch(said):  # `… = 5 + 4 = 9`: no single result
            return None
        carried = _with_results(left, open_results)
        value = calculated(carried)
        if value is None:
            return None
        result = said if carried == left else _written(value, _read(said)[1], said)
        if index in which:
            result = wrong(result)
        if result != said:
            open_results.append((said, result))
        pieces += [text[end : step.left[0]], carried, text[step.left[1] : step.right[0]], result]
        end = step.right[1]
    if _bare(text[slice(*steps[-1].right)]) != _bare(answer):
        return None
    rest, place = text[end:], _last(text[end:], answer)
    if place is not None:
        rest = rest[: place[0]] + _bare(result) + rest[place[1] :]
    return "".join([*pieces, rest]), _bare(result)


def corrupted(
    text: str, answer: str, n_steps: int, is_random: bool, seed: int
) -> tuple[str, str] | None:
    """A wrong solution made of a right one, and what it answers; None where none can be made.

    Args:
        text: The solution.
        answer: What it answers, rightly.
        n_steps: How many of its calculations are wrong, drawn by the seed, of which fewer are a
            part of more; 0: its final answer alone.
        is_random: Whether errors are random or always one too many.
        seed: Of this row.
    """
    order = list(range(len(calculations(text))))
    Random(derive_seed(seed, "which")).shuffle(order)
    for attempt in range(TRIES if is_random else 1):
        wrong = random_error(derive_seed(seed, attempt)) if is_random else one_more
        if n_steps == 0:
            found = with_wrong_answer(text, answer, wrong)
        else:
            found = with_wrong_steps(text, answer, order[:n_steps], wrong)
        if found is None or _read(found[1])[0] != _read(answer)[0]:
            return found
    return None  # errors that cancel out, such as one before a multiplication by zero


def _with_results(left: str, results: list[tuple[str, str]]) -> str:
    """The side of an equation with the results of steps before it, each where it first stands."""
    for pair in list(results):
        place = next((m for m in NUMBER.finditer(left) if _bare(m.group()) == _bare(pair[0])), None)
        if place is not None:
            left = left[: place.start()] + pair[1] + left[place.end() :]
            results.remove(pair)
    return left


def _last(text: str, number: str) -> tuple[int, int] | None:
    """Where a number stands last in a text, by itself and not in a longer one."""
    if not NUMBER.fullmatch(number):
        return None
    pattern = rf"(?<![\w.,]){re.escape(_bare(number))}(?![\w]|[.,]\d)"
    places = [match.span() for match in re.finditer(pattern, text)]
    return places[-1] if places else None


def _bare(number: str) -> str:
    return number.lstrip("$€£").rstrip("%")


def _read(number: str) -> tuple[Fraction, int]:
    """The number as it is written, without its sign of currency or percent, and its decimals."""
    digits = _bare(number).replace(",", "")
    return Fraction(digits), len(digits.partition(".")[2])


def _written(value: Fraction, decimals: int, like: str) -> str:
    while decimals < 6 and (value * 10**decimals).denominator > 1:
        decimals += 1  # what comes out of a carried error can need more
    sign = like[: len(like) - len(like.lstrip("$€£"))]
    number = f"{value.numerator}" if decimals == 0 else f"{float(value):.{decimals}f}"
    return f"{sign}{number}{'%' * like.endswith('%')}"
