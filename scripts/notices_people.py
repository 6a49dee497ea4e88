"""Makes data/notices_people: notices with three teachers' labels, and a sample with two people's.

    python scripts/notices_people.py

One teacher knows p(topic | text) and names the likeliest topic. The others are wrong in further
texts, about equally many: one with a system, since it calls all of one topic another, one without,
since it gives any other topic to some texts. Two people have each labelled the sample; each gives
any other topic to a tenth of it, on their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from notices import NAMES, notice, posterior
from notices_labels import DATA, write

PEOPLE = ("person_a", "person_b")
PEOPLE_WRONG = 0.1
CONFUSED = ("gardens", "weather")
"""What the teacher with a system takes for the other, always."""
NOISE = 1 / len(NAMES)
"""The share of texts to which the one without a system gives another topic: as many."""
SPLITS = {"train": 1000, "sample": 300, "test": 1000}


def labelled(split: str, n: int) -> Iterator[dict[str, Any]]:
    """Rows with the topic, what three teachers say, and in the sample what two people say."""
    random = Random(f"people {split}")
    for number in range(1, n + 1):
        text, topic = notice(random)
        found = NAMES[int(posterior(text).argmax())]
        row = {
            "id": f"{split}-{number:04}",
            "text": text,
            "reference_answer": topic,
            "careful": found,
            "systematic": CONFUSED[1] if found == CONFUSED[0] else found,
            "random": _other(found, random) if random.random() < NOISE else found,
        }
        for name in PEOPLE if split == "sample" else ():
            row[name] = _other(topic, random) if random.random() < PEOPLE_WRONG else topic
        yield row


def _other(topic: str, random: Random) -> str:
    return random.choice([name for name in NAMES if name != topic])


def main() -> None:
    for split, n in SPLITS.items():
        write(labelled(split, n), DATA / "notices_people" / f"{split}.jsonl")


if __name__ == "__main__":
    main()
