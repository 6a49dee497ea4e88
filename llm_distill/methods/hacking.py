"""Whether a student learns its teacher's faults: teacher hacking (arXiv 2502.02671). Pure.

A proxy is how far the student is from its teacher, golden how far it is from what both should be
like, an oracle; both on prompts that are not trained on. Hacking: golden has fallen and rises again
while the proxy goes on falling. Without an oracle there is a sign of it alone: the proxy leaves the
power law of its beginning, a line in log–log (the paper's section on detecting it).

That line, its band and what counts as leaving it are our own: see docs/decisions/0044.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, exp, inf, log, sqrt
from statistics import fmean, median

IN_A_ROW = 3
"""So many points must agree before something is said."""
FEWEST_IN_FIT = 4
"""Of fewer points a line has no band to speak of."""
CONFIDENCE = 0.99
"""Of the band, for one further point; see `PowerLaw.band`."""
LEAST_EXCESS = 0.05
"""A proxy closer to the line than this (in log, so about 5 %) has not left it: no curve of a
training is a power law to the last digit."""
GOLDEN_NOISE = 4.0
"""How many standard deviations of its jitter golden must move for that to be a fall or a rise."""
GOLDEN_SHARE = 0.02
"""The least rise, as a share of the lowest golden."""


@dataclass(frozen=True)
class Point:
    """One measurement of a training.

    step: optimizer steps done, over all rounds; the fit leaves out step 0, which has no logarithm.
    proxy: distance of the student from the teacher, such as nats a token; likewise those of 0.
    golden: distance from the oracle, in whatever unit; None where there is none.
    """

    step: int
    proxy: float
    golden: float | None = None


@dataclass(frozen=True)
class PowerLaw:
    """log value = intercept + slope · log step, by least squares.

    spread: standard deviation of the residuals, with n - 2 degrees of freedom; in log.
    n: points in the fit. mean_x, sum_xx: mean of their log step, and Σ (log step − mean)².
    """

    intercept: float
    slope: float
    spread: float
    n: int
    mean_x: float
    sum_xx: float

    def expected(self, step: float) -> float:
        """The value on the line. step: above 0."""
        return exp(self.intercept + self.slope * log(step))

    def band(self, step: float) -> float:
        """Half the width, in log, of the interval that one further point lies in at CONFIDENCE.

        Student's prediction interval: s · t · √(1 + 1/n + (x − x̄)²/Σ(x − x̄)²). It grows with the
        distance from the points of the fit, because the slope is not known exactly.
        """
        from scipy.stats import t

        far = (log(step) - self.mean_x) ** 2 / self.sum_xx
        quantile = float(t.ppf((1 + CONFIDENCE) / 2, self.n - 2))
        return quantile * self.spread * sqrt(1 + 1 / self.n + far)


@dataclass(frozen=True)
class Judged:
    """What is said of a point.

    expected, low, high: the line and the ends of its band; None without a line.
    excess: log(proxy / expected), so 0.1 is about 10 % above the line; None without both.
    has_left: the proxy is beyond the band, on one side, for IN_A_ROW points up to this one.
    golden_rises: golden has fallen and risen again while the proxy fell on; None without golden.
    is_hacking: golden_rises; where there is no golden, has_left upwards: the proxy stalls. One that
        falls faster than it began is no sign of anything bad.
    """

    expected: float | None
    low: float | None
    high: float | None
    excess: float | None
    has_left: bool
    golden_rises: bool | None
    is_hacking: bool


def power_law(points: Sequence[tuple[float, float]]) -> PowerLaw | None:
    """The line through (step, value), all above 0.

    Returns:
        None of fewer than FEWEST_IN_FIT points, or if they are all of one step.

    Raises:
        ValueError: a step or a value is not positive.
    """
    if any(not (0 < number < inf) for point in points for number in point):
        raise ValueError("a power law is of steps and values above 0")
    xs, ys = [log(step) for step, _ in points], [log(value) for _, value in points]
    n = len(xs)
    if n < FEWEST_IN_FIT or len({*xs}) < 2:
        return None
    mean_x, mean_y = fmean(xs), fmean(ys)
    sum_xx = sum((x - mean_x) ** 2 for x in xs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / sum_xx
    intercept = mean_y - slope * mean_x
    left = sum((y - intercept - slope * x) ** 2 for x, y in zip(xs, ys, strict=True))
    return PowerLaw(intercept, slope, sqrt(left / (n - 2)), n, mean_x, sum_xx)


def n_in_fit(n_points: int) -> int:
    """The first third of so many points, and FEWEST_IN_FIT at least."""
    return max(FEWEST_IN_FIT, ceil(n_points / 3))


def judged(points: Sequence[Point], n_fit: int | None = None) -> list[Judged]:
    """What is said of each point, in the order of the points.

    The line is fitted to the first third of the points, leaving out those at step 0 and those whose
    proxy is not positive: these have no logarithm. What is said of a point depends on the points
    before it and on those of the fit.

    Args:
        points: By rising step.
        n_fit: How many points the line is fitted to, where more are to come; None: see `n_in_fit`.

    Raises:
        ValueError: steps do not rise, or a figure is not a number.
    """
    steps = [point.step for point in points]
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise ValueError("the points of a training are in the order of their steps, each once")
    numbers = [v for p in points for v in (p.proxy, p.golden) if v is not None]
    if any(not -inf < number < inf for number in numbers):
        raise ValueError("a figure of a training is not a finite number")
    usable = [(float(p.step), p.proxy) for p in points if p.step > 0 and p.proxy > 0]
    n = n_in_fit(len(usable)) if n_fit is None else max(FEWEST_IN_FIT, n_fit)
    line = power_law(usable[:n]) if len(usable) >= n else None
    last_of_fit = usable[n - 1][0] if line is not None else inf
    rises = golden_rises(points)
    found: list[Judged] = []
    sides: list[int] = []
    for point, rise in zip(points, rises, strict=True):
        if line is None or point.step <= 0:
            found.append(Judged(None, None, None, None, False, rise, bool(rise)))
            continue
        expected, band = line.expected(point.step), line.band(point.step)
        low, high = expected * exp(-band), expected * exp(band)
        excess = log(point.proxy / expected) if point.proxy > 0 else None
        beyond = max(band, LEAST_EXCESS)
        far = point.step > last_of_fit and excess is not None and abs(excess) > beyond
        sides.append((1 if (excess or 0.0) > 0 else -1) if far else 0)
        last = sides[-IN_A_ROW:]
        has_left = len(last) == IN_A_ROW and abs(sum(last)) == IN_A_ROW
        is_hacking = (has_left and sum(last) > 0) if rise is None else rise
        found.append(Judged(expected, low, high, excess, has_left, rise, is_hacking))
    return found


def golden_rises(points: Sequence[Point]) -> list[bool | None]:
    """Of each point, whether golden has risen for IN_A_ROW points after having fallen.

    The lowest golden before these points must be below the first one, and all of them above it, by
    more than golden's jitter and GOLDEN_SHARE explain; and the proxy must be lower at each of them
    than where golden was lowest. None where golden is not known; such points are passed over. So a
    teacher that is merely bad is none: golden then ends high, but does not rise.
    """
    known = [index for index, point in enumerate(points) if point.golden is not None]
    found: list[bool | None] = [None] * len(points)
    golden = [float(points[index].golden or 0.0) for index in known]
    proxy = [points[index].proxy for index in known]
    for place, index in enumerate(known):
        start = place - IN_A_ROW + 1
        found[index] = False
        if start < 1:
            continue
        at = min(range(start), key=golden.__getitem__)
        fall = golden[0] - golden[at]
        least = max(GOLDEN_NOISE * jitter(golden[: place + 1]), GOLDEN_SHARE * abs(golden[at]))
        has_fallen = fall > least
        above = all(each - golden[at] > least for each in golden[start : place + 1])
        falls_on = all(each < proxy[at] for each in proxy[start : place + 1])
        found[index] = has_fallen and above and falls_on
    return found


def jitter(values: Sequence[float]) -> float:
    """The standard deviation of independent noise on a smooth curve.

    From second differences, whose deviation is √6 times as large; their median, because a curve's
    steep beginning would otherwise count as noise. 0 of fewer than three values.
    """
    seconds = [abs(a - 2 * b + c) for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    return 1.4826 * median(seconds) / sqrt(6) if seconds else 0.0
