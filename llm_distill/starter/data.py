"""Somebody's data as questions with answers, and its parts. One file for each part.

read: {"problem": "2 + 2?", "solution": "4"} in my.csv
written: {"id": "row-0", "question": "2 + 2?", "reference_answer": "4"} in data/train.jsonl
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llm_distill.errors import DataError, counted
from llm_distill.methods.splits import split_rows
from llm_distill.stages.load_dataset import LoadDataset
from llm_distill.starter.columns import (
    LETTERS,
    Columns,
    asked_and_answered,
    choices_of,
    guess,
    numbered_from,
)
from llm_distill.starter.kinds import Answers, final, kind_of, labels_of

FEWEST = 10
LOOKED_AT = 200
"""Rows by which columns are told apart."""


@dataclass(frozen=True)
class Item:
    """A question, with its answer if there is one."""

    id: str
    question: str
    answer: str | None

    def as_json(self) -> str:
        row = {"id": self.id, "question": self.question}
        if self.answer is not None:
            row["reference_answer"] = self.answer
        return json.dumps(row, ensure_ascii=False)


@dataclass(frozen=True)
class Data:
    """What was read, and what was found in it.

    labels: the answers that there are, where they are labels.
    left_out: why rows are not among the items, and how many.
    """

    path: str
    items: Sequence[Item]
    columns: Columns
    kind: Answers
    labels: Sequence[str]
    left_out: Mapping[str, int]

    @property
    def has_answers(self) -> bool:
        return self.items[0].answer is not None


def read_data(
    path: str,
    config: str | None,
    split: str,
    question: str | None,
    answer: str | None,
    kind: Answers | None,
) -> Data:
    """Read what `load_dataset` reads, all of it.

    config, split: of a dataset on the Hub, or of a folder.
    question, answer, kind: what the user says; None is guessed.

    Raises:
        DataError: it cannot be read, or has too few rows.
        ConfigError: nothing in it can be taken for a question.
    """
    loader = LoadDataset(stage="load_dataset", path=path, name=config, split=split)
    rows = list(loader.raw_rows())
    if not rows:
        raise DataError(f"{path} has no rows")
    columns = guess([row for _, row in rows[:LOOKED_AT]], question, answer)
    pairs = [asked_and_answered(row, columns, place) for place, row in rows]
    asked, answers = [q for q, _ in pairs], final([a for _, a in pairs])
    if columns.choices:
        most = max(len(choices_of(row, columns.choices)) for _, row in rows)
        first = numbered_from(answers, most)
        if first is not None:
            answers = [LETTERS[int(each) - first] if each else "" for each in answers]
    has_answers = any(answers)
    items: dict[str, Item] = {}
    left_out: Counter[str] = Counter()
    ids = _ids([row.get("id") for _, row in rows])
    for identity, question_text, answer_text in zip(ids, asked, answers, strict=True):
        if not question_text:
            left_out["no question"] += 1
        elif has_answers and not answer_text:
            left_out["no answer"] += 1
        elif question_text in items:  # it could come into both the training and the exam
            left_out["a question that is there already"] += 1
        else:
            items[question_text] = Item(identity, question_text, answer_text or None)
    if len(items) < FEWEST:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in left_out.items())
        found_rows = counted(len(items), "row")
        raise DataError(
            f"{path} has {found_rows} with a question{' and an answer' * has_answers}; "
            f"{FEWEST} are the fewest that can be divided"
            + f" (left out: {reasons})"
            * bool(reasons)
        )
    found = [each.answer for each in items.values() if each.answer is not None]
    is_kind = kind or kind_of(found, bool(columns.choices))
    return Data(path, list(items.values()), columns, is_kind, labels_of(found, is_kind), left_out)


def divided(data: Data, sizes: Mapping[str, int], seed: int) -> dict[str, list[Item]]:
    """The items of each part, at random by the seed; labels are spread evenly."""
    strata = [str(each.answer) for each in data.items] if data.labels else None
    found = split_rows([each.id for each in data.items], dict(sizes), seed, strata)
    parts: dict[str, list[Item]] = {name: [] for name in sizes}
    for item, part in zip(data.items, found, strict=True):
        if part is not None:
            parts[part].append(item)
    return parts


def _ids(own: Sequence[object]) -> list[str]:
    """The rows' own ids, if each has one and no two are the same; else their numbers."""
    texts = ["" if each is None else str(each) for each in own]
    if all(texts) and len(set(texts)) == len(texts):
        return texts
    return [f"row-{number}" for number in range(len(own))]
