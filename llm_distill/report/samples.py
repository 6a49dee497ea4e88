"""Rows of a run for the report's browser: exam items, candidates, preference pairs, and others.

What a stage's rows are is told by the columns that it adds and not by the stage's kind, so that
third-party stages are shown like ours.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llm_distill.report.charts import spaced
from llm_distill.report.collect import RunView, StageView
from llm_distill.rows.columns import Row
from llm_distill.rows.messages import is_conversation, read_calls

if TYPE_CHECKING:
    from datasets import Dataset

MOST_CARDS = 200
MOST_ENTRIES = 24
"""Answers to one item."""
MOST_OTHER_ROWS = 5
MOST_CHARACTERS = 6000
"""Of one text; the page says how many more there are."""

EXAM = {"parent_id", "model", "shots", "reference_answer", "completion", "is_correct"}
CANDIDATES = {"parent_id", "question", "rationale", "score"}
PAIRS = {"prompt", "chosen", "rejected"}


@dataclass(frozen=True)
class LabelledText:
    """A text of a card under its label. verdict: right, wrong, chosen, rejected or none."""

    label: str
    text: str | None
    verdict: str = ""
    score: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class SampleCard:
    """Rows that belong together. marks: the filters that it passes."""

    id: str
    head: tuple[LabelledText, ...]
    entries: tuple[LabelledText, ...]
    marks: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Sample:
    """What is shown of a stage. n_total: number of all cards. filters: (mark, label) pairs."""

    stage: str
    title: str
    cards: tuple[SampleCard, ...]
    n_total: int
    filters: tuple[tuple[str, str], ...] = ()
    problem: str | None = None


Make = Callable[[StageView, RunView], Sample]


def samples(run: RunView) -> list[Sample]:
    """A sample of each stage that has rows; exams first, the last of them before the others."""
    views = {stage.name: stage for stage in run.stages}
    kinds = ((EXAM, _exam), (CANDIDATES, _candidates), (PAIRS, _pairs))
    found: dict[Make, list[Sample]] = {_exam: [], _candidates: [], _pairs: [], _other: []}
    for stage in run.stages:
        if stage.directory is None or not stage.columns:
            continue
        added = stage.columns.difference(*(views[n].columns for n in stage.inputs if n in views))
        make: Make = next(
            (kind for columns, kind in kinds if columns <= stage.columns and added & columns),
            _other,
        )
        try:
            sample = make(stage, run)
        except Exception as error:  # whatever reading damaged files raises
            problem = f"its rows cannot be read: {type(error).__name__}: {error}"
            sample = Sample(stage.name, stage.kind, (), 0, problem=problem)
        found[make].append(sample)
    found[_exam].reverse()
    return [sample for of_kind in found.values() for sample in of_kind]


def read_rows(stage: StageView) -> Dataset:
    """The stage's rows; raises whatever `datasets` raises if the files are damaged."""
    from datasets import load_from_disk

    return load_from_disk(str(stage.directory))


def _exam(stage: StageView, run: RunView) -> Sample:
    rows = read_rows(stage)
    by_item = _grouped(rows, "parent_id")
    sittings = list(dict.fromkeys(zip(rows["model"], rows["shots"], strict=True)))
    models = list(dict.fromkeys(model for model, _ in sittings))
    shots = list(dict.fromkeys(n for _, n in sittings))
    before, after = models[0], models[-1]
    filters = [("differ", "some answers right, some wrong")]
    if before != after:
        for n in shots:
            filters += [
                (f"gained-{n}", f"{n}-shot: {before} wrong, {after} right"),
                (f"lost-{n}", f"{n}-shot: {before} right, {after} wrong"),
            ]
    cards = []
    for item, members in _some(rows, by_item):
        marks = {"differ"} if len({bool(row["is_correct"]) for row in members}) > 1 else set()
        for n in shots:
            pair = _mostly_right(members, before, n), _mostly_right(members, after, n)
            if pair in ((False, True), (True, False)):
                marks.add(f"gained-{n}" if pair[1] else f"lost-{n}")
        head = (*_asked(members[0]), *_said("reference answer", members[0]["reference_answer"]))
        entries = tuple(
            LabelledText(
                f"{row['model']}, {row['shots']}-shot{_which(row, members)}",
                row["completion"] or row.get("answer"),  # a call of a tool has no words
                "right" if row["is_correct"] else "wrong",
                error=row.get("error"),
            )
            # before and after together
            for row in sorted(members, key=lambda row: row["shots"])[:MOST_ENTRIES]
        )
        cards.append(SampleCard(item, head, entries, frozenset(marks)))
    return Sample(stage.name, "exam items", tuple(cards), len(by_item), tuple(filters))


def _mostly_right(members: list[Row], model: str, shots: int) -> bool | None:
    """Whether at least half of the answers are right; None without any."""
    right = [bool(r["is_correct"]) for r in members if (r["model"], r["shots"]) == (model, shots)]
    return 2 * sum(right) >= len(right) if right else None


def _which(row: Row, members: list[Row]) -> str:
    several = any(other.get("candidate_index") for other in members)
    return f", answer {row['candidate_index'] + 1}" if several else ""


