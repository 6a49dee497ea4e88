"""What the report's browser shows of a stage's rows, as plain values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llm_distill.report.charts import spaced
from llm_distill.report.lineage import Place
from llm_distill.rows.columns import Row
from llm_distill.rows.messages import is_conversation, read_calls, speaker_of

if TYPE_CHECKING:
    from datasets import Dataset

MOST_CARDS = 200
MOST_CHARACTERS = 6000
"""Of one text; the page says how many more there are."""


@dataclass(frozen=True)
class LabelledText:
    """A text of a card under its label.

    Attributes:
        verdict: right, wrong, unreadable, chosen, rejected or none.
        notes: What is said of it in a few words, such as the answer that was read.
        thought: What the model thought before.
        error: Why there is no text.
        is_folded: It is shown on request.
        tag: A word on it, such as the act of a turn.
        side: Of a chat's turn: left or right.
    """

    label: str
    text: str | None
    verdict: str = ""
    score: float | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()
    thought: str | None = None
    is_folded: bool = False
    tag: str = ""
    side: str = ""


@dataclass(frozen=True)
class SampleCard:
    """Rows that belong together, or one.

    Attributes:
        id: Its heading.
        head: What its entries are about.
        marks: The filters that it passes.
        rows: Ids of the rows that it shows; the first is the one that it is about.
        sources: The rows that it was made from.
        n_columns: How many entries stand side by side, if they belong so.
    """

    id: str
    head: tuple[LabelledText, ...]
    entries: tuple[LabelledText, ...]
    marks: frozenset[str] = frozenset()
    rows: tuple[str, ...] = ()
    sources: tuple[Place, ...] = ()
    n_columns: int = 0

    @property
    def is_chat(self) -> bool:
        return any(entry.side for entry in self.entries)


@dataclass(frozen=True)
class Sample:
    """What is shown of a stage. n_total: number of all cards. filters: (mark, label) pairs."""

    stage: str
    title: str
    cards: tuple[SampleCard, ...]
    n_total: int
    filters: tuple[tuple[str, str], ...] = ()
    problem: str | None = None


def said(name: str, value: Any, verdict: str = "") -> tuple[LabelledText, ...]:
    """A value under its column's name; of a conversation each turn under its speaker."""
    if not is_conversation(value):
        return (LabelledText(name, None if value is None else _plain(value), verdict),)
    turns: list[LabelledText] = []
    for turn in value:
        who = speaker_of(turn)
        if turn.get("reasoning_content"):
            turns.append(LabelledText(f"{who}, thinking", turn["reasoning_content"]))
        words = [turn.get("content") or "", *map(_call, read_calls(turn))]
        label = f"{who}, not trained" if turn.get("weight") == 0 else who
        turns.append(LabelledText(label, "\n".join(filter(None, words)), verdict))
    return tuple(turns)


def grouped(rows: Dataset, column: str) -> dict[str, list[int]]:
    """Row numbers by the column's value, in order of first appearance."""
    groups: dict[str, list[int]] = {}
    for index, value in enumerate(rows[column][:]):
        groups.setdefault(str(value), []).append(index)
    return groups


def some(
    rows: Dataset, groups: Mapping[str, list[int]], wanted: Iterable[int] = ()
) -> Iterable[tuple[str, list[Row]]]:
    """Evenly spaced groups with their rows, and those that have a row with a wanted number."""
    names = list(groups)
    numbers = set(spaced(len(names), MOST_CARDS))
    if looked_for := set(wanted):
        numbers |= {n for n, name in enumerate(names) if not looked_for.isdisjoint(groups[name])}
    for number in sorted(numbers):
        chosen = rows[groups[names[number]]]
        values = zip(*chosen.values(), strict=True)
        yield names[number], [dict(zip(chosen, value, strict=True)) for value in values]


def _call(call: dict[str, Any]) -> str:
    function = call["function"]
    return f"{function['name']}({json.dumps(function['arguments'], ensure_ascii=False)})"


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
