"""Simulated dialogues in the report's browser: each reads as a chat."""

from __future__ import annotations

from collections.abc import Sequence

from llm_distill.report.cards import MOST_CARDS, LabelledText, Sample, SampleCard, said
from llm_distill.report.charts import spaced
from llm_distill.report.collect import StageView, read_rows
from llm_distill.report.lineage import Lineage
from llm_distill.rows.columns import Row

DIALOGUES = {"messages", "speakers", "acts", "finish_reasons", "n_turns", "stop_reason", "error"}
MAIN = ("question", "reference_answer")
"""Columns that are shown before a dialogue; others are shown on request."""
NOT_SHOWN = {"id", *DIALOGUES}
ENDS = {
    "answered": "the right answer",
    "ended": "the words that end it",
    "repeated": "a speaker repeats itself",
    "turns": "no turn is left",
    "empty": "a speaker says nothing",
    "error": "an error",
}


def dialogues(stage: StageView, lineage: Lineage, wanted: Sequence[int]) -> Sample:
    """Each with what it is about, and a filter for each way to end. wanted: shown too."""
    rows = read_rows(stage)
    cards = []
    reasons: dict[str, None] = {}
    for row in rows.select(sorted({*spaced(len(rows), MOST_CARDS), *wanted})):
        reason = str(row["stop_reason"])
        reasons[reason] = None
        cards.append(
            SampleCard(
                str(row["id"]),
                _about(row),
                _turns(row),
                frozenset({reason} if reason in ENDS else ()),
                (str(row["id"]),),
                lineage.sources(stage.name, row),
            )
        )
    filters = tuple((reason, f"ends: {ENDS[reason]}") for reason in ENDS if reason in reasons)
    return Sample(stage.name, "dialogues", tuple(cards), len(rows), filters)


def _about(row: Row) -> tuple[LabelledText, ...]:
    """The row's columns; and how the dialogue ended."""
    names = [name for name in row if name not in NOT_SHOWN and row[name] is not None]
    main = [text for name in MAIN if name in names for text in said(name, row[name])]
    others = [
        LabelledText(each.label, each.text, is_folded=True)
        for name in names
        if name not in MAIN
        for each in said(name, row[name])
    ]
    reason = str(row["stop_reason"])
    how = f"{reason}: {ENDS[reason]}" if reason in ENDS else reason
    end = f"{how}, after {row['n_turns']} new turns"
    return (*main, LabelledText("end", end, error=row["error"]), *others)


def _turns(row: Row) -> tuple[LabelledText, ...]:
    """The turns, those of the first who speaks on the left."""
    speakers = row["speakers"]
    found = []
    for who, act, message, reason in zip(
        speakers, row["acts"], row["messages"], row["finish_reasons"], strict=True
    ):
        notes = {None: ("given",), "length": ("truncated",)}.get(reason, ())
        side = "left" if who == speakers[0] else "right"
        found.append(LabelledText(who, message["content"], notes=notes, tag=act or "", side=side))
    return tuple(found)