def _candidates(stage: StageView, run: RunView) -> Sample:
    rows = read_rows(stage)
    by_question = _grouped(rows, "parent_id")
    shown = list(_some(rows, by_question))
    texts = {str(row["rationale"] or "").strip() for _, members in shown for row in members}
    verdicts = _verdicts(stage, run, texts)
    cards = []
    for question, members in shown:
        entries = []
        for row in sorted(members, key=_score, reverse=True):
            text = str(row["rationale"] or "").strip()
            verdict = next((v for prompt, v in verdicts[text] if row["question"] in prompt), "")
            label = str(row.get("strategy") or "candidate")
            entries.append(
                LabelledText(label, row["rationale"], verdict, row["score"], row.get("error"))
            )
        head = [LabelledText("question", members[0]["question"])]
        if members[0].get("reference_answer"):
            head.append(LabelledText("reference answer", members[0]["reference_answer"]))
        marks = {"pair"} if any(entry.verdict for entry in entries) else set()
        cards.append(SampleCard(question, tuple(head), tuple(entries), frozenset(marks)))
    filters = (("pair", "questions with a preference pair"),) if verdicts else ()
    return Sample(stage.name, "scored candidates", tuple(cards), len(by_question), filters)


def _verdicts(
    stage: StageView, run: RunView, texts: Collection[str]
) -> Mapping[str, list[tuple[str, str]]]:
    """Text to (prompt, chosen or rejected) in the pairs that were built from the stage."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for other in run.stages:
        if stage.name in other.inputs and other.directory is not None and other.columns >= PAIRS:
            for row in read_rows(other).select_columns(sorted(PAIRS)):
                for verdict in ("chosen", "rejected"):
                    text = row[verdict]
                    if isinstance(text, str) and text.strip() in texts:
                        found[text.strip()].append((row["prompt"], verdict))
    return found


def _score(row: Row) -> float:
    return -math.inf if row["score"] is None else float(row["score"])


def _pairs(stage: StageView, run: RunView) -> Sample:
    rows = read_rows(stage)
    chosen = list(rows.select(spaced(len(rows), MOST_CARDS)))
    kinds = list(dict.fromkeys(str(row.get("kind") or "") for row in chosen))
    cards = []
    for row in chosen:
        kind, margin = str(row.get("kind") or ""), row.get("margin")
        about = [str(row.get("id", "")), f"{kind} pair" if kind else ""]
        about.append("" if margin is None else f"margin {margin:.3g}")
        entries = (
            *_said("chosen", row["chosen"], "chosen"),
            *_said("rejected", row["rejected"], "rejected"),
        )
        head = _said("prompt", row["prompt"])
        mark = f"kind-{kinds.index(kind)}"
        cards.append(SampleCard(", ".join(filter(None, about)), head, entries, frozenset({mark})))
    named = [(f"kind-{n}", f"{kind} pairs") for n, kind in enumerate(kinds) if kind]
    filters = tuple(named) if len(named) > 1 else ()
    return Sample(stage.name, "preference pairs", tuple(cards), len(rows), filters)


def _other(stage: StageView, run: RunView) -> Sample:
    rows = read_rows(stage)
    cards = tuple(
        SampleCard(
            str(row.get("id", "")),
            (),
            tuple(
                text
                for name, value in row.items()
                if name != "id" and value is not None
                for text in _said(name, value)
            ),
        )
        for row in rows.select(spaced(len(rows), MOST_OTHER_ROWS))
    )
    return Sample(stage.name, "rows", cards, len(rows))


def _asked(row: Row) -> tuple[LabelledText, ...]:
    """What an exam asks: a question, or the turns of a conversation."""
    if row.get("question"):
        return (LabelledText("question", row["question"]),)
    return _said("messages", row["messages"]) if row.get("messages") else ()


def _said(name: str, value: Any, verdict: str = "") -> tuple[LabelledText, ...]:
    """A value under its column's name; of a conversation each turn under its role."""
    if not is_conversation(value):
        return (LabelledText(name, None if value is None else _plain(value), verdict),)
    turns: list[LabelledText] = []
    for turn in value:
        if turn.get("reasoning_content"):
            turns.append(LabelledText(f"{turn['role']}, thinking", turn["reasoning_content"]))
        words = [turn.get("content") or "", *map(_call, read_calls(turn))]
        label = f"{turn['role']}, not trained" if turn.get("weight") == 0 else turn["role"]
        turns.append(LabelledText(label, "\n".join(filter(None, words)), verdict))
    return tuple(turns)


def _call(call: dict[str, Any]) -> str:
    function = call["function"]
    return f"{function['name']}({json.dumps(function['arguments'], ensure_ascii=False)})"


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _grouped(rows: Dataset, column: str) -> dict[str, list[int]]:
    """Row numbers by the column's value, in order of first appearance."""
    groups: dict[str, list[int]] = {}
    for index, value in enumerate(rows[column]):
        groups.setdefault(str(value), []).append(index)
    return groups


def _some(rows: Dataset, groups: Mapping[str, list[int]]) -> Iterable[tuple[str, list[Row]]]:
    """Evenly spaced groups with their rows."""
    names = list(groups)
    for index in spaced(len(names), MOST_CARDS):
        chosen = rows[groups[names[index]]]
        values = zip(*chosen.values(), strict=True)
        yield names[index], [dict(zip(chosen, value, strict=True)) for value in values]
