"""Rows of a run for the report's browser: exam items, candidates, pairs, dialogues, and others.

What a stage's rows are is told by the columns that it adds and not by the stage's kind, so that
third-party stages are shown like ours. The rows that shown rows were made from are shown too, up to
a limit, so that a row can be followed back to its seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from llm_distill.report.candidate_cards import CANDIDATES, PAIRS, candidates, pairs
from llm_distill.report.cards import MOST_CARDS, MOST_CHARACTERS, Sample, SampleCard, said
from llm_distill.report.charts import spaced
from llm_distill.report.collect import RunView, StageView, read_rows
from llm_distill.report.dialogue_cards import DIALOGUES, dialogues
from llm_distill.report.exam_cards import EXAM, exam_items
from llm_distill.report.lineage import Lineage, Place

__all__ = ["MOST_CARDS", "MOST_CHARACTERS", "MOST_OTHER_ROWS", "Sample", "anchors", "samples"]

MOST_OTHER_ROWS = 5
MOST_ANCESTORS = 100
"""Rows of a stage that are shown because shown rows were made from them."""
KINDS = (EXAM, CANDIDATES, PAIRS, DIALOGUES)


def samples(run: RunView) -> list[Sample]:
    """A sample of each stage that has rows; exams first, the last of them before the others."""
    columns = {stage.name: stage.columns for stage in run.stages}
    lineage = Lineage(run)
    wanted: dict[str, dict[str, None]] = {}  # ids of rows, by stage
    found: tuple[list[Sample], ...] = tuple([] for _ in (*KINDS, None))
    for stage in reversed(run.stages):  # later ones say which rows they were made from
        if stage.directory is None or not stage.columns:
            continue
        added = stage.columns.difference(*(columns[n] for n in stage.inputs if n in columns))
        kind = next(
            (n for n, own in enumerate(KINDS) if own <= stage.columns and added & own), len(KINDS)
        )
        numbers = lineage.numbers(stage.name)
        asked = [numbers[identity] for identity in wanted.get(stage.name, ())]
        try:
            sample = _sample(kind, stage, run, lineage, asked)
        except Exception as error:  # whatever reading damaged files raises
            problem = f"its rows cannot be read: {type(error).__name__}: {error}"
            sample = Sample(stage.name, stage.kind, (), 0, problem=problem)
        found[kind].append(sample)
        for place in (place for card in sample.cards for place in card.sources):
            ids = wanted.setdefault(place.stage, {})
            if len(ids) < MOST_ANCESTORS:
                ids[place.id] = None
    exams, *others = found
    return [*exams, *(sample for of_kind in others for sample in reversed(of_kind))]


def anchors(shown: Iterable[Sample]) -> Mapping[Place, str]:
    """The name in the page of each row's card."""
    found: dict[Place, str] = {}
    cards = ((sample.stage, card) for sample in shown for card in sample.cards)
    for number, (stage, card) in enumerate(cards, 1):
        for identity in card.rows:
            found.setdefault(Place(stage, identity), f"row-{number}")
    return found


def _sample(
    kind: int, stage: StageView, run: RunView, lineage: Lineage, wanted: Sequence[int]
) -> Sample:
    if kind == 0:
        return exam_items(stage, lineage, wanted)
    if kind == 1:
        return candidates(stage, run, lineage, wanted)
    if kind == 2:
        return pairs(stage, lineage, wanted)
    return dialogues(stage, lineage, wanted) if kind == 3 else _others(stage, lineage, wanted)


def _others(stage: StageView, lineage: Lineage, wanted: Sequence[int]) -> Sample:
    rows = read_rows(stage)
    cards = tuple(
        SampleCard(
            str(row.get("id", "")),
            (),
            tuple(
                text
                for name, value in row.items()
                if name != "id" and value is not None
                for text in said(name, value)
            ),
            rows=(str(row["id"]),) if "id" in row else (),
            sources=lineage.sources(stage.name, row),
        )
        for row in rows.select(sorted({*spaced(len(rows), MOST_OTHER_ROWS), *wanted}))
    )
    return Sample(stage.name, "rows", cards, len(rows))
