"""Conversations with one call of a tool each, scripted: `data/tool_calls/{train,test}.jsonl`.

    python scripts/tool_conversations.py

200 to learn from and 50 to be examined on. Each offers two of five tools. The test has other names
and numbers than the training, and half of it also asks in words that the training does not have. A
test item ends before the call; `reference_answer` is what should be called.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "data" / "tool_calls"
SEED = 20261128
N_TRAIN, N_TEST = 200, 50

CITIES = (
    ("Oslo", "Lima", "Cairo", "Osaka", "Perth", "Quito", "Turin", "Accra", "Delhi", "Minsk"),
    ("Bergen", "Tunis", "Hanoi", "Porto", "Sofia"),
)
PEOPLE = (
    ("Ann", "Bob", "Cem", "Dia", "Eli", "Fay", "Gus", "Hal", "Ida", "Jon"),
    ("Kim", "Leo", "Mia", "Nat", "Ola"),
)
MONEY = (("euro", "dollar", "yen", "peso"), ("krone", "franc", "rupee"))
THINGS = (("milk", "rice", "soap", "salt", "tea", "corn"), ("flour", "honey", "beans"))


@dataclass(frozen=True)
class Tool:
    """A tool: its parameters by name and type, how it is asked for, and what comes back.

    known, unseen: ways to ask; the second are in the test only.
    draw: arguments and the tool's result, from names that are of the training (0) or the test (1).
    """

    name: str
    description: str
    parameters: dict[str, str]
    known: tuple[str, ...]
    unseen: tuple[str, ...]
    draw: Callable[[random.Random, int], tuple[dict[str, Any], str]]

    def schema(self) -> dict[str, Any]:
        properties = {name: {"type": kind} for name, kind in self.parameters.items()}
        parameters = {"type": "object", "properties": properties, "required": list(properties)}
        inner = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": inner}


def number(draw: random.Random, part: int) -> int:
    """Even numbers are for training, odd ones for the test."""
    return 2 * draw.randint(1, 45) + part


TOOLS = (
    Tool(
        "get_weather",
        "The weather in a city.",
        {"city": "string"},
        ("What is the weather in {city}?", "How warm is it in {city} now?", "Weather in {city}?"),
        ("Do I need a coat in {city} today?", "Tell me about the sky over {city}."),
        lambda d, p: ({"city": d.choice(CITIES[p])}, f"{number(d, p) % 35} degrees"),
    ),
    Tool(
        "convert_money",
        "Change an amount from one currency to another.",
        {"amount": "integer", "source": "string", "target": "string"},
        (
            "How much is {amount} {source} in {target}?",
            "Change {amount} {source} to {target}.",
            "Convert {amount} {source} into {target}, please.",
        ),
        (
            "I have {amount} {source}. What would I get in {target}?",
            "{amount} {source} in {target}?",
        ),
        lambda d, p: (
            dict(
                zip(
                    ("amount", "source", "target"),
                    (number(d, p), *d.sample(MONEY[p], 2)),
                    strict=True,
                )
            ),
            f"{number(d, p)}",
        ),
    ),
    Tool(
        "set_timer",
        "Start a timer.",
        {"minutes": "integer"},
        (
            "Set a timer for {minutes} minutes.",
            "Wake me in {minutes} minutes.",
            "Timer, {minutes} minutes.",
        ),
        ("Please ring in {minutes} minutes.", "I want to be told when {minutes} minutes are over."),
        lambda d, p: ({"minutes": number(d, p)}, "started"),
    ),
    Tool(
        "send_message",
        "Send a text to someone.",
        {"to": "string", "text": "string"},
        (
            "Write to {to}: {text}",
            "Send {to} this message: {text}",
            "Tell {to} the following: {text}",
        ),
        ("{to} should read this: {text}", "Let {to} know: {text}"),
        lambda d, p: (
            {"to": d.choice(PEOPLE[p]), "text": f"I come in {number(d, p)} minutes."},
            "sent",
        ),
    ),
    Tool(
        "add_to_list",
        "Put something on the shopping list.",
        {"item": "string", "count": "integer"},
        (
            "Put {count} {item} on the list.",
            "Add {count} {item} to my list.",
            "List: {count} {item}.",
        ),
        ("We are out of {item}, get {count}.", "Remember to buy {count} {item}."),
        lambda d, p: ({"item": d.choice(THINGS[p]), "count": number(d, p)}, "noted"),
    ),
)


def conversation(draw: random.Random, part: int, is_unseen: bool) -> dict[str, Any]:
    """Question, call, result and answer. part: 0 for training, 1 for the test."""
    tool, other = draw.sample(TOOLS, 2)
    arguments, result = tool.draw(draw, part)
    question = draw.choice(tool.unseen if is_unseen else tool.known).format(**arguments)
    call = {"type": "function", "function": {"name": tool.name, "arguments": arguments}}
    offered = draw.sample([tool.schema(), other.schema()], 2)
    asked: list[dict[str, Any]] = [{"role": "user", "content": question}]
    if part == 1:
        wanted = json.dumps([{"name": tool.name, "arguments": arguments}])
        words = "unseen" if is_unseen else "known"
        return {"messages": asked, "tools": offered, "reference_answer": wanted, "words": words}
    said = [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": result},
        {"role": "assistant", "content": f"Done: {result}."},
    ]
    return {"messages": [*asked, *said], "tools": offered}


def write(name: str, rows: list[dict[str, Any]]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    lines = (
        json.dumps({"id": f"{name}-{i}", **row}, ensure_ascii=False) for i, row in enumerate(rows)
    )
    (FOLDER / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main() -> None:
    draw = random.Random(SEED)
    write("train", [conversation(draw, 0, False) for _ in range(N_TRAIN)])
    write("test", [conversation(draw, 1, i % 2 == 1) for i in range(N_TEST)])


if __name__ == "__main__":
    main()
