"""The reviews: what is made of the two files, without fetching them."""

from __future__ import annotations

import pytest

from scripts import reviews

TEXTS = "1\t2.5\tA joy .\n2\t-0.5\tToo long.\n3\t0.0\tA film."
RATINGS = "1\t2.5\t0.5\t[3, 2, 2, 3]\n2\t-0.5\t1.2\t[-2, 1, -1, 0]\n3\t0.0\t0\t[0, 0]\n"


def test_rows_have_the_mean_s_sign_and_that_of_each_half() -> None:
    found = reviews.rows({reviews.TEXTS: TEXTS, reviews.RATINGS: RATINGS})
    assert found == [
        {"id": "r1", "text": "A joy .", "reference_answer": "positive", "half_a": "positive",
         "half_b": "positive"},
        {"id": "r2", "text": "Too long.", "reference_answer": "negative", "half_a": "negative",
         "half_b": "positive"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ratings", "said"),
    [([3, -1, 0], None), ([4, -1, -1], "negative"), ([0, 0, 1], "positive"), ([0], None)],
)
def test_a_half_says_what_most_of_its_people_say(ratings: list[int], said: str | None) -> None:
    assert reviews.sign(ratings) == said
