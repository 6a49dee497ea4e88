"""An exam's items in the report's browser: each with every model's answers, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from llm_distill.report.cards import LabelledText, Sample, SampleCard, grouped, said, some
from llm_distill.report.collect import StageView, read_rows
from llm_distill.report.lineage import Lineage
from llm_distill.rows.columns import Row

MOST_ENTRIES = 24
"""Answers to one item."""
PROMPT_BEGINS, PROMPT_ENDS = 600, 1400
"""Characters of a long prompt that are shown: its beginning, and its end with the question."""
EXAM = {"parent_id", "model", "shots", "reference_answer", "completion", "is_correct"}
Filters = tuple[tuple[str, str], ...]


def exam_items(stage: StageView, lineage: Lineage, wanted: Sequence[int]) -> Sample:
    """wanted: numbers of rows whose items are shown too."""
    rows = read_rows(stage)
    by_item = grouped(rows, "parent_id")
    sittings = list(dict.fromkeys(zip(rows["model"][:], rows["shots"][:], strict=True)))
    models = list(dict.fromkeys(model for model, _ in sittings))
    shots = list(dict.fromkeys(n for _, n in sittings))
    reads = "answer" in rows.column_names
    groups = [by.column for by in stage.results.by if by.column in rows.column_names]
    cards = []
    for item, members in some(rows, by_item, wanted):
        source = lineage.made(stage.name, item)
        if source is not None and lineage.is_seed(source):
            source = None  # all that there is to say of it is on the card
        entries = sorted(members, key=lambda row: (_place(row), models.index(row["model"])))
        cards.append(
            SampleCard(
                item,
                (
                    *_asked(members[0]),
                    *said("reference answer", members[0]["reference_answer"]),
                    *(text for name in groups for text in said(name, members[0][name])),
                    *_prompts(members),
                ),
                tuple(_answer(row, members, reads) for row in entries[:MOST_ENTRIES]),
                frozenset(_marks(members, models, shots, reads)),
                (item, *(str(row["id"]) for row in members if "id" in row)),
                () if source is None else (source,),
                len(models),
            )
        )
    filters = _filters(models, shots, reads)
    return Sample(stage.name, "exam items", tuple(cards), len(by_item), filters)


def _filters(models: list[str], shots: list[int], reads: bool) -> Filters:
    if len(models) == 1:
        filters = [("differ", "some answers right, some wrong")]
    else:
        before, after = models[0], models[-1]
        filters = [("differ", "models differ")]
        for n in shots:
            filters += [
                (f"gained-{n}", f"gained, {n}-shot: {before} wrong, {after} right"),
                (f"lost-{n}", f"lost, {n}-shot: {before} right, {after} wrong"),
            ]
    return (*filters, *([("unreadable", "an answer is unreadable")] if reads else []))


def _marks(members: list[Row], models: list[str], shots: list[int], reads: bool) -> set[str]:
    """What is true of an item: a model's answers count as right if at least half are."""
    marks: set[str] = set()
    if len(models) == 1 and len({bool(row["is_correct"]) for row in members}) > 1:
        marks.add("differ")
    for n in shots:
        right = {model: _mostly_right(members, model, n) for model in models}
        if len(set(right.values()) - {None}) > 1:
            marks.add("differ")
        pair = right[models[0]], right[models[-1]]
        if pair in ((False, True), (True, False)):
            marks.add(f"gained-{n}" if pair[1] else f"lost-{n}")
    if reads and any(_is_unreadable(row) for row in members):
        marks.add("unreadable")
    return marks


def _mostly_right(members: list[Row], model: str, shots: int) -> bool | None:
    """Whether at least half of the answers are right; None without any."""
    right = [bool(r["is_correct"]) for r in members if (r["model"], r["shots"]) == (model, shots)]
    return 2 * sum(right) >= len(right) if right else None


def _is_unreadable(row: Row) -> bool:
    """Whether it was answered, and no answer was found in it."""
    return row["answer"] is None and not row["is_correct"] and row.get("error") is None


def _answer(row: Row, members: list[Row], reads: bool) -> LabelledText:
    verdict = "right" if row["is_correct"] else "wrong"
    notes = []
    if reads and _is_unreadable(row):
        verdict = "unreadable"
    elif verdict == "wrong" and row.get("answer") is not None and row["completion"]:
        notes.append(f"read as {row['answer']}")
    if row.get("finish_reason") == "length":
        notes.append("truncated")
    return LabelledText(
        f"{row['model']}, {row['shots']}-shot{_which(row, members)}",
        row["completion"] or row.get("answer"),  # a call of a tool has no words
        verdict,
        error=row.get("error"),
        notes=tuple(notes),
        thought=row.get("reasoning") or None,
    )


def _place(row: Row) -> tuple[int, int]:
    """Answers to the same prompt stand together, the first of each model before the second."""
    return row["shots"], row.get("candidate_index") or 0


def _which(row: Row, members: list[Row]) -> str:
    several = any(other.get("candidate_index") for other in members)
    return f", answer {row['candidate_index'] + 1}" if several else ""


def _asked(row: Row) -> tuple[LabelledText, ...]:
    """What an exam asks: a question, or the turns of a conversation."""
    if row.get("question"):
        return (LabelledText("question", row["question"]),)
    return said("messages", row["messages"]) if row.get("messages") else ()


def _prompts(members: list[Row]) -> tuple[LabelledText, ...]:
    """The prompts as rendered, those of a model apart if they are its own.

    Of several numbers of worked examples the fewest and the most: what is between is between.
    """
    named: dict[int, dict[str, list[str]]] = {}
    shots = {row["shots"] for row in members}
    for row in (row for row in members if row["shots"] in (min(shots), max(shots))):
        text = row.get("prompt")
        if isinstance(text, str) and text.strip() != str(row.get("question") or "").strip():
            models = named.setdefault(row["shots"], {}).setdefault(text, [])
            models += [] if row["model"] in models else [row["model"]]
    prompts = []
    for n, texts in sorted(named.items()):
        for text, models in texts.items():
            whose = f", {', '.join(models)}" if len(texts) > 1 else ""
            prompts.append(LabelledText(f"prompt, {n}-shot{whose}", _cut(text), is_folded=True))
    return tuple(prompts)


def _cut(prompt: str) -> str:
    left_out = len(prompt) - PROMPT_BEGINS - PROMPT_ENDS
    if left_out <= 0:
        return prompt
    return (
        f"{prompt[:PROMPT_BEGINS]} […\u00a0{left_out:,} characters\u00a0…] {prompt[-PROMPT_ENDS:]}"
    )
