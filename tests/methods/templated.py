"""Questions made from templates, as benchmarks have them, and copies of a question.

The first two follow BIG-bench's "tracking shuffled objects" and "logical deduction": long sentences
that all questions share, and few values.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from llm_distill.methods.words import normalise

PLAYERS = ("Alice", "Bob", "Claire")
PEOPLE = ("Amy", "Ana", "Dan", "Eli", "Eve", "Joe", "Mel", "Mya", "Rob", "Ada")
DANCERS = ("Lola", "Rodrigo", "Patrick", "Karl", "Melissa", "Jamie", "Sam", "Izzi", "Ophelia")
COLOURS = ("yellow", "blue", "pink", "white", "purple", "green", "black", "red", "orange", "brown")
FRUITS = ("mangoes", "kiwis", "plums", "apples", "pears", "oranges", "peaches", "loquats")


def tracking(draw: random.Random) -> str:
    """Who has which ball, or partner, after three swaps."""
    if draw.random() < 0.5:
        values = draw.sample(COLOURS, 3)
        begin = (
            "are playing a game. At the start of the game, they are each holding a ball: Alice has "
            "a {} ball, Bob has a {} ball, and Claire has a {} ball.\nAs the game progresses, "
            "pairs of players trade balls."
        )
        swap, end = "swap balls", "At the end of the game, {} has the"
        options = [f"{value} ball" for value in values]
    else:
        options = values = draw.sample(DANCERS, 3)
        begin = (
            "are dancers at a square dance. At the start of a song, they each have a partner: "
            "Alice is dancing with {}, Bob is dancing with {}, and Claire is dancing with {}.\n"
            "Throughout the song, the dancers often trade partners."
        )
        swap, end = "switch partners", "At the end of the dance, {} is dancing with"
    swaps = (draw.sample(PLAYERS, 2) for _ in range(3))
    steps = " ".join(
        f"{when}, {one} and {other} {swap}."
        for when, (one, other) in zip(("First", "Then", "Finally"), swaps, strict=True)
    )
    asked = end.format(draw.choice(PLAYERS))
    return f"Alice, Bob, and Claire {begin.format(*values)} {steps} {asked}\n{_listed(options)}"


def deduction(draw: random.Random) -> str:
    """The order of three objects, from two statements."""
    kind, values, relations, ends = draw.choice(
        (
            ("In a golf tournament, there were three golfers: {}, {}, and {}.", PEOPLE,
             ("{} finished above {}.", "{} finished below {}."),
             ("{} finished first", "{} finished second", "{} finished last")),
            ("On a shelf, there are three books: a {} book, a {} book, and a {} book.", COLOURS,
             ("The {} book is to the right of the {} book.",
              "The {} book is to the left of the {} book."),
             ("The {} book is the leftmost", "The {} book is the rightmost",
              "The {} book is the second from the left")),
            ("A fruit stand is selling three fruits: {}, {}, and {}.", FRUITS,
             ("The {} are more expensive than the {}.", "The {} are less expensive than the {}."),
             ("The {} are the most expensive", "The {} are the cheapest",
              "The {} are the second-most expensive")),
        )
    )  # fmt: skip
    drawn = draw.sample(values, 3)
    order = draw.sample(drawn, 3)
    first = draw.choice(relations).format(*order[:2])
    second = draw.choice(
        (draw.choice(relations).format(*order[1:]), f"{draw.choice(ends).format(order[2])}.")
    )
    asked = draw.choice(ends)
    return (
        "The following paragraphs each describe a set of three objects arranged in a fixed order. "
        "The statements are logically consistent within each paragraph. "
        f"{kind.format(*drawn)} {first} {second}\n{_listed([asked.format(v) for v in drawn])}"
    )


def numbers(draw: random.Random) -> str:
    """A word problem of three kinds, with other numbers and names."""
    who, a, b, c = draw.choice(PEOPLE), *(draw.randint(2, 40) for _ in range(3))
    return draw.choice(
        (
            f"{who} runs a small fruit stand at the market. In the morning there are {a} boxes of "
            f"apples on the stand, and each box holds {b} apples. If {who} sells every apple for "
            f"{c} cents, how many cents are taken by the end of the day?",
            f"{who} is saving for a new bicycle and puts {a} dollars aside every week. After {b} "
            f"weeks {who} has to spend {c} dollars on a birthday present for a friend. How many "
            "dollars are left for the bicycle after that?",
            f"A train with {a} carriages leaves the station in the evening, and there are {b} "
            f"seats in every carriage. At the first stop {c} passengers get on for each empty "
            "carriage. How many seats are there in the train altogether?",
        )
    )


FAMILIES: dict[str, Callable[[random.Random], str]] = {
    "tracking": tracking,
    "deduction": deduction,
    "numbers": numbers,
}


def drawn(family: str, n: int, seed: int) -> list[str]:
    """Different questions of a family, n of them."""
    draw, found = random.Random(seed), dict[str, str]()
    while len(found) < n:
        text = FAMILIES[family](draw)
        found.setdefault(normalise(text), text)
    return list(found.values())


def respelled(text: str, draw: random.Random) -> str:
    """Other punctuation, case and spacing."""
    return re.sub(r"[,.](?=\s|$)", " ;", text).upper().replace("\n", "   ")


def wrapped(text: str, draw: random.Random) -> str:
    """Inside a prompt."""
    return f"Please solve the following problem step by step. {text} Write the answer in tags."


def reworded(text: str, draw: random.Random) -> str:
    """Two words are others: none that is a value."""
    words = text.split(" ")
    values = {*COLOURS, *FRUITS}
    plain = [i for i, w in enumerate(words) if re.fullmatch("[a-z]{3,}", w) and w not in values]
    for place in draw.sample(plain, 2):
        words[place] = draw.choice(("certain", "various", "indeed", "quite", "such"))
    return " ".join(words)


def cut(text: str, draw: random.Random) -> str:
    """Without its first eighth."""
    words = text.split(" ")
    return " ".join(words[max(1, len(words) // 8) :])


COPIES: dict[str, Callable[[str, random.Random], str]] = {
    "respelled": respelled,
    "wrapped": wrapped,
    "reworded": reworded,
    "cut": cut,
}


def _listed(options: list[str]) -> str:
    listed = (f"({letter}) {each}" for letter, each in zip("ABC", options, strict=True))
    return "\n".join(("Options:", *listed))
