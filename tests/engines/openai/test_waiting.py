"""The spacing of amounts, on a clock that moves only when somebody waits; and backoff."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from llm_distill.engines.openai import waiting
from llm_distill.engines.openai.waiting import (
    MOST_BACKOFF,
    Pace,
    read_retry_after,
    wait_before,
)


class Clock:
    """Stands in for `time` and `sleep` of the module."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(waiting, "time", clock)
    monkeypatch.setattr(waiting, "sleep", clock.sleep)
    return clock


def passed_at(clock: Clock, limiter: Pace, *amounts: float) -> list[float]:
    """Seconds since the start at which each amount passed, all waiting at once."""
    start, times = clock.now, []

    async def one(amount: float) -> None:
        await limiter.wait(amount)
        times.append(clock.now - start)

    async def all_of_them() -> None:
        await asyncio.gather(*map(one, amounts))

    asyncio.run(all_of_them())
    return times


def test_amounts_pass_in_order_and_evenly(clock: Clock) -> None:
    assert passed_at(clock, Pace(60), 1, 1, 1, 1) == [0, 1, 2, 3]
    assert passed_at(clock, Pace(600), 100, 50, 1, 1) == pytest.approx([0, 10, 15, 15.1])


def test_silence_saves_nothing_up(clock: Clock) -> None:
    limiter = Pace(60)
    passed_at(clock, limiter, 1)
    clock.now += 3600
    assert passed_at(clock, limiter, 1, 1, 1) == [0, 1, 2]


def test_what_was_not_used_is_given_back(clock: Clock) -> None:
    limiter = Pace(60)
    passed_at(clock, limiter, 100)
    limiter.give_back(90)
    assert passed_at(clock, limiter, 1, 1) == [10, 11]


def test_the_backoff_doubles_up_to_a_bound_and_is_spread() -> None:
    for failed, longest in ((1, 1), (2, 2), (5, 16), (7, MOST_BACKOFF), (99, MOST_BACKOFF)):
        waits = [wait_before(failed, None) for _ in range(200)]
        assert all(longest / 2 <= wait <= longest for wait in waits)
        assert max(waits) - min(waits) > longest / 4


def test_what_the_server_asks_for_is_spread_and_never_cut_short() -> None:
    waits = [wait_before(2, 30) for _ in range(200)]
    assert all(30 <= wait <= 31 for wait in waits)
    assert len(set(waits)) > 100


@pytest.mark.parametrize(
    ("header", "expected"),
    [(None, None), ("7", 7), ("0.5", 0.5), ("-3", 0), ("soon", None), ("nan", None), ("", None)],
)
def test_retry_after_in_seconds(header: str | None, expected: float | None) -> None:
    assert read_retry_after({} if header is None else {"Retry-After": header}) == expected


def test_retry_after_as_a_date() -> None:
    now = datetime.now(UTC)
    later = read_retry_after(
        {"Retry-After": format_datetime(now + timedelta(seconds=3600), usegmt=True)}
    )
    assert later is not None
    assert 3500 < later <= 3600
    assert read_retry_after({"Retry-After": format_datetime(now - timedelta(days=1))}) == 0
    assert (
        read_retry_after({"Retry-After": "Sat, 01 Jan 2000 00:00:00 -0000"}) == 0
    )  # a date without a time zone


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("1h2m3.5s", 3723.5),
        ("20ms", 0.02),
        ("7", 7),
        ("1767225600", None),
        ("soon", None),
        ("", None),
    ],
)
def test_the_reset_of_a_rate_is_read_where_no_retry_after_is_sent(
    text: str, expected: float | None
) -> None:
    assert read_retry_after({"x-ratelimit-reset-tokens": text}) == expected
    resets = {"x-ratelimit-reset-tokens": text, "X-RateLimit-Reset-Requests": "2s"}
    assert read_retry_after(resets) == max(expected or 0, 2)
    assert read_retry_after({**resets, "Retry-After": "1"}) == 1
