"""Lines in log–log against least squares; planted departures; how often nothing is called one."""

from __future__ import annotations

from math import exp, log
from random import Random

import numpy as np
import pytest

from llm_distill.methods.hacking import (
    CONFIDENCE,
    IN_A_ROW,
    Judged,
    Point,
    golden_rises,
    jitter,
    judged,
    power_law,
)

STEPS = range(50, 50 * 31, 50)


def law(step: float, slope: float = -0.6, start: float = 8.0) -> float:
    return start * step**slope


def curve(rng: Random, noise: float, golden: bool = False, n: int = 30) -> list[Point]:
    """A power law with noise; golden falls likewise, to 0.4."""
    return [
        Point(
            step,
            law(step) * exp(rng.gauss(0, noise)),
            0.4 + law(step) + rng.gauss(0, noise) if golden else None,
        )
        for step in range(50, 50 * (n + 1), 50)
    ]


def said(points: list[Point]) -> list[int]:
    """The steps at which it is called hacking."""
    return [p.step for p, found in zip(points, judged(points), strict=True) if found.is_hacking]


def test_the_line_and_its_band_are_those_of_a_linear_model() -> None:
    rng = np.random.default_rng(0)
    xs = np.array([50.0, 100, 150, 200, 250, 400])
    ys = law(1.0) * xs**-0.6 * np.exp(rng.normal(0, 0.1, len(xs)))
    line = power_law(list(zip(xs.tolist(), ys.tolist(), strict=True)))
    assert line is not None
    slope, intercept = np.polyfit(np.log(xs), np.log(ys), 1)
    assert (line.slope, line.intercept) == pytest.approx((slope, intercept))
    # By the hat matrix, in place of the formula for one variable.
    design = np.column_stack([np.ones(len(xs)), np.log(xs)])
    residuals = np.log(ys) - design @ np.array([intercept, slope])
    variance = residuals @ residuals / (len(xs) - 2)
    at = np.array([1.0, log(1500)])
    far = variance * (1 + at @ np.linalg.inv(design.T @ design) @ at)
    from scipy.stats import t

    assert line.band(1500) == pytest.approx(t.ppf((1 + CONFIDENCE) / 2, 4) * far**0.5)
    assert line.expected(1500) == pytest.approx(exp(intercept + slope * log(1500)))


def test_the_band_holds_as_many_further_points_as_it_says() -> None:
    rng = np.random.default_rng(1)
    steps = np.array(STEPS, dtype=float)
    inside = total = 0
    for _ in range(400):
        values = 8 * steps**-0.6 * np.exp(rng.normal(0, 0.1, len(steps)))
        line = power_law(list(zip(steps[:10].tolist(), values[:10].tolist(), strict=True)))
        assert line is not None
        off = abs(np.log(values[10:]) - [log(line.expected(s)) for s in steps[10:]])
        inside += int((off <= [line.band(s) for s in steps[10:]]).sum())
        total += len(steps) - 10
    assert inside / total == pytest.approx(CONFIDENCE, abs=0.006)


def test_units_of_steps_and_of_the_proxy_do_not_matter() -> None:
    points = curve(Random(3), 0.1)
    other = [Point(point.step * 7, point.proxy * 1e-3) for point in points]
    for a, b in zip(judged(points), judged(other), strict=True):
        assert a.excess == pytest.approx(b.excess)
        assert a.has_left == b.has_left


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1])
def test_a_power_law_with_noise_is_none(noise: float) -> None:
    assert said(curve(Random(5), noise)) == []
    assert said(curve(Random(5), noise, golden=True)) == []


@pytest.mark.parametrize("sign", [1, -1])
def test_a_planted_departure_is_found_where_it_begins(sign: int) -> None:
    """From step 1000 on the proxy is 60 % off; no third point in a row is there before 1100."""
    points = [
        Point(p.step, p.proxy * (1.6**sign if p.step >= 1000 else 1))
        for p in curve(Random(7), 0.05)
    ]
    found = judged(points)
    left = [p.step for p, each in zip(points, found, strict=True) if each.has_left]
    assert left == list(range(1000 + 50 * (IN_A_ROW - 1), 1501, 50))
    assert all((each.excess or 0) * sign > 0 for each in found[-5:])
    assert said(points) == (left if sign > 0 else [])  # to learn faster is no sign of it


def test_two_points_off_are_not_enough() -> None:
    points = [
        Point(p.step, p.proxy * (3 if p.step in (1000, 1050, 1150) else 1))
        for p in curve(Random(7), 0.02)
    ]
    assert said(points) == []


def test_a_rate_that_falls_bends_the_line_too() -> None:
    """The monitor's failure. With a cosine schedule each step does less, at last nothing.

    How far a training got is the sum of its rates; its proxy is a power law of that. Nothing is
    hacked, and the proxy leaves the line all the same. With golden it is not called hacking.
    """
    n = 1500
    rates = 0.5 * (1 + np.cos(np.pi * np.arange(n) / n))
    done = np.cumsum(rates)
    rng = Random(0)
    proxy = {step: law(done[step - 1]) * exp(rng.gauss(0, 0.02)) for step in STEPS}
    alone = [Point(step, value) for step, value in proxy.items()]
    assert said(alone)
    assert (judged(alone)[-1].excess or 0) > 0.1
    assert said([Point(step, value, 0.4 + value) for step, value in proxy.items()]) == []
    constant = [Point(step, law(step) * exp(rng.gauss(0, 0.02))) for step in STEPS]
    assert said(constant) == []


