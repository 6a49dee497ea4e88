"""Statements whose meaning depends on the context, for the tutors' world.

    python scripts/frames.py       # writes data/frames/{train,test}.jsonl

Each line:

    {"id": "train-0000", "kind": "turns", "statement": "Ann: That was quick, Ben.",
     "context": "Ben brings Ann the cups after a week.", "reference_answer": "complaint",
     "right_implication": "Ann is not happy with Ben.", "right_reaction": "sorry",
     "other_context": "…"}

Where `kind` is "turns" the same statement praises or complains, by its context alone; where it is
"plain" the statement says it by itself. The test has each statement of "turns" in both contexts.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path
from random import Random
from typing import Any

from make_word_problems import as_jsonl
from word_problems import NAMES, OBJECTS

ROOT = Path(__file__).resolve().parent.parent
TURNS = {
    "That was quick, {b}.": (
        "{b} brings {a} the {thing} after a minute.",
        "{b} brings {a} the {thing} after a week.",
    ),
    "You kept a lot of {thing} for me, {b}.": (
        "{b} kept all of the {thing} for {a}.",
        "{b} gave nearly all of the {thing} away.",
    ),
    "You put the {thing} in good order, {b}.": (
        "The {thing} of {b} stand in a row.",
        "The {thing} of {b} lie on the floor.",
    ),
    "You know all about {thing}, {b}.": (
        "{b} tells {a} how {thing} are made.",
        "{b} asks {a} what {thing} are.",
    ),
}
"""Statement → a context in which it praises, and one in which it complains."""
PLAIN = {
    "Thank you for the {thing}, {b}.": "praise",
    "I like your {thing}, {b}.": "praise",
    "You lost my {thing}, {b}.": "complaint",
    "I waited for the {thing}, {b}.": "complaint",
}
FIELDS = {
    "praise": {"implication": "{a} is happy with {b}.", "reaction": "glad"},
    "complaint": {"implication": "{a} is not happy with {b}.", "reaction": "sorry"},
}
SIZES = {"train": 320, "test": 200}
SEED = 33


def frame(rng: Random, statement: str, complains: bool) -> dict[str, Any]:
    """A statement with names and things filled in, its context, and what it says in it."""
    a, b = rng.sample(NAMES, 2)
    words = {"a": a, "b": b, "thing": rng.choice(OBJECTS)}
    if statement in TURNS:
        kind, intent = "turns", "complaint" if complains else "praise"
        context = TURNS[statement][complains]
    else:
        kind, intent = "plain", PLAIN[statement]
        context = rng.choice([text for pair in TURNS.values() for text in pair])
    fields = {name: text.format(**words) for name, text in FIELDS[intent].items()}
    return {
        "kind": kind,
        "statement": f"{a}: {statement.format(**words)}",
        "context": context.format(**words),
        "intent": intent,
        **fields,
    }


def any_frame(rng: Random, avoid: Collection[str] = ()) -> dict[str, Any]:
    """One frame whose statement is not in `avoid`; statements that turn are twice as frequent."""
    while True:
        statement = rng.choice([*TURNS, *TURNS, *PLAIN])
        found = frame(rng, statement, rng.random() < 0.5)
        if found["statement"] not in avoid:
            return found


def make_splits(seed: int) -> dict[str, list[dict[str, Any]]]:
    """Split by statement, never by context."""
    rng = Random(seed)
    seen: set[str] = set()
    splits: dict[str, list[dict[str, Any]]] = {}
    for split, size in SIZES.items():
        rows: list[dict[str, Any]] = []
        while len(rows) < size:
            statement = rng.choice([*TURNS, *TURNS, *PLAIN])
            state = rng.getstate()
            pair = [frame(rng, statement, complains=False)]
            if pair[0]["statement"] in seen:
                continue
            seen.add(pair[0]["statement"])
            if statement in TURNS:
                rng.setstate(state)  # the same names and things
                pair.append(frame(rng, statement, complains=True))
                pair = pair if split == "test" else [rng.choice(pair)]
            rows += pair
        rows = rows[:size]
        # A context from elsewhere, for a control.
        contexts = [row["context"] for row in rows]
        rng.shuffle(contexts)
        splits[split] = [
            {"id": f"{split}-{i:04d}", **_as_data(row), "other_context": contexts[i]}
            for i, row in enumerate(rows)
        ]
    return splits


def _as_data(row: dict[str, Any]) -> dict[str, Any]:
    """The intent is what an exam asks for; a model's own fields get the plain names."""
    names = {"intent": "reference_answer"} | {f: f"right_{f}" for f in ("implication", "reaction")}
    return {names.get(name, name): value for name, value in row.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write statements with their contexts.")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=ROOT / "data/frames")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for split, rows in make_splits(args.seed).items():
        (args.out / f"{split}.jsonl").write_text(as_jsonl(rows), encoding="utf-8")
        print(f"{split}: {len(rows)} frames")


if __name__ == "__main__":
    main()
