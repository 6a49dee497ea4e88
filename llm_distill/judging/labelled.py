"""Answers that people have judged, and how far a judge agrees with them: its gate."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_distill.errors import DataError, counted, nearest, quoted
from llm_distill.evaluation.agreement_figures import below, judge_figures, line
from llm_distill.evaluation.result_rows import AgreementRow
from llm_distill.judging.answers import Answer, comparisons, grades
from llm_distill.judging.judge import Judge
from llm_distill.judging.scale import Scale
from llm_distill.judging.settings import PAIR, JudgeSettings, LabelledSettings
from llm_distill.methods.agreement import Label
from llm_distill.methods.answers import extract_answer
from llm_distill.methods.examples import question_key
from llm_distill.rows.columns import Row

FEWEST = 2
MOST_SHOWN = 5


@dataclass(frozen=True)
class Labelled:
    """An answer, or two, with what people said of it."""

    label: Label
    answers: tuple[Answer, ...]


def read_sample(
    rows: Iterable[Row],
    settings: JudgeSettings,
    items: Mapping[str, Mapping[str, Any]],
    read: Collection[str],
    exam: str,
    warn: Callable[[str], None],
) -> list[Labelled]:
    """The labelled answers, before anything is asked.

    Args:
        rows: Those of the stage.
        settings: Of the judge.
        items: By id, what the template is given of the exam's items.
        read: The names of an item's values that the template reads.
        exam: The stage with the exam's items.
        warn: Is told what is left out, and of questions that are not the exam's.

    Raises:
        DataError: A row lacks what the template reads, or has a label that is none; or there are
            fewer than two.
    """
    labelled = settings.labelled
    assert labelled is not None
    names = PAIR if settings.is_pairwise else ("answer",)
    found, left_out, elsewhere = [], 0, 0
    questions = {question_key(item["question"]) for item in items.values()}
    for row in rows:
        texts = [_text(row, name) for name in names]
        label = _label(row, settings)
        if label is None or not all(text.strip() for text in texts):
            left_out += 1
            continue
        item = _item(row, items, read, labelled, exam)
        elsewhere += question_key(item["question"]) not in questions
        identity = f"{labelled.rows}-{row['id']}"
        found.append(Labelled(label, tuple(Answer(identity, item, text) for text in texts)))
    if len(found) < FEWEST:
        raise DataError(
            f"judge.labelled: '{labelled.rows}' has {counted(len(found), 'row')} with "
            f"{' and '.join(names)} and a label in '{labelled.column}'; agreement needs at "
            f"least {FEWEST}, and some dozens to say much"
        )
    if left_out:
        warn(f"{counted(left_out, 'row')} of '{labelled.rows}' without answer or label; left out")
    if elsewhere:
        warn(
            f"{elsewhere} of {len(found)} labelled rows are about questions that '{exam}' does not "
            "have: the judge's agreement on those need not hold for the exam"
        )
    return found


def agreement(
    sample: Sequence[Labelled], judge: Judge, settings: JudgeSettings
) -> list[AgreementRow]:
    """How far the judge agrees with people.

    Raises:
        DataError: Less than is wanted.
    """
    labelled = settings.labelled
    assert labelled is not None
    given = _verdicts(sample, judge, settings)
    labels = [
        (each.answers[0].id, each.label, said) for each, said in zip(sample, given, strict=True)
    ]
    return held_to(labels, judge, labelled.column, labelled.rows, labelled.min_agreement)


def _verdicts(
    sample: Sequence[Labelled], judge: Judge, settings: JudgeSettings
) -> Iterator[Label | None]:
    if settings.is_pairwise:
        pairs = [(each.answers[0], each.answers[1]) for each in sample]
        yield from (pair.winner for pair in comparisons(judge, pairs))
    else:
        answers = [each.answers[0] for each in sample]
        yield from (each.grade for each in grades(judge, settings.graded_on, answers))


def held_to(
    labels: Sequence[tuple[str, Label | None, Label | None]],
    judge: Judge,
    column: str,
    rows: str,
    wanted: float,
) -> list[AgreementRow]:
    """How far a judge agrees with people, as its gate.

    Args:
        labels: Of each row its id, people's label, a number if it is a grade, and the judge's.
        judge: Has given them.
        column: Where people's are.
        rows: The stage with that column.
        wanted: The lowest kappa, of grades weighted.

    Raises:
        DataError: It is lower.
    """
    _, people, given = zip(*labels, strict=True)
    weighted = any(isinstance(label, float) for label in people)
    figures = judge_figures((column, judge.name), people, given, weighted)
    kappa = figures[-1]
    if not below([kappa], {kappa.figure: wanted}):
        return figures
    listed = "\n".join(f"  {line(figure)}" for figure in figures)
    apart = [
        f"  {identity}: people {_spell(label)}, judge {_spell(verdict)}"
        for identity, label, verdict in labels
        if label != verdict
    ]
    raise DataError(
        f"the judge '{judge.name}' agrees too little with '{column}' of '{rows}', so nothing was "
        f"judged (min_agreement: {wanted})\n"
        f"{listed}\nThey differ in\n" + "\n".join(apart[:MOST_SHOWN]) + f"\nThe judge's rubric is "
        f"{judge.template.name}; change it, or take another judge"
    )


def _item(
    row: Row,
    items: Mapping[str, Mapping[str, Any]],
    read: Collection[str],
    labelled: LabelledSettings,
    exam: str,
) -> dict[str, Any]:
    """What the template is given: the row's own, and what it lacks from the exam's item."""
    parent = str(row.get("parent_id") or "")
    own = {name: value for name, value in row.items() if value is not None}
    item: dict[str, Any] = {**items.get(parent, {}), **own}
    reference = str(row.get("reference_answer") or "").strip()
    if reference or "references" not in item:
        item["references"] = [reference] if reference else []
    missing = sorted(name for name in {*read, "question"} if name not in item)
    if not item["references"] and any(each["references"] for each in items.values()):
        missing.append("reference_answer")
    if not missing:
        return item
    where = f"row {row['id']} of '{labelled.rows}'"
    if parent:
        raise DataError(
            f"judge.labelled: {where} has no {', '.join(missing)}, and its parent_id "
            f"{quoted(parent)} is no item of '{exam}'; {nearest(parent, items)}"
        )
    raise DataError(
        f"judge.labelled: {where} has no {', '.join(missing)}, which the judge is shown; give it, "
        f"or the id of an item of '{exam}' as parent_id"
    )


def _text(row: Row, name: str) -> str:
    """The answer that people judged: the column, or in rows of an exam what stands for it."""
    text = str(row.get(name) or "")
    if not text.strip() and name == "answer":
        return extract_answer(str(row.get("completion") or ""), "text", True) or ""
    return text


def _label(row: Row, settings: JudgeSettings) -> Label | None:
    labelled = settings.labelled
    assert labelled is not None
    where = f"judge.labelled: row {row['id']} of '{labelled.rows}': '{labelled.column}' is"
    scale = None if settings.is_pairwise else settings.graded_on
    return given_label(row[labelled.column], where, scale, "judge.scale")


def given_label(value: Any, where: str, scale: Scale | None, setting: str) -> Label | None:
    """What people said, as a judge says it; None where they said nothing.

    Args:
        value: A grade on the scale; or of two answers a, b or tie.
        where: What it is, for messages.
        scale: None for pairs.
        setting: Where the scale is set, for messages.

    Raises:
        DataError: it is neither.
    """
    if value is None or value != value or not str(value).strip():
        return None
    if scale is None:
        winner = str(value).strip().casefold()
        if winner not in ("a", "b", "tie"):
            raise DataError(f"{where} {quoted(value)}; it must be a, b or tie")
        return winner
    try:
        grade = float(value)
    except (TypeError, ValueError):
        grade = math.nan
    if not scale.lowest <= grade <= scale.highest:
        raise DataError(
            f"{where} {quoted(value)}; it must be a grade from {scale}, or set "
            f"{setting} to the scale that people used"
        )
    return grade


def _spell(label: Label | None) -> str:
    if label is None:
        return "nothing readable"
    return f"{label:g}" if isinstance(label, float) else str(label)
