"""Which columns of somebody's data are the question, its choices and its answer. Pure.

A guess, by names and then by shape; whoever made it says so, and how to change it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_distill.errors import ConfigError, DataError, nearest
from llm_distill.rows.columns import Row
from llm_distill.rows.messages import is_conversation
from llm_distill.rows.shapes import recognise, to_shape

QUESTIONS = (
    "question", "problem", "query", "prompt", "instruction", "input", "sentence", "utterance",
    "text", "message", "title",
)  # fmt: skip
ANSWERS = (
    "referenceanswer", "finalanswer", "answer", "correctanswer", "expectedanswer", "answerkey",
    "answers", "target", "label", "gold", "groundtruth", "expected", "output", "completion",
    "response", "reply", "solution", "result", "category", "class", "sentiment", "intent", "y",
)  # fmt: skip
CONTEXTS = ("context", "passage", "paragraph", "article", "document", "story", "input")
CHOICES = ("choices", "options", "candidates", "endings")
_A_CHOICE = re.compile(r"(?:option|choice|answer|opt|op|ending)?_?([a-h]|\d)", re.IGNORECASE)
CHAT = ("messages", "conversations")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Columns:
    """Where things stand in the data.

    question: columns whose texts are put under each other. answer: None where there are no answers.
    choices: one column with a list, or a column for each choice. chat: a column of conversations,
        in which the question and the answer are turns.
    """

    question: tuple[str, ...] = ()
    answer: str | None = None
    choices: tuple[str, ...] = ()
    chat: str | None = None

    def described(self) -> tuple[str, str]:
        """The question's columns, and the answer's, in words."""
        if self.chat is not None:
            return f"the user's turn of '{self.chat}'", f"the assistant's turn of '{self.chat}'"
        more = f", with the choices of {_named(self.choices)}" if self.choices else ""
        answer = f"column '{self.answer}'" if self.answer is not None else "none in the data"
        return f"column {_named(self.question)}{more}", answer


def guess(rows: Sequence[Row], question: str | None, answer: str | None) -> Columns:
    """The columns of data, given some of its rows and what the user said of it.

    question: a column, or several with commas between them. answer: a column; empty: there is none.

    Raises:
        ConfigError: a column that the user names is not there, or none can be taken for a question.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    given = tuple(each.strip() for each in question.split(",")) if question else ()
    if question in names:  # its own name has a comma
        given = (str(question),)
    for option, each in (*(("--question", name) for name in given), ("--answer", answer)):
        if each and each not in names:
            hint = nearest(each, names).replace("allowed:", "there are:")
            raise ConfigError(f"{option}: no column '{each}'; {hint}")
    chat = next((name for name in CHAT if _holds_chats(rows, name)), None)
    if chat is not None and not given:
        return Columns(chat=chat)
    choices = () if question and answer else _choices(rows, names)
    free = [name for name in names if name not in (*choices, *given, answer)]
    asked = given or _question(rows, free)
    if not asked:
        listed = ", ".join(names) or "no columns"
        raise ConfigError(f"which column has the questions? Say --question COLUMN; it has {listed}")
    left = [name for name in free if name not in asked]
    found = answer if answer is not None else _answer(rows, left)
    return Columns(asked, found or None, choices)


