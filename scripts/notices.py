"""Makes data/notices: short notices whose topic is known, and teachers whose faults are known.

    python scripts/notices.py            # writes data/notices
    python scripts/notices.py --seed 7 --out /tmp/notices

A notice has words of one topic, or of two: then its topic is the one that most of its words were
drawn for. So p(topic | text) is known exactly (`posterior`), and with it the best that any
classifier can do. A teacher is that posterior, flattened by a temperature: it takes one part of one
topic for another topic, always, and names any other topic now and then. Which part it is differs
from teacher to teacher; the third also overlooks half of the words.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

SHARED = (
    "the a of in on to and for with at from by after before today this week new old first last "
    "two three four many some all people town city office report plan year month day morning "
    "evening public local open closed early late near more less again over under about between "
    "will was has can may should need says told asked given taken made seen held found left kept"
)
TOPICS: dict[str, tuple[str, str, tuple[str, str, str]]] = {
    "markets": (
        "Prices, shares, banks and trade",
        "price share bank trade profit rate market loan",
        ("bond yield treasury coupon maturity issuer", "wheat copper oil barrel harvest cargo",
         "retail store sale customer discount brand"),
    ),
    "weather": (
        "Forecasts, storms, heat and cold",
        "rain wind cloud storm degrees forecast warm cold",
        ("snow frost ice blizzard sleet thaw", "flood river tide dam level surge",
         "drought heat dust dry sun fire"),
    ),
    "health": (
        "Illness, hospitals and medicine",
        "patient doctor nurse clinic hospital care illness treatment",
        ("vaccine dose virus booster outbreak immune", "surgery scan heart surgeon ward recovery",
         "diet sleep exercise sugar weight stress"),
    ),
    "courts": (
        "Trials, judges and laws",
        "judge court trial law lawyer verdict appeal case",
        ("theft robbery arrest jail suspect police", "contract claim damages tenant lease dispute",
         "custody divorce will estate guardian hearing"),
    ),
    "rail": (
        "Trains, lines and stations",
        "train line station track ticket platform passenger delay",
        ("tram metro tunnel escalator subway depot", "freight wagon engine siding container axle",
         "bridge signal crossing repair closure driver"),
    ),
    "gardens": (
        "Plants, parks and gardening",
        "plant garden soil seed flower tree water park",
        ("rose tulip orchid petal bloom bouquet", "tomato bean carrot onion compost crop",
         "lawn hedge mower prune weed fence"),
    ),
    "museums": (
        "Exhibitions, art and history",
        "museum art exhibition gallery painting visitor curator collection",
        ("fossil dinosaur skeleton rock mineral bone", "marble bronze portrait canvas sketch",
         "archive letter map manuscript coin medal"),
    ),
    "football": (
        "Matches, clubs and players",
        "goal club match player coach team season cup",
        ("keeper penalty save dive glove spot", "transfer fee signing agent deadline salary",
         "stadium fans ticket stand anthem banner"),
    ),
}  # fmt: skip
NAMES = tuple(TOPICS)
TWO_TOPICS = 0.3
"""The share of notices with words of a second topic."""
OF_SECOND = 0.4
"""The chance that a word of such a notice is of the second topic."""
KINDS = (0.6, 0.2, 0.2)
"""Of a word: shared by all, of its topic, of its part of the topic."""
LENGTHS = (10, 24)
TEMPERATURE = 2.0
"""Above 1 the teacher is less sure than it should be."""
CONFUSED = ("gardens", 2, "weather")
"""The teacher calls notices of the one with words of this part of it the other, always."""
NOISE = 0.1
"""The share of notices to which it gives any other label, of which nothing in the text tells."""
SPLITS = {"train": 2000, "validation": 400, "test": 1000}


@dataclass(frozen=True)
class Teacher:
    """A teacher and its faults.

    Attributes:
        confused, noise, temperature: As above of the first.
        reads: The share of the words that it sees.
        order: How it lists the topics.
        draws: What the seeds of its draws begin with: its faults are its own.
    """

    confused: tuple[str, int, str]
    noise: float
    temperature: float = TEMPERATURE
    reads: float = 1.0
    order: tuple[str, ...] = NAMES
    draws: str = ""


FIRST = Teacher(CONFUSED, NOISE)
OTHERS = {
    "second": Teacher(("museums", 2, "courts"), 0.1, order=tuple(sorted(NAMES)), draws="second "),
    "third": Teacher(("rail", 0, "football"), 0.2, reads=0.5, order=NAMES[::-1], draws="third "),
}
"""Each in a folder of its own, with the same ids and texts."""


@cache
def _words() -> tuple[list[str], dict[str, int]]:
    words = dict.fromkeys(SHARED.split())
    for _, common, parts in TOPICS.values():
        words |= dict.fromkeys([*common.split(), *(w for part in parts for w in part.split())])
    return list(words), {word: index for index, word in enumerate(words)}


@cache
def _distributions() -> Any:
    """[topics, parts, words]: p(word) of each part of each topic."""
    words, place = _words()
    found = np.zeros((len(NAMES), 3, len(words)))
    for t, (_, common, parts) in enumerate(TOPICS.values()):
        for p, part in enumerate(parts):
            for share, of in zip(
                KINDS, (SHARED.split(), common.split(), part.split()), strict=True
            ):
                for word in of:
                    found[t, p, place[word]] += share / len(of)
    return found


def notice(random: Random) -> tuple[str, str]:
    """A text and its topic."""
    words, _ = _words()
    of = _distributions()
    n_words = random.randint(*LENGTHS)
    topics = random.sample(range(len(NAMES)), 2)
    parts = [random.randrange(3), random.randrange(3)]
    is_mixed = random.random() < TWO_TOPICS
    text = []
    for _ in range(n_words):
        which = int(is_mixed and random.random() < OF_SECOND)
        text.append(random.choices(words, of[topics[which], parts[which]])[0])
    return " ".join(text), NAMES[topics[0]]


def posterior(text: str) -> Any:
    """p(topic | text), by summing over parts, and over all second topics and their parts."""
    _, place = _words()
    of = _distributions()[:, :, [place[word] for word in text.split()]]
    flat = of.reshape(-1, of.shape[-1])  # [topics · parts, words of the text]
    alone = np.log(np.maximum(flat, 1e-12)).sum(-1)
    mixed = np.log((1 - OF_SECOND) * flat[:, None] + OF_SECOND * flat[None] + 1e-12).sum(-1)
    n, parts = len(NAMES), 3
    logs = np.full((n * parts, 1 + n * parts), -np.inf)
    logs[:, 0] = np.log(1 - TWO_TOPICS) + alone
    for first in range(n * parts):
        for second in range(n * parts):
            if first // parts != second // parts:
                chance = TWO_TOPICS / ((n - 1) * parts)
                logs[first, 1 + second] = np.log(chance) + mixed[first, second]
    weights = np.exp(logs - logs.max()).sum(-1).reshape(n, parts).sum(-1)
    return weights / weights.sum()


def taught(text: str, teacher: Teacher = FIRST) -> Any:
    """[topics]: what the teacher takes the chances to be."""
    random = Random(teacher.draws + text)  # always the same for a text
    words = text.split()
    if teacher.reads < 1:
        words = [word for word in words if random.random() < teacher.reads]
    found = posterior(" ".join(words)) ** (1 / teacher.temperature)
    found = found / found.sum()
    of, part, other = teacher.confused
    first, second = NAMES.index(of), NAMES.index(other)
    if {*TOPICS[of][2][part].split()}.intersection(words):
        found[second] += found[first]
        found[first] = 0.0
    if random.random() < teacher.noise:
        best = int(found.argmax())
        wrong = random.choice([index for index in range(len(NAMES)) if index != best])
        found[[best, wrong]] = found[[wrong, best]]
    return found


def rows(split: str, n: int, seed: int, teacher: Teacher = FIRST) -> Iterator[dict[str, Any]]:
    random = Random(f"{split} {seed}")
    seen: set[str] = set()
    while len(seen) < n:
        text, topic = notice(random)
        if text in seen:
            continue
        seen.add(text)
        found = dict(zip(NAMES, taught(text, teacher), strict=True))
        said = [round(float(found[name]), 4) for name in teacher.order]
        yield {
            "id": f"{split}-{len(seen):04}",
            "text": text,
            "reference_answer": topic,
            "label": teacher.order[int(np.argmax(said))],
            "confidence": max(said),
            "choices": list(teacher.order),
            "probabilities": said,
        }


def write(file: Path, made: list[dict[str, Any]]) -> None:
    right = sum(row["label"] == row["reference_answer"] for row in made)
    print(f"{file}: its teacher is right in {right / len(made):.1%}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{json.dumps(row)}\n" for row in made))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("data/notices"))
    options = parser.parse_args()
    answers = []
    for split, n in SPLITS.items():
        made = list(rows(split, n, options.seed))
        best = sum(NAMES[int(posterior(r["text"]).argmax())] == r["reference_answer"] for r in made)
        print(f"{split}: {n} notices, Bayes {best / n:.1%}")
        write(options.out / f"{split}.jsonl", made)
        for name, teacher in OTHERS.items():
            write(
                options.out / name / f"{split}.jsonl", list(rows(split, n, options.seed, teacher))
            )
        answers += [
            {"contains": f"Text: {row['text']}\n", "completion": f"<label>{row['label']}</label>"}
            for row in made
        ]
    table = "".join(f"{json.dumps(answer)}\n" for answer in answers)
    (options.out / "answers.jsonl").write_text(table)
    labels = "".join(
        f"- name: {name}\n  definition: {definition}\n"
        for name, (definition, _, _) in TOPICS.items()
    )
    (options.out / "topics.yaml").write_text(labels)


if __name__ == "__main__":
    main()
