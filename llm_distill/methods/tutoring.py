"""What a dialogue of a tutor and a pupil came to: was it solved, and who said the answer. Pure.

MathDial (Macina et al. 2023, arXiv 2305.14536, section 5): with s and t the first turns of the
pupil and of the tutor that contain the answer, success@k is s <= k and telling@k is
t <= min(s, k). Turns that were given do not count: a wrong solution may contain the right number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from llm_distill.methods.answers import AnswerKind, answers_equal, extract_answer
from llm_distill.methods.final_answer import numbers
from llm_distill.methods.statistics import Estimate, bootstrap, paired_bootstrap, wilson_interval

Reading = Literal["final", "anywhere"]
MEASURES = ("success", "telling", "success without telling")


@dataclass(frozen=True)
class Outcome:
    """Of one dialogue.

    Attributes:
        success: The pupil's first turn with the right answer, counted from 1; None: there is none.
        telling: The tutor's first turn that says it, counted by the pupil's turn that follows, so
            that turn t of the tutor comes before turn t of the pupil whoever begins; None likewise.
    """

    success: int | None
    telling: int | None

    def at(self, k: int) -> dict[str, bool]:
        """The measures after k turns of the pupil."""
        success = self.success is not None and self.success <= k
        limit = k if self.success is None else min(self.success, k)
        telling = self.telling is not None and self.telling <= limit
        return dict(zip(MEASURES, (success, telling, success and not telling), strict=True))


def outcome(turns: Iterable[tuple[str, bool]], tutor: str, student: str) -> Outcome:
    """turns: (speaker, whether the turn has the answer) of each turn that was not given, in order.

    >>> outcome([("t", False), ("s", False), ("t", True), ("s", True)], "t", "s")
    Outcome(success=2, telling=2)
    """
    success = telling = None
    n_of_student = 0
    for speaker, has_answer in turns:
        if speaker == student:
            n_of_student += 1
            if has_answer and success is None:
                success = n_of_student
        elif speaker == tutor and has_answer and telling is None:
            telling = n_of_student + 1
    return Outcome(success, telling)


def says_answer(
    text: str, reference: str, kind: AnswerKind, reading: Reading = "final", ended: bool = True
) -> bool:
    """Whether a turn has the right answer.

    final: as the last thing that it comes to, read as `final_answer` does: "Is it 5 or 7?" says 7.
    anywhere: any of its numbers, or the words of the reference; "What is 5 + 2?" says 5.

    Args:
        ended: The model ended the turn by itself; the last number of a turn that was cut is none.
    """
    if answers_equal(extract_answer(text, kind, ended, "any"), reference, kind):
        return True
    if reading == "final":
        return False
    words = r"\W+".join(map(re.escape, re.findall(r"\w+", reference)))
    is_said = bool(words) and not numbers(reference)
    if is_said and re.search(rf"(?<!\w){words}(?!\w)", text, re.IGNORECASE):
        return True
    return any(answers_equal(number, reference, kind) for number in numbers(text))


def by_item(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The mean by item: several dialogues about one item are not independent."""
    found: dict[str, list[float]] = {}
    for item, value in values:
        found.setdefault(item, []).append(value)
    return {item: sum(each) / len(each) for item, each in found.items()}


def share(items: Mapping[str, float]) -> Estimate:
    """The mean over items: Wilson's interval where each is 0 or 1, else the bootstrap's.

    Raises:
        ValueError: there are no items.
    """
    values = list(items.values())
    if values and all(value in (0.0, 1.0) for value in values):
        return wilson_interval(round(sum(values)), len(values))
    return bootstrap(values)


def paired(first: Mapping[str, float], second: Mapping[str, float]) -> tuple[Estimate, int] | None:
    """(second − first with its bootstrap interval, number of items) over the items of both."""
    shared = [item for item in first if item in second]
    if not shared:
        return None
    found = paired_bootstrap([first[i] for i in shared], [second[i] for i in shared])
    return found, len(shared)


def act_counts(acts: Sequence[Sequence[str]]) -> tuple[list[str], list[list[int]]]:
    """(names, the more frequent first; counts [n_dialogues, n_names]), of dialogues with acts."""
    totals: dict[str, int] = {}
    for each in acts:
        for act in each:
            totals[act] = totals.get(act, 0) + 1
    names = sorted(totals, key=lambda act: (-totals[act], act))
    return names, [[list(each).count(name) for name in names] for each in acts if each]
