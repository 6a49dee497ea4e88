"""A plan of new training data as rows, and what a teacher's answer specifies. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_distill.methods.data_plan import Leaf
from llm_distill.methods.parsing import read_groups
from llm_distill.methods.skills import read_labels, skill_id
from llm_distill.rows.columns import Row, round_after, task_of

COLUMNS = (
    "id", "round", "task", "skill", "subskill", "n", "planned", "action", "reason", "mistakes",
    "question_ids",
)  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """What a plan asks for, before it is numbered; see `COLUMNS` in `rows.columns`.

    at: makes the id unique among the rows of its skill.
    """

    task: str
    skill: str
    n: int
    reason: str | None
    subskill: str | None = None
    action: str | None = None
    mistakes: str | None = None
    question_ids: tuple[str, ...] = ()
    at: str = ""


def leaf_of(row: Mapping[str, Any]) -> Leaf:
    """What a row of a plan wants new rows for: its skill, or a part of it."""
    return task_of(row), str(row["skill"]), row["subskill"] or ""


def planned_so_far(before: Sequence[Mapping[str, Any]]) -> Counter[Leaf]:
    """By what a plan wants rows for, how many were planned up to it."""
    found: Counter[Leaf] = Counter()
    for row in before:
        found[leaf_of(row)] = max(found[leaf_of(row)], row["planned"])
    return found


def kept(wanted: Sequence[Wanted], before: Sequence[Mapping[str, Any]]) -> list[Wanted]:
    """What earlier plans named and this one does not, each once: it asks for nothing.

    A later plan goes on from it: how many were planned, and how a tree has grown. Without it a
    skill that one round passed over would begin anew.
    """
    named = {(w.task, w.skill, w.subskill) for w in wanted}
    found: dict[tuple[str, str, str | None], Wanted] = {}
    for row in before:
        task, skill, part = key = task_of(row), row["skill"], row["subskill"]
        if key not in named and key not in found:
            found[key] = Wanted(task, skill, 0, None, part, row["action"], at=part or "")
    return list(found.values())


def numbered(wanted: Sequence[Wanted], before: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The plan's rows. `planned` of those about the same is the same: theirs of all rounds."""
    number = round_after(before)
    rows: list[Row] = [
        {
            "id": "/".join(filter(None, (str(number), skill_id(w.task, w.skill), w.at))),
            "round": number,
            "task": w.task or None,
            "skill": w.skill,
            "subskill": w.subskill,
            "n": w.n,
            "action": w.action,
            "reason": w.reason,
            "mistakes": w.mistakes,
            "question_ids": list(w.question_ids),
        }
        for w in wanted
    ]
    planned = planned_so_far(before)
    for row in rows:
        planned[leaf_of(row)] += row["n"]
    return [{**row, "planned": planned[leaf_of(row)]} for row in rows]


def specifications(text: str) -> list[tuple[str, str | None]]:
    """(skill, why) of each `<skill>` in an answer, with its `<reason>`: all before, or all after.

    Several names in one tag, separated by commas, are several specifications for one reason.

    >>> specifications("<reason>It adds.</reason> <skill>Taking away</skill>")
    [('taking_away', 'It adds.')]
    """
    if 0 <= text.find("<skill>") < text.find("<reason>"):
        parts = [part.partition("<reason>") for part in text.split("</reason>")]
        return [
            (name, reason.strip() or None)
            for ahead, _, reason in parts
            for name in read_labels(ahead) or ()
        ]
    return [
        (name, group["reason"])
        for group in read_groups(text, "skill", ["reason"])
        for name in read_labels(f"<skill>{group['skill']}</skill>") or ()
    ]


def quoted(row: Mapping[str, Any]) -> str:
    """A wrong answer as a prompt can show it: the question, what was answered, what is right."""
    parts = (
        ("Question", row.get("question")),
        ("Answer given", row.get("completion") or row.get("answer")),
        ("Right answer", row.get("reference_answer")),
    )
    return "\n".join(f"{name}: {text}" for name, text in parts if text)