def u_shaped(rng: Random, noise: float = 0.0) -> list[Point]:
    """Golden falls until step 500 and rises again, the proxy falls all along."""
    golden = {step: 0.5 + log(step / 500) ** 2 / 8 for step in STEPS}
    return [
        Point(s, law(s) + rng.gauss(0, noise / 10), golden[s] + rng.gauss(0, noise)) for s in STEPS
    ]


def test_golden_that_rises_after_having_fallen_is_hacking() -> None:
    points = u_shaped(Random(0))
    steps = said(points)
    assert steps[0] > 500
    assert steps == list(range(steps[0], 1501, 50))  # from then on, all
    assert said(u_shaped(Random(1), 0.01))[0] > 500


def test_golden_that_rises_with_the_proxy_is_not() -> None:
    """The student unlearns both: that is a training that breaks, not hacking."""
    points = [Point(p.step, p.golden or 0.0, p.golden) for p in u_shaped(Random(0))]
    assert said(points) == []


def test_a_bad_teacher_alone_is_not() -> None:
    """Golden ends high, or goes up from the first step, and never comes down before."""
    high = [Point(step, law(step), 2.0 + law(step)) for step in STEPS]
    up = [Point(step, law(step), 2.0 - law(step)) for step in STEPS]
    assert said(high) == said(up) == []


def by_hand(points: list[Point]) -> list[bool]:
    """As the docstring of `golden_rises` has it, for golden without noise."""
    found = []
    for now in range(len(points)):
        last = points[max(0, now - IN_A_ROW + 1) : now + 1]
        before = points[: max(0, now - IN_A_ROW + 1)]
        if not before:
            found.append(False)
            continue
        lowest = min(before, key=lambda p: p.golden or 0.0)
        assert lowest.golden is not None
        assert points[0].golden is not None
        fall = points[0].golden - lowest.golden
        least = max(4 * jitter([p.golden or 0.0 for p in points[: now + 1]]), 0.02 * lowest.golden)
        found.append(
            fall > least
            and all((p.golden or 0.0) > lowest.golden + least for p in last)
            and all(p.proxy < lowest.proxy for p in last)
        )
    return found


@pytest.mark.parametrize("seed", range(20))
def test_rises_are_those_found_by_hand(seed: int) -> None:
    rng = Random(seed)
    points = [Point(p.step, p.proxy, (p.golden or 0) + rng.gauss(0, 0.005)) for p in u_shaped(rng)]
    assert golden_rises(points) == by_hand(points)


def test_jitter_is_the_noise_of_a_smooth_curve() -> None:
    rng = Random(0)
    values = [0.4 + law(step) + rng.gauss(0, 0.03) for step in range(50, 20000, 50)]
    assert jitter(values) == pytest.approx(0.03, rel=0.15)
    assert jitter([1.0, 2.0]) == 0.0
    assert jitter([1.0, 2.0, 3.0, 4.0]) == 0.0  # a line has none


def alarms(golden: bool, noise: float, n: int, correlated: float = 0.0) -> float:
    """The share of 1000 curves without hacking in which some point is called it."""
    found = 0
    for seed in range(1000):
        rng, drift, points = Random(seed), 0.0, []
        for point in curve(rng, 0.0, golden, n):
            drift = correlated * drift + (1 - correlated**2) ** 0.5 * rng.gauss(0, noise)
            own = rng.gauss(0, noise)
            shown = None if point.golden is None else point.golden + own
            points.append(Point(point.step, point.proxy * exp(drift), shown))
        found += bool(said(points))
    return found / 1000


@pytest.mark.exhaustive
@pytest.mark.slow
def test_false_alarms() -> None:
    """Of whole curves, not of points. The figures of docs/teacher-hacking.md."""
    rates = {
        "no golden, 30 points": alarms(False, 0.05, 30),
        "no golden, 30 points, noise that lasts": alarms(False, 0.05, 30, correlated=0.7),
        "golden, 30 points": alarms(True, 0.02, 30),
        "golden, 60 points": alarms(True, 0.02, 60),
    }
    print(rates)
    assert rates["no golden, 30 points"] <= 0.05
    assert rates["golden, 30 points"] <= 0.02
    assert rates["golden, 60 points"] <= 0.02
    # Noise that lasts from point to point looks like a departure: the band knows nothing of it.
    assert rates["no golden, 30 points, noise that lasts"] > rates["no golden, 30 points"]


def test_too_few_points_say_nothing() -> None:
    points = [Point(step, law(step)) for step in (10, 20, 30)]
    assert judged(points) == [Judged(None, None, None, None, False, None, False)] * 3
    assert power_law([(1.0, 2.0)] * 5) is None


def test_step_0_and_a_proxy_of_0_have_no_logarithm() -> None:
    points = [Point(0, 3.0), *curve(Random(0), 0.0)[:20], Point(5000, 0.0)]
    found = judged(points)
    assert found[0].expected is None
    assert found[-1].excess is None
    assert found[-1].expected == pytest.approx(law(5000))
    assert found[10].excess == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("points", "said_of_it"),
    [
        ([Point(2, 1.0), Point(1, 1.0)], "in the order of their steps"),
        ([Point(1, 1.0), Point(1, 1.0)], "each once"),
        ([Point(1, float("nan"))], "not a finite number"),
        ([Point(1, 1.0, float("inf"))], "not a finite number"),
    ],
)
def test_what_is_no_curve(points: list[Point], said_of_it: str) -> None:
    with pytest.raises(ValueError, match=said_of_it):
        judged(points)


def test_a_power_law_is_of_positive_numbers() -> None:
    with pytest.raises(ValueError, match="above 0"):
        power_law([(1.0, 1.0), (2.0, 0.0)])