def text_of(value: Any) -> str:
    """A cell as text, without white space around it; empty where there is none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):  # as SQuAD has it: {"text": ["Paris"], "answer_start": [0]}
        return text_of(value.get("text"))
    if isinstance(value, list | tuple):
        return text_of(value[0]) if value else ""
    return str(getattr(value, "written", value)).strip()


def asked_and_answered(row: Row, columns: Columns, place: str) -> tuple[str, str]:
    """The question with its choices, and the answer; either may be empty.

    Raises:
        DataError: a conversation has several turns.
    """
    if columns.chat is not None:
        return _of_chat(row, place)
    question = "\n\n".join(filter(None, (text_of(row.get(name)) for name in columns.question)))
    answer = text_of(row.get(columns.answer)) if columns.answer is not None else ""
    choices = choices_of(row, columns.choices)
    if choices and question:
        marks = [mark for mark, _ in choices]
        question += "\n\n" + "\n".join(f"{mark}) {text}" for mark, text in choices)
        by_text = {text.casefold(): mark for mark, text in choices}
        if answer.upper() not in marks:
            answer = by_text.get(answer.casefold(), answer)
    return question, answer


def choices_of(row: Row, columns: Sequence[str]) -> list[tuple[str, str]]:
    """(letter, text) of each choice of a row."""
    if len(columns) > 1:
        texts = [text_of(row.get(name)) for name in columns]
        return [(LETTERS[i], text) for i, text in enumerate(texts) if text]
    cell = row.get(columns[0]) if columns else None
    if isinstance(cell, Mapping):  # as ARC has it: {"text": [...], "label": ["A", ...]}
        marks, texts = map(list, (cell.get("label") or (), cell.get("text") or ()))
        if len(marks) == len(texts):
            return [(str(mark).upper(), text_of(t)) for mark, t in zip(marks, texts, strict=True)]
    if not isinstance(cell, list | tuple):
        return []
    return [(LETTERS[i], text_of(text)) for i, text in enumerate(cell[: len(LETTERS)])]


def numbered_from(answers: Iterable[str], most: int) -> int | None:
    """Whether choices that are answered by number are counted from 0 or from 1; None: they are not.

    most: the most choices that a question has.
    """
    given = {answer for answer in answers if answer}
    if not given or not all(answer.isdecimal() and len(answer) < 3 for answer in given):
        return None
    numbers = {int(answer) for answer in given}
    first = 1 if 0 not in numbers and max(numbers) <= most else 0
    return first if max(numbers) - first < most else None


def _named(columns: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in columns)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


def _holds_chats(rows: Sequence[Row], name: str) -> bool:
    cells = [row[name] for row in rows if row.get(name)]
    return bool(cells) and all(
        is_conversation(cell) or (isinstance(cell, list) and isinstance(cell[0], dict))
        for cell in cells
    )


def _choices(rows: Sequence[Row], names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        cells = [row[name] for row in rows if row.get(name)]
        if _plain(name) in CHOICES and all(isinstance(c, list | tuple | dict) for c in cells):
            return (name,)
    marked = {m[1].lower(): n for n in names if (m := _A_CHOICE.fullmatch(n.replace(" ", "_")))}
    for marks in ("abcdefgh", "12345678", "01234567"):
        columns = [marked[mark] for mark in marks if mark in marked]
        if len(columns) > 1 and all(mark in marked for mark in marks[: len(columns)]):
            return tuple(columns)
    return ()


def _question(rows: Sequence[Row], names: Sequence[str]) -> tuple[str, ...]:
    plain = {_plain(name): name for name in reversed(names)}
    found = next((plain[name] for name in QUESTIONS if name in plain), None)
    if found is None:
        found = next((n for q in QUESTIONS[:5] for n in names if q in _plain(n)), None)
    if found is None:
        texts = [name for name in names if _is_text(rows, name)]
        found = texts[0] if 1 <= len(texts) <= 2 else None
    if found is None:
        return ()
    before = [plain[n] for n in CONTEXTS if n in plain and plain[n] != found]
    if before and _plain(found) == "instruction" and _plain(before[0]) == "input":
        return (found, before[0])  # as Alpaca has it
    is_told = before and _plain(found) == "question" and _plain(before[0]) != "input"
    return (before[0], found) if is_told else (found,)


def _answer(rows: Sequence[Row], names: Sequence[str]) -> str | None:
    plain = {_plain(name): name for name in reversed(names)}
    found = next((plain[name] for name in ANSWERS if name in plain), None)
    if found is None:
        found = next((n for a in ANSWERS[:8] for n in names if a in _plain(n)), None)
    left = [name for name in names if not _is_id(rows, name)]
    return found if found is not None or len(left) != 1 else left[0]


def _is_id(rows: Sequence[Row], name: str) -> bool:
    plain = _plain(name)
    return plain in ("index", "idx", "unnamed0", "task", "split", "source") or plain.endswith("id")


def _is_text(rows: Sequence[Row], name: str) -> bool:
    """Whether most cells have several words, or it is not for telling rows apart."""
    cells = [row[name] for row in rows if row.get(name) is not None]
    texts = [cell for cell in cells if isinstance(cell, str)]
    return bool(texts) and len(texts) == len(cells) and not _is_id(rows, name)


def _of_chat(row: Row, place: str) -> tuple[str, str]:
    given = to_shape(row, recognise(row), place)
    turns = [turn for turn in given.get("messages") or () if turn["role"] != "system"]
    roles = [turn["role"] for turn in turns]
    if roles not in (["user"], ["user", "assistant"]):
        raise DataError(
            f"{place}: a conversation of {len(turns)} turns; what is written here is for a "
            "question and its answer, so see docs/conversations.md for such data"
        )
    said = [str(turn.get("content") or "").strip() for turn in turns]
    return said[0], said[1] if len(said) > 1 else ""
