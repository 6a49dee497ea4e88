"""Skills by name: one spelling, a task's list, and the labels that a model gives.

Skills belong to a task: the same name in two tasks is two skills.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_distill.errors import DataError, nearest
from llm_distill.methods.parsing import read_blocks
from llm_distill.rows.columns import Row, task_of

MOST_CHARACTERS = 60
MOST_OFF_LIST = 20
"""How many different labels outside the list are named in the manifest."""
FEWEST_ALIKE = 20
"""Labelled questions of a task before it is said that nearly all have the same skill."""
ALIKE = 0.95
"""Their share."""

_APOSTROPHES = "'’"
_NUMBERING = re.compile(r"\s*\d+[.)]\s")


def canonical(name: str) -> str:
    """A skill's only spelling: words in lower case with underscores between them.

    Whatever is not a letter, mark or digit separates words; a + or # after a word belongs to it,
    and apostrophes are left out.

    >>> canonical(" Solving  Equations."), canonical("bayes' rule"), canonical("C++")
    ('solving_equations', 'bayes_rule', 'c++')
    """
    words = [""]
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    for character in folded:
        if unicodedata.category(character)[0] in "LMN" or (character in "+#" and words[-1]):
            words[-1] += character
        elif character not in _APOSTROPHES:
            words.append("")
    return "_".join(filter(None, words))


def what_is_wrong(name: str) -> str | None:
    """Why a name cannot be on a list of skills; None if it can."""
    if "," in name:
        return f"'{name}' has a comma, which separates labels; write one name per entry"
    if not canonical(name):
        return f"'{name}' has no letter or digit"
    if len(canonical(name)) > MOST_CHARACTERS:
        return f"'{name}' has more than {MOST_CHARACTERS} characters; a skill is a short name"
    return None


def skill_id(task: str, skill: str) -> str:
    """`task/skill`; the skill alone if the task is unnamed."""
    return f"{task}/{skill}" if task else skill


def skill_lists(rows: Iterable[Row], name: str) -> dict[str, list[str]]:
    """Each task's skills, in the order of the rows of the stage `name`.

    Raises:
        DataError: a skill is null or blank.
    """
    lists: dict[str, dict[str, None]] = {}
    for row in rows:
        skill = canonical(str(row["skill"] or ""))
        if not skill:
            raise DataError(f"row {row['id']} of '{name}' has no skill")
        lists.setdefault(task_of(row), {})[skill] = None
    return {task: list(skills) for task, skills in lists.items()}


def check_tasks(rows: Iterable[Row], lists: Mapping[str, Collection[str]], name: str) -> None:
    """Refuse rows of a task that is not on the list of skills, the stage `name`.

    Raises:
        DataError: with the first such task and a row of it.
    """
    for row in rows:
        if task_of(row) not in lists:
            task = f"task '{task_of(row)}'" if task_of(row) else "rows without a task"
            known = nearest(task_of(row), (task or "(no task)" for task in lists))
            raise DataError(f"'{name}' has no skills for {task} (row {row['id']}); {known}")


REASON_REGEX = r"<reason>([^<]|<[^/])*</reason>"
"""A reason in a constrained answer; it may contain "a < b"."""


def read_labels(text: str) -> list[str] | None:
    """The labels in every `<skill>…</skill>`, canonical, each once, in order.

    Commas, semicolons and lines separate the labels in one tag. None if no tag is closed.

    >>> read_labels("<skill>Long Division; fractions</skill> and <skill>fractions</skill>")
    ['long_division', 'fractions']
    """
    blocks = read_blocks(text, "skill")
    # A tag that is opened again before it is closed counts from its last opening.
    inner = (block.rpartition("<skill>")[2] for block in blocks)
    parts = (part for block in inner for part in re.split(r"[,;\n]", block))
    labels = (canonical(_NUMBERING.sub("", part, count=1)) for part in parts)
    return list(dict.fromkeys(filter(None, labels))) if blocks else None


def labels_regex(skills: Iterable[str], most: int) -> str:
    """What `read_labels` reads, one to `most` of these skills: `<skill>a(, b)…</skill>`."""
    # Of what a canonical name may contain, only + is special in an expression.
    one = "|".join(skill.replace("+", r"\+") for skill in skills)
    return rf"<skill>({one})(, ({one})){{0,{most - 1}}}</skill>"


@dataclass
class LabelCounts:
    """Keeps the labels that are on a task's list, and counts the rest.

    Attributes:
        most: how many labels of an answer are kept.
        unreadable: answers without a closed tag.
        unlabelled: answers without a label on the list, including unreadable ones.
        surplus: labels on the list beyond `most`.
        off_list: labels that are not on the list.
        by_task: how often each skill of a list of several is named, by task.
        labelled: how many answers have such a skill, by task.
    """

    most: int
    unreadable: int = 0
    unlabelled: int = 0
    surplus: int = 0
    off_list: Counter[str] = field(default_factory=Counter)
    by_task: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    labelled: Counter[str] = field(default_factory=Counter)

    def sort(self, labels: Sequence[str] | None, skills: Collection[str], task: str) -> list[str]:
        """The first `most` labels that are on the list `skills`, which is that of the task."""
        if labels is None:
            self.unreadable += 1
        on_list = [label for label in labels or () if label in skills]
        self.off_list.update(label for label in labels or () if label not in skills)
        self.unlabelled += not on_list
        self.surplus += max(0, len(on_list) - self.most)
        kept = on_list[: self.most]
        if len(skills) > 1 and kept:
            self.by_task[task].update(dict.fromkeys(kept, 1))
            self.labelled[task] += 1
        return kept

    def notes(self, model: str) -> Iterator[str]:
        """What to know before a student is trained by these labels.

        A small model may name what stands first in the list, whatever the question says.
        """
        for task, counts in self.by_task.items():
            ((skill, count),) = counts.most_common(1)
            n = self.labelled[task]
            if n >= FEWEST_ALIKE and count >= ALIKE * n:
                yield (
                    f"'{model}' names '{skill}' in {count} of {n} questions of '{task}': look "
                    "whether it reads them; if not, questions for this skill are random ones"
                )

    def figures(self) -> dict[str, Any]:
        """The counts, for the manifest, with the most frequent labels off the list."""
        ordered = sorted(self.off_list.items(), key=lambda item: (-item[1], item[0]))
        return {
            "unreadable": self.unreadable,
            "unlabelled": self.unlabelled,
            "surplus_labels": self.surplus,
            "off_list_labels": self.off_list.total(),
            "off_list": dict(ordered[:MOST_OFF_LIST]),
        }
