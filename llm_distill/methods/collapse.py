"""Whether a model still writes as one would after its training, told from a few of its answers.

A preference training on few pairs can end with all pairs told apart, a rising reward, and a model
that answers every prompt with the same two words. Its losses do not show that; its answers do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from llm_distill.methods.final_answer import final_answer

Answer = tuple[tuple[int, ...], bool]
"""Its token ids, and whether it ended by itself."""

GRAM = 4
LEAST_ANSWERS = 8
"""Of fewer answers nothing is concluded."""
SHARE = 0.4
"""How much larger than before, and than in the rows, a share has to be to count as a collapse."""
SHRUNK = 0.25
"""The share of the length before, and of the rows' length, that is too short."""


@dataclass(frozen=True)
class Habits:
    """How a model writes.

    Attributes:
        ended: share of answers that end by themselves, and are not cut.
        length: median number of tokens.
        repeated: mean share of an answer's 4-grams that it has written before.
        same: share of the most common answer.
        readable: share of answers with a final answer that is marked as one (`<ans>`, `\\boxed`,
            "The answer is …"); None where their texts are not known.
    """

    ended: float
    length: float
    repeated: float
    same: float
    readable: float | None = None


def habits(answers: Sequence[Answer], texts: Sequence[str] | None = None) -> Habits:
    """Of answers to different prompts. texts: the same as text.

    Raises:
        ValueError: there are none.
    """
    if not answers:
        raise ValueError("habits are those of answers, and there are none")
    counts = Counter(ids for ids, _ in answers)
    return Habits(
        ended=fmean(ended for _, ended in answers),
        length=float(median(len(ids) for ids, _ in answers)),
        repeated=fmean(repeated(ids) for ids, _ in answers),
        same=max(counts.values()) / len(answers),
        readable=None if texts is None else fmean(map(_is_readable, texts)),
    )


def _is_readable(text: str) -> bool:
    found = final_answer(text)
    return found is not None and found.form in ("tag", "boxed", "hashes", "sentence")


def repeated(ids: Sequence[int]) -> float:
    """The share of an answer's 4-grams that it has written before."""
    grams = [tuple(ids[i : i + GRAM]) for i in range(len(ids) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def collapse(before: Habits, after: Habits, rows: Habits, n: int) -> str | None:
    """What went wrong in a training, in words, or None.

    Nothing is concluded about a model that wrote in circles and without an end before: it did not
    write as one would in the first place. And a training may be meant to shorten answers or to make
    them alike: a habit counts as a collapse only where the answers afterwards are far both from
    those before and from those of the rows.

    Args:
        before: of the model before its training.
        after: of the trained model, on the same prompts.
        rows: of the answers that it was trained to give to them.
        n: number of prompts.
    """
    wrote = before.ended >= 0.5 or before.repeated <= 0.3
    if n < LEAST_ANSWERS or not wrote:
        return None
    if after.length < SHRUNK * min(before.length, rows.length):
        return (
            f"its answers have {after.length:g} tokens, where they had {before.length:g} before "
            f"and the rows' have {rows.length:g}"
        )
    # Of a few fixed answers, such as yes and no, the most common one is a poor model's best guess.
    differ = rows.same <= 0.25
    if differ and after.same > max(before.same, rows.same) + SHARE:
        return f"it gives one and the same answer to {after.same:.0%} of different prompts"
    if after.repeated > max(before.repeated, rows.repeated) + SHARE:
        return f"it repeats itself: {after.repeated:.0%} of what it writes is there twice"
    if after.ended < min(before.ended, rows.ended) - SHARE:
        return f"it does not end: {after.ended:.0%} of its answers do, and {before.ended:.0%} did"
    if None in (before.readable, after.readable, rows.readable):
        return None
    old, new, wanted = before.readable or 0, after.readable or 0, rows.readable or 0
    if new < min(old, wanted) - SHARE:
        return f"{new:.0%} of its answers say what the final answer is, and {old:.0%} did"
    return None
