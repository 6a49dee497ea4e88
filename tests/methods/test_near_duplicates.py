"""Near duplicates and overlaps against brute force over the true n-gram sets."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import strategies as st

from llm_distill.methods.near_duplicates import (
    bands,
    first_of_each,
    jaccard,
    near_duplicates,
)
from llm_distill.methods.words import ngrams, normalise, numbers


def corpus(n: int, seed: int) -> list[str]:
    """Texts of which many are an earlier one with a few words changed, and some with a number."""
    source = random.Random(seed)
    vocabulary = [f"{letter}{letter}{other}" for letter in "bcdfglmn" for other in "aeiou"]
    texts: list[str] = []
    for _ in range(n):
        if texts and source.random() < 0.6:
            words = source.choice(texts).split()
            for _ in range(source.randint(0, 4)):
                words[source.randrange(len(words))] = source.choice(vocabulary)
        else:
            words = source.choices(vocabulary, k=source.randint(5, 40))
            words[source.randrange(len(words))] = str(source.randint(1, 3))
        texts.append(" ".join(words))
    return texts


def brute_force(texts: list[str], threshold: float, n: int) -> list[int | None]:
    kept: list[int] = []
    found: list[int | None] = []
    for index, text in enumerate(texts):
        near = [
            k
            for k in kept
            if jaccard(ngrams(text, n), ngrams(texts[k], n)) >= threshold
            and numbers(text) == numbers(texts[k])
        ]
        found.append(min(near) if near else None)
        if not near:
            kept.append(index)
    return found


@pytest.mark.parametrize(
    ("threshold", "n"),
    [
        (0.3, 2),
        (0.8, 3),
        (0.8, 1),
        pytest.param(0.5, 3, marks=pytest.mark.exhaustive),
        pytest.param(0.95, 2, marks=pytest.mark.exhaustive),
    ],
)
def test_minhash_finds_what_brute_force_finds(threshold: float, n: int) -> None:
    texts = corpus(300, seed=3)
    expected = brute_force(texts, threshold, n)
    found = near_duplicates(texts, threshold=threshold, n=n)
    assert 20 < sum(first is not None for first in expected) < 280
    assert sum(a != b for a, b in zip(found, expected, strict=True)) <= 1
    assert found == near_duplicates(texts, threshold=threshold, n=n)


def test_bands_keep_the_recall_that_is_promised() -> None:
    for threshold in (0.05, 0.2, 0.5, 0.8, 0.9, 0.99, 1.0):
        count = bands(threshold)
        chance = 1 - (1 - threshold ** (128 // count)) ** count
        assert chance >= 0.999 or count == 128


def test_other_numbers_make_another_problem() -> None:
    story = "Tom walks to the market on a sunny day and looks at every stall there before he buys "
    short = [f"How many pens are in {n} packs of four?" for n in (2, 3)]
    long = [f"{story * 3}{n} apples" for n in (3, 4)]
    for pair in (short, long, [f"Tom has {n} apples and eats 1. How many now?" for n in (3, 4)]):
        assert near_duplicates(pair, threshold=0.8, n=3) == [None, None]
    assert near_duplicates([long[0], long[0] + " today"], threshold=0.8, n=3) == [None, 0]


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ("What is 2 + 2?", "what  is\n2 + 2", True),
        ("“Well-known”, she said", "well known she said", True),
        ("3 + 4", "3 - 4", False),
        ("3 - 4", "3-4", True),
        ("3 * 4", "3 / 4", False),
        ("3.5", "3 5", False),
        ("-3", "3", False),
        ("not ( a and b )", "not a and b", False),
        ("[ { <", "[ { (", False),
        ("...", "?!", False),
        ("Größe", "GRÖSSE", True),
    ],
)
def test_normalising_keeps_what_carries_meaning(a: str, b: str, equal: bool) -> None:
    assert (normalise(a) == normalise(b)) is equal
    assert first_of_each([a, "between", b]) == [None, None, 0 if equal else None]


WORDS = st.lists(st.sampled_from("abc"), min_size=0, max_size=12)


def test_ngrams_are_runs_of_words() -> None:
    assert ngrams("A b, c d.", 3) == {"a b c", "b c d"}
    assert ngrams("A b.", 3) == {"a b"}
    assert ngrams("", 3) == set()
    assert ngrams("a b c", 2) == {" ".join(pair) for pair in pairwise("abc")}
