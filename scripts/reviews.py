"""Write data/reviews: sentences of film reviews and what a dozen people and more thought of each.

The sentences and ratings are those of Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model
for Sentiment Analysis of Social Media Text" (ICWSM 2014), which the source distribution of the
package vaderSentiment carries (MIT license). They are fetched from the package index, and are not
part of this repository.

    python scripts/reviews.py

Each rating is from -4 to 4. `reference_answer` is the sign of their mean; `half_a` and `half_b` are
the signs that the raters with even and with odd places gave by majority, null where they tie, so
that how far people agree with each other can be measured.
"""

from __future__ import annotations

import ast
import json
import random
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1] / "data" / "reviews"
PACKAGE = "vaderSentiment==3.3.2"
TEXTS, RATINGS = (f"movieReviewSnippets_{name}.txt" for name in ("GroundTruth", "anonDataRatings"))
N_TEST, N_VALIDATION = 1000, 400


def fetched() -> dict[str, str]:
    """The two files by name."""
    with TemporaryDirectory() as folder:
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary",
            ":all:",
        ]
        subprocess.run([*pip, "--dest", folder, PACKAGE], check=True)
        (archive,) = Path(folder).glob("*.tar.gz")
        with tarfile.open(archive) as outer:
            (name,) = (name for name in outer.getnames() if name.endswith("ICWSM_2014.tar.gz"))
            inner = outer.extractfile(name)
            assert inner is not None
            with tarfile.open(fileobj=BytesIO(inner.read())) as found:
                files = {}
                for member in found.getmembers():
                    data = found.extractfile(member)
                    if data is not None and Path(member.name).name in (TEXTS, RATINGS):
                        files[Path(member.name).name] = data.read().decode("utf-8-sig", "replace")
        return files


def sign(ratings: Sequence[float]) -> str | None:
    """What most of them say, null where as many say the opposite."""
    total = sum((rating > 0) - (rating < 0) for rating in ratings)
    return None if total == 0 else "positive" if total > 0 else "negative"


def rows(files: dict[str, str]) -> list[dict[str, str | None]]:
    ratings = {}
    for line in files[RATINGS].splitlines():
        number, _, _, listed = line.split("\t")
        ratings[number] = ast.literal_eval(listed)
    found: list[dict[str, str | None]] = []
    for line in files[TEXTS].splitlines():
        number, mean, text = line.split("\t")
        if float(mean) == 0:
            continue
        given = ratings[number]
        found.append({
            "id": f"r{number}",
            "text": text.strip(),
            "reference_answer": "positive" if float(mean) > 0 else "negative",
            "half_a": sign(given[::2]),
            "half_b": sign(given[1::2]),
        })  # fmt: skip
    return found


def main() -> None:
    found = rows(fetched())
    random.Random(0).shuffle(found)
    ROOT.mkdir(parents=True, exist_ok=True)
    rest = found[N_TEST + N_VALIDATION :]
    splits = {"test": found[:N_TEST], "validation": found[N_TEST:][:N_VALIDATION], "train": rest}
    for name, part in splits.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (ROOT / f"{name}.jsonl").write_text(text, encoding="utf-8")
        positive = sum(row["reference_answer"] == "positive" for row in part)
        print(f"{name}: {len(part)} sentences, {positive / len(part):.1%} positive")


if __name__ == "__main__":
    main()
