"""The rate and the time left of a piece of work, over arrivals as engines have them."""

from __future__ import annotations

import random

import pytest

from llm_distill.manifest import Pace
from llm_distill.runtime.pace import Speed


def test_start_up_is_not_in_the_rate() -> None:
    """A model takes 90 s to load; then 8 rows a second come in batches of 64."""
    speed = Speed(0.0)
    assert speed.left(60.0, 384) is None
    said = []
    for batch in range(1, 7):
        at = 90.0 + 8 * batch
        speed.came(at, 1, 20)  # the first of a batch is heard of before the others
        speed.came(at + 0.1, 64 * batch, 1280 * batch)
        said.append(speed.left(at + 0.2, 384 - 64 * batch))
    assert said[0] is None
    assert said[1:] == [pytest.approx(8 * n, abs=0.6) for n in (4, 3, 2, 1, 0)]
    assert speed.rates(138.2) == pytest.approx((8, 160), rel=0.05)


def test_what_is_left_falls_between_two_arrivals_and_waits_for_one_that_is_overdue() -> None:
    speed = Speed(0.0)
    for step in range(1, 5):
        speed.came(10.0 * step, step, 0)
    assert [speed.left(at, 6) for at in (40, 45, 50)] == [60, 55, 50]
    overdue = speed.left(80.0, 6)
    assert overdue is not None
    assert overdue > 60


def test_one_slow_minute_in_a_long_work_does_not_double_what_is_left() -> None:
    speed, units, said = Speed(0.0), 0, []
    for second in range(1200):
        units += 2 if 600 <= second < 660 else 10
        speed.came(float(second), units, 0)
        if second > 300:
            left = speed.left(float(second), 24_000 - units)
            assert left is not None
            said.append(left + second)
    assert 2350 < min(said) < max(said) < 2800


def test_a_rate_that_stays_changed_is_noticed() -> None:
    speed, units = Speed(0.0), 0
    for second in range(600):
        units += 10 if second < 300 else 1
        speed.came(float(second), units, 0)
    left = speed.left(599.0, 100)
    assert left == pytest.approx(100, rel=0.05)


def test_the_last_times_rate_counts_until_this_times_is_sure() -> None:
    last = Pace(first=64, start=20.0, units=320, seconds=40.0)
    speed = Speed(100.0, last)
    assert speed.left(100.0, 384) == 20 + 40
    assert speed.left(110.0, 384) == 10 + 40
    for step in range(17):  # twice as slow as then
        speed.came(120.0 + 16 * step, 64 * (step + 1), 0)
        now = speed.left(120.0 + 16 * step, 640)
        wanted = {0: 80, 1: 80 + 80 * 16 / 30}.get(step, 160)
        assert now == pytest.approx(wanted)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_said_is_near_the_truth_whatever_the_batches(seed: int) -> None:
    """Loading, then batches that take uneven times: never 51 minutes where 34 seconds are left."""
    draw = random.Random(seed)
    load, size, n = draw.uniform(0, 300), draw.choice([1, 7, 64]), draw.randint(12, 30)
    times = [draw.uniform(2.0, 4.0) for _ in range(n)]
    end, now = load + sum(times), load
    speed = Speed(0.0)
    for batch, seconds in enumerate(times, start=1):
        now += seconds
        speed.came(now, size * batch, 0)
        left = speed.left(now, size * (n - batch))
        if left is not None and batch < n:
            assert 0.6 < left / (end - now) < 1.7


def test_a_pace_is_what_the_next_time_can_go_by() -> None:
    speed = Speed(5.0)
    assert speed.pace() is None
    speed.came(15.0, 64, 0)
    assert speed.pace() is None
    speed.came(25.0, 192, 0)
    assert speed.pace() == Pace(first=64, start=10.0, units=128, seconds=10.0)
