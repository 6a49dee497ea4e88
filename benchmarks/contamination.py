"""How many copies of test questions are found, and how many new questions are taken for copies.

    python benchmarks/contamination.py

Questions of three families are made from templates (tests/methods/templated.py), half of them the
test and half new; what is not made from templates are paragraphs of this repository's pages. Copies
of test questions: respelled, inside a prompt, with two other words, without the first eighth.

Beside the comparisons of `decontaminate` there are two that it does not have. jaccard: as
`deduplicate` compares, 0.8 of the n-grams of 3 words and the same numbers. longer: an n-gram as
long as it takes for at most 5 % of the test's questions to share one with another.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from table import show

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from llm_distill.methods.contamination import Compare, SeenTexts  # noqa: E402
from llm_distill.methods.near_duplicates import jaccard  # noqa: E402
from llm_distill.methods.words import ngrams, numbers  # noqa: E402
from tests.methods.templated import COPIES, FAMILIES, drawn  # noqa: E402

NEW = 200
COPIED = 50


def paragraphs(seed: int) -> list[str]:
    """Of the pages: running text of 20 to 120 words, in random order."""
    found = set()
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        blocks = (block.strip() for block in text.split("\n\n"))
        plain = (" ".join(b.split()) for b in blocks if not b.startswith(("|", "#", "-")))
        found |= {block for block in plain if 20 <= len(block.split()) <= 120}
    return random.Random(seed).sample(sorted(found), len(found))


class Jaccard:
    """Texts found by the measure of `deduplicate`."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._seen = {i: (ngrams(text, 3), numbers(text)) for i, text in texts.items()}

    def found_in(self, text: str) -> dict[str, str]:
        grams, figures = ngrams(text, 3), numbers(text)
        return {
            i: "jaccard"
            for i, (own, its) in self._seen.items()
            if its == figures and jaccard(own, grams) >= 0.8
        }


def index(compare: str, texts: Mapping[str, str]) -> Jaccard | SeenTexts:
    if compare == "jaccard":
        return Jaccard(texts)
    n = 13
    while compare == "longer":
        seen = SeenTexts(texts, n, compare="ngram")
        if seen.compared[""].alike <= 0.05:
            return seen
        n += n // 4
    return SeenTexts(texts, n, compare=cast("Compare", compare))


def measure(family: str, n: int, seed: int, compare: str) -> dict[str, float]:
    draw = random.Random(seed)
    made = drawn(family, n + NEW, seed) if family in FAMILIES else paragraphs(seed)[: n + NEW]
    test, new = made[:n], made[n:]
    began = time.perf_counter()
    seen = index(compare, {str(i): text for i, text in enumerate(test)})
    learned = time.perf_counter() - began
    found = {"new": sum(bool(seen.found_in(text)) for text in new) / len(new)}
    for kind, copy in COPIES.items():
        chosen = draw.sample(range(n), min(COPIED, n))
        hits = sum(str(i) in seen.found_in(copy(test[i], draw)) for i in chosen)
        found[kind] = hits / len(chosen)
    return {**found, "s": learned}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 60, 250, 1000])
    asked = parser.parse_args()
    rows = []
    for family in (*FAMILIES, "pages"):
        for n in asked.sizes if family in FAMILIES else (60, 120):
            for compare in ("auto", "ngram", "near", "whole", "jaccard", "longer"):
                runs = [measure(family, n, seed, compare) for seed in range(asked.seeds)]
                means = {key: sum(run[key] for run in runs) / len(runs) for key in runs[0]}
                rows.append(
                    (family, str(n), compare, *(f"{value:.2f}" for value in means.values()))
                )
    show(("family", "test", "compare", "new", *COPIES, "s to index"), rows)


if __name__ == "__main__":
    main()
