"""How fast two tokenizations of one text are cut into chunks, beside a merge in plain Python.

    python benchmarks/alignment.py
    python benchmarks/alignment.py --megabytes 10

From the byte offsets after the tokens of either side to the chunks, on one core. Text and tokens
are simulated: English, code and Chinese in equal parts; words of typical lengths, that both
vocabularies end a token at and each cuts further in its own places. The table says how long the
tokens are. The plain merge walks two lists of integers, made before the clock starts, and is shown
on the first 10 MB: its speed does not depend on the size. Bars: 50 MB/s, and 6 times the merge.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from hardware import describe
from numpy.typing import NDArray
from table import show

from llm_distill.methods.alignment import align

PART = 1_000_000  # bytes of one language
PLAIN_MEGABYTES = 10
ROUNDS = 5
Ends = NDArray[np.int64]


@dataclass(frozen=True)
class Language:
    """Words of 1 + Poisson(mean − 1) characters, the space before them counted.

    cuts: how likely a token ends after a character inside a word, for the larger vocabulary and
    for the smaller. broken: how likely the smaller writes a character byte by byte.
    """

    bytes_a_character: int
    mean: float
    cuts: tuple[float, float]
    broken: float = 0.0


LANGUAGES = (
    Language(1, 5.7, (0.05, 0.10)),  # English
    Language(1, 4.0, (0.06, 0.20)),  # code
    Language(3, 2.0, (0.50, 0.90), broken=0.3),  # Chinese
)


def segmentations(megabytes: int, seed: int = 0) -> tuple[Ends, Ends]:
    """The byte offsets after the tokens of both vocabularies."""
    rng = np.random.default_rng(seed)
    larger: list[Ends] = []
    smaller: list[Ends] = []
    for part in range(megabytes):
        language = LANGUAGES[part % len(LANGUAGES)]
        n = PART // language.bytes_a_character
        words = 1 + rng.poisson(language.mean - 1, int(1.2 * n / language.mean))
        is_end = np.zeros(n, np.bool_)
        word_ends = np.cumsum(words) - 1
        is_end[word_ends[word_ends < n]] = True
        is_end[-1] = True
        for ends, cut, broken in zip(
            (larger, smaller), language.cuts, (0.0, language.broken), strict=True
        ):
            marks = np.zeros((n, language.bytes_a_character), np.bool_)
            marks[rng.random(n) < broken] = True
            marks[:, -1] |= is_end | (rng.random(n) < cut)
            ends.append(part * PART + np.flatnonzero(marks) + 1)
    return np.concatenate(larger), np.concatenate(smaller)


def merge_in_python(ends_a: list[int], ends_b: list[int]) -> tuple[list[int], list[int]]:
    """Two pointers, one step a token."""
    last_a, last_b = [], []
    i = j = 0
    while i < len(ends_a) and j < len(ends_b):
        if ends_a[i] == ends_b[j]:
            last_a.append(i)
            last_b.append(j)
            i += 1
            j += 1
        elif ends_a[i] < ends_b[j]:
            i += 1
        else:
            j += 1
    return last_a, last_b


def seconds(function: Callable[[Any, Any], object], a: Any, b: Any) -> float:
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        function(a, b)
        times.append(time.perf_counter() - start)
    return median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=100)
    megabytes = parser.parse_args().megabytes
    print(describe("numpy"))
    ends_a, ends_b = segmentations(megabytes)
    n_chunks = len(align(ends_a, ends_b).last_a)
    few = min(megabytes, PLAIN_MEGABYTES)
    few_a, few_b = (ends[: np.searchsorted(ends, few * PART, "right")] for ends in (ends_a, ends_b))
    plain = few_a.tolist(), few_b.tolist()
    ours = align(few_a, few_b)
    if (ours.last_a.tolist(), ours.last_b.tolist()) != merge_in_python(*plain):
        raise RuntimeError("the two differ: the figures mean nothing")
    sizes = [megabytes * PART / count for count in (len(ends_a), len(ends_b), n_chunks)]
    print("bytes a token: {:.2f} and {:.2f}; a chunk: {:.2f}".format(*sizes))
    plain_speed = few / seconds(merge_in_python, *plain)
    rows = [(f"plain merge in Python, {few} MB", f"{plain_speed:.1f}", "1.0")]
    speed = megabytes / seconds(align, ends_a, ends_b)
    rows.append((f"align, {megabytes} MB", f"{speed:.1f}", f"{speed / plain_speed:.1f}"))
    show(("", "MB/s (bar 50)", "times the merge (bar 6)"), rows)


if __name__ == "__main__":
    main()
