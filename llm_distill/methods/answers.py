"""The final answer of a completion, and whether it equals the reference. Nothing here raises."""

from __future__ import annotations

from typing import Literal

from llm_distill.methods.choice_answers import read_choice
from llm_distill.methods.decoration import boxed
from llm_distill.methods.final_answer import ANSWER_TAG, AnswerForm, final_answer
from llm_distill.methods.math_answers import TOLERANCE, equal_as_math
from llm_distill.methods.parsing import read_tag
from llm_distill.methods.text_measures import equal_texts
from llm_distill.methods.tool_answers import equal_calls
from llm_distill.rows.messages import json_text
from llm_distill.rows.thoughts import split_thoughts
from llm_distill.rows.tool_calls import CALL_MARKS, split_calls

AnswerKind = Literal["exact", "choice", "math", "tool_call", "text"]
AnswerPlace = Literal["tag", "any"]


def extract_answer(
    text: str, kind: AnswerKind = "exact", ended: bool = False, place: AnswerPlace = "tag"
) -> str | None:
    r"""The content of the first `<ans>…</ans>`; None if there is none, or it is empty.

    Later ones belong to other questions, and what a model thinks before it answers is a draft. Of
    choices and mathematics the last `\boxed{…}` counts where there is no tag, of a text the whole.

    Args:
        text: What a model wrote.
        kind: Of the answer; a tool_call's is the JSON of its calls.
        ended: As in `read_tag`.
        place: any: where there is no tag, what `final_answer` finds.
    """
    return found_answer(text, kind, ended, place)[0]


def found_answer(
    text: str, kind: AnswerKind, ended: bool, place: AnswerPlace
) -> tuple[str | None, AnswerForm | None]:
    """As `extract_answer`, with the form in which it was found; None for calls of tools."""
    answer = split_thoughts(text)[1]
    if kind == "tool_call":
        calls = split_calls(answer)[0]
        if not calls and any(mark in answer for mark in CALL_MARKS):
            return answer.strip(), None  # which is no JSON of calls, and so unreadable
        return (json_text(calls) if calls else None), None
    if place == "any":
        final = final_answer(answer, ended)
        # The last number of a text is hardly ever the number of a choice.
        is_read = final is not None and not (kind == "choice" and final.form == "number")
        return (final.text, final.form) if final is not None and is_read else (None, None)
    found = read_tag(answer, ANSWER_TAG, ended)
    if found is None and kind == "text":
        return (answer.strip(), "whole") if answer.strip() else (None, None)
    if found is None and kind != "exact":
        inner = boxed(answer)
        found = None if inner is answer else inner.strip()
        return (found, "boxed") if found else (None, None)
    return (found, "tag") if found else (None, None)


def check_answer_in(place: AnswerPlace, kind: AnswerKind) -> None:
    """Raises:
    ValueError: calls of tools and free texts have one form, which is always read.
    """
    if place == "any" and kind in ("tool_call", "text"):
        raise ValueError(f"answer_in: any does nothing for answer_kind: {kind}; remove it")


def answers_equal(answer: str | None, reference: str, kind: AnswerKind = "exact") -> bool:
    """Whether an answer is right; one that is missing, blank or cannot be read never is."""
    return judge(answer, reference, kind) is True


def judge(
    answer: str | None,
    reference: str,
    kind: AnswerKind = "exact",
    tolerance: float = TOLERANCE,
) -> bool | None:
    """Whether an answer is right; None where there is none that could be read.

    exact: equal but for case, white space and a `.`, `,`, `;` or `:` at the end.
    choice: the same letter or number, however it is written; what names no choice, or two, is
        unreadable. Equal as above where the reference is not a choice's letter.
    math: equal as numbers with their units, or as expressions; see `math_answers`.
    tool_call: the same calls; see `tool_answers`.
    text: equal but for case, punctuation and English articles; see `text_measures`.
    """
    if kind == "tool_call":
        return equal_calls(answer, reference)
    if answer is None or not answer.strip():
        return None
    if kind == "text":
        return equal_texts(answer, reference)
    if _tidy(answer) == _tidy(reference):
        return True
    if kind == "choice":
        wanted = read_choice(reference)
        given = read_choice(answer)
        if wanted is None:
            return False
        return None if given is None else given == wanted
    return kind == "math" and equal_as_math(answer, reference, tolerance)


def _tidy(text: str) -> str:
    spaced = " ".join(text.casefold().split())
    return spaced.rstrip(".,;: ") or spaced
