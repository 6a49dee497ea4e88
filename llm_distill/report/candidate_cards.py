"""Scored candidates and preference pairs in the report's browser."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from llm_distill.report.cards import (
    MOST_CARDS,
    LabelledText,
    Sample,
    SampleCard,
    grouped,
    said,
    some,
)
from llm_distill.report.charts import spaced
from llm_distill.report.collect import RunView, StageView, read_rows
from llm_distill.report.lineage import Lineage
from llm_distill.rows.columns import Row

CANDIDATES = {"parent_id", "question", "rationale", "score"}
PAIRS = {"prompt", "chosen", "rejected"}


def candidates(stage: StageView, run: RunView, lineage: Lineage, wanted: Sequence[int]) -> Sample:
    """Each question with its candidates, the best first, and which of them became a pair."""
    rows = read_rows(stage)
    by_question = grouped(rows, "parent_id")
    shown = list(some(rows, by_question, wanted))
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
        source = lineage.made(stage.name, question)
        cards.append(
            SampleCard(
                question,
                tuple(head),
                tuple(entries),
                frozenset({"pair"} if any(entry.verdict for entry in entries) else ()),
                (question, *(str(row["id"]) for row in members if "id" in row)),
                () if source is None else (source,),
            )
        )
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


def pairs(stage: StageView, lineage: Lineage, wanted: Sequence[int]) -> Sample:
    """Each pair with its prompt; a filter for each kind of pair."""
    rows = read_rows(stage)
    chosen = list(rows.select(sorted({*spaced(len(rows), MOST_CARDS), *wanted})))
    kinds = list(dict.fromkeys(str(row.get("kind") or "") for row in chosen))
    cards = []
    for row in chosen:
        kind, margin = str(row.get("kind") or ""), row.get("margin")
        identity = str(row.get("id", ""))
        about = [identity, f"{kind} pair" if kind else ""]
        about.append("" if margin is None else f"margin {margin:.3g}")
        entries = (
            *said("chosen", row["chosen"], "chosen"),
            *said("rejected", row["rejected"], "rejected"),
        )
        cards.append(
            SampleCard(
                ", ".join(filter(None, about)),
                said("prompt", row["prompt"]),
                entries,
                frozenset({f"kind-{kinds.index(kind)}"}),
                (identity,),
                lineage.sources(stage.name, row),
            )
        )
    named = [(f"kind-{n}", f"{kind} pairs") for n, kind in enumerate(kinds) if kind]
    filters = tuple(named) if len(named) > 1 else ()
    return Sample(stage.name, "preference pairs", tuple(cards), len(rows), filters)
