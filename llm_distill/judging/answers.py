"""The verdicts on answers: a grade of each, or for each pair which one is better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_distill.engines.base import Completion
from llm_distill.judging.judge import Judge, Reply, Shown
from llm_distill.judging.scale import Scale
from llm_distill.methods.agreement import Label
from llm_distill.methods.grades import Winner, of_two, read_winner, swap


@dataclass(frozen=True)
class Answer:
    """An answer to an item.

    Attributes:
        id: Of the answer.
        item: What the template reads of the item: its columns, `question`, `references`.
        text: What is judged; blank where there is no answer.
        completion: All that the model wrote but its thoughts.
    """

    id: str
    item: Mapping[str, Any]
    text: str
    completion: str = ""

    @property
    def is_blank(self) -> bool:
        return not self.text.strip()


@dataclass(frozen=True)
class Graded:
    """grade: None where none can be read. reply: None where the judge was not asked, or failed.

    error: why it failed.
    """

    grade: float | None
    reply: str | None
    error: str | None = None


@dataclass(frozen=True)
class Compared:
    """A pair's verdict, `a` for the first answer of the pair; None where one cannot be read.

    Attributes:
        said: The readable replies; each with `a` for the answer that stood first.
        replies: The texts; none where the judge was not asked.
        swapped: What it said of the pair the other way round, `a` for the first of the pair; None
            where it was not asked, or that cannot be read.
        error: Why a request failed.
    """

    winner: Winner | None
    said: tuple[Winner, ...] = ()
    replies: tuple[str, ...] = ()
    swapped: Winner | None = None
    error: str | None = None

    @property
    def is_inconsistent(self) -> bool:
        """Whether the judge contradicts itself once the answers have changed places."""
        return len(self.said) == 2 and self.said[0] != swap(self.said[1])


def label_of(found: Graded | Compared) -> Label | None:
    """A verdict as people could have said it; None where it cannot be read."""
    return found.winner if isinstance(found, Compared) else found.grade


def grades(judge: Judge, scale: Scale, answers: Sequence[Answer]) -> Iterator[Graded]:
    """Each answer's grade, in order. A blank one gets the lowest, and the judge is not asked."""
    asked = [answer for answer in answers if not answer.is_blank]
    shown = [
        Shown(
            answer.id,
            answer.item,
            {
                **scale.variables(),
                "answer": answer.text,
                "completion": answer.completion or answer.text,
            },
        )
        for answer in asked
    ]
    replies = judge.replies(shown, scale.read)
    for answer in answers:
        if answer.is_blank:
            yield Graded(float(scale.lowest), None)
        else:
            reply = next(replies)
            yield Graded(reply.verdict, reply.text, reply.error)
    _end(replies)


def comparisons(judge: Judge, pairs: Sequence[tuple[Answer, Answer]]) -> Iterator[Compared]:
    """Each pair's verdict, in order. Each is shown twice, with the places swapped.

    A blank answer loses, and two equal ones tie, without asking.
    """
    shown = []
    for a, b in pairs:
        if _known(a, b) is None:
            for name, first, second in (("ab", a, b), ("ba", b, a)):
                texts = {"answer_a": first.text, "answer_b": second.text}
                shown.append(Shown(f"{a.id}-{name}", a.item, texts))
    replies: Iterator[Reply[Winner]] = judge.replies(shown, _read)
    for a, b in pairs:
        known = _known(a, b)
        yield _compared(next(replies), next(replies)) if known is None else Compared(known)
    _end(replies)


def _known(a: Answer, b: Answer) -> Winner | None:
    """What needs no judge."""
    if a.text.split() == b.text.split():
        return "tie"
    if a.is_blank or b.is_blank:
        return "b" if a.is_blank else "a"
    return None


def _compared(first: Reply[Winner], swapped: Reply[Winner]) -> Compared:
    both = first.verdict, swapped.verdict
    said = tuple(verdict for verdict in both if verdict is not None)
    texts = tuple(reply.text for reply in (first, swapped) if reply.text is not None)
    winner = of_two(*said) if len(said) == 2 else None
    turned = None if swapped.verdict is None else swap(swapped.verdict)
    return Compared(winner, said, texts, turned, first.error or swapped.error)


def _read(completion: Completion) -> Winner | None:
    return read_winner(completion.text, completion.finish_reason == "stop")


def _end(replies: Iterator[Any]) -> None:
    """Let the bar end, and what is checked after the last reply be checked."""
    for _ in replies:
        pass
