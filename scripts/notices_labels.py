"""Makes data/notices_labels and data/notices_several: the notices with further labels.

    python scripts/notices_labels.py

data/notices_labels has texts of data/notices with what an annotator says of them, who is wrong in
a fifth of all texts without any system, and with two groups of topics. data/notices_several has
notices of no topic, of one or of several, and a teacher that was asked five times for all of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from notices import CONFUSED, LENGTHS, NAMES, SHARED, SPLITS, TOPICS, rows

DATA = Path("data")
ANNOTATOR_WRONG = 0.2
"""The share of texts to which the annotator gives any other label."""
GROUPS = {
    "people": ("markets", "health", "courts", "football"),
    "places": ("weather", "rail", "gardens", "museums"),
}
LABELLED = {"train": 1000, "validation": 400, "test": 1000}
SEVERAL = {"train": 1000, "validation": 400, "test": 1000}
HOW_MANY = (0.1, 0.5, 0.3, 0.1)
"""The chance of 0, 1, 2 and 3 topics."""
OF_TOPICS = 0.5
"""The chance of a word to be of one of them, if there is any; others are shared by all."""
ANSWERS = 5
NAMED = {True: (0.95, 0.25, 0.3), False: (0.02, 0.04, 0.6)}
"""The chance that an answer names a topic that a notice has, or has not; in which share of cases
that is another one, and which."""


def labelled(split: str, n: int) -> Iterator[dict[str, Any]]:
    """Rows of data/notices, with an annotator's label and the topic's group."""
    random = Random(f"annotator {split}")
    of = {topic: group for group, topics in GROUPS.items() for topic in topics}
    for row in (made for made, _ in zip(rows(split, SPLITS[split], 0), range(n), strict=False)):
        right = row["reference_answer"]
        said = right
        if random.random() < ANNOTATOR_WRONG:
            said = random.choice([name for name in NAMES if name != right])
        own = {"annotator": said, "group": of[right], "part": f"{of[right]}/{right}"}
        yield {**row, **own, "shuffled": _shuffled(row, random)}


def _shuffled(row: dict[str, Any], random: Random) -> list[float]:
    """The teacher's probabilities, with those of all but its label in any order."""
    first = row["choices"].index(row["label"])
    others = [p for at, p in enumerate(row["probabilities"]) if at != first]
    random.shuffle(others)
    return [*others[:first], row["probabilities"][first], *others[first:]]


def notice(random: Random) -> tuple[str, list[str], list[tuple[str, int]]]:
    """A text, its topics in the list's order, and which part of each it is about.

    Each topic has two words at least, or nobody could see it.
    """
    topics = random.sample(NAMES, random.choices(range(4), HOW_MANY)[0])
    parts = [(topic, random.randrange(3)) for topic in topics]
    pools = [TOPICS[topic][1].split() + TOPICS[topic][2][part].split() for topic, part in parts]
    words = [random.choice(pool) for pool in pools for _ in range(2)]
    while len(words) < LENGTHS[0] + random.randrange(LENGTHS[1] - LENGTHS[0]):
        of = random.choice(pools) if pools and random.random() < OF_TOPICS else SHARED.split()
        words.append(random.choice(of))
    random.shuffle(words)
    return " ".join(words), [name for name in NAMES if name in topics], parts


def several(split: str, n: int) -> Iterator[dict[str, Any]]:
    """Notices with several topics, and the shares of the teacher's answers that name each."""
    random = Random(f"several {split}")
    confused, part, other = CONFUSED
    for number in range(1, n + 1):
        text, topics, parts = notice(random)
        taken = {other if about == (confused, part) else about[0] for about in parts}
        probabilities = []
        for name in NAMES:
            usual, share, unusual = NAMED[name in taken]
            chance = unusual if random.random() < share else usual
            probabilities.append(sum(random.random() < chance for _ in range(ANSWERS)) / ANSWERS)
        yield {
            "id": f"{split}-{number:04}",
            "text": text,
            "reference_labels": topics,
            "labels": [name for name, p in zip(NAMES, probabilities, strict=True) if p > 0.5],
            "choices": list(NAMES),
            "probabilities": probabilities,
        }


def write(made: Iterable[dict[str, Any]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in made))


def main() -> None:
    for split, n in LABELLED.items():
        write(labelled(split, n), DATA / "notices_labels" / f"{split}.jsonl")
    for split, n in SEVERAL.items():
        write(several(split, n), DATA / "notices_several" / f"{split}.jsonl")


if __name__ == "__main__":
    main()
