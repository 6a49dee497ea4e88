"""What annotators say by a codebook: what is counted and warned of, and tables of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from llm_distill.errors import DataError
from llm_distill.evaluation.agreement_figures import agreement_table
from llm_distill.evaluation.label_figures import label_shares
from llm_distill.evaluation.results import FigureTable
from llm_distill.judging.judge import Reply
from llm_distill.methods.codebook import Codebook, Form, Said, yes_or_no

FEWEST_ALIKE = 8
"""Rows with one and the same label before that is said."""


@dataclass(frozen=True)
class AnnotationFigures:
    """The figures of rows that were annotated.

    Attributes:
        fields: The codebook's.
        said: Of each annotator its reply about each row.
        voters: The annotators whose labels make the majority.
        decided: Of each field the majority in each row; None for a tie, or where nobody says one.
    """

    fields: Codebook
    said: Mapping[str, Sequence[Reply[Form]]]
    voters: Sequence[str]
    decided: Mapping[str, Sequence[Said | None]]

    def check(self) -> None:
        """Whether each annotator has a label of each field, in a row at least.

        Raises:
            DataError: one has answered, and has none.
        """
        for (name, column), counts in self._unread.items():
            if counts.total() == self._n_answers(name) > 0:
                raise DataError(
                    f"no answer of '{name}' has a label of '{column}' ({_most(counts)}); "
                    f"check the template, or the codebook"
                )

    def unreadable(self) -> dict[str, int]:
        """Of each field how many answers have no label of it."""
        found: Counter[str] = Counter()
        for (_, column), counts in self._unread.items():
            found[column] += counts.total()
        return dict(found)

    def ties(self) -> dict[str, int]:
        """Of each field with ties how many there are."""
        found: Counter[str] = Counter()
        for column, labels in self.decided.items():
            for place, label in enumerate(labels):
                given = (said_of(self.said[name][place], column) for name in self.voters)
                found[column] += label is None and any(each is not None for each in given)
        return {column: count for column, count in found.items() if count}

    def notes(self) -> Iterator[str]:
        """What to know of the labels before they are believed."""
        for (name, column), counts in self._unread.items():
            if counts:
                yield (
                    f"{counts.total()} of {self._n_answers(name)} answers of '{name}' have no "
                    f"label of '{column}': {_most(counts)}"
                )
        yield from self._constant()
        if ties := self.ties():
            listed = ", ".join(f"{name} {count}" for name, count in ties.items())
            yield f"annotators disagree evenly, and the field is null: {listed}"

    def tables(self) -> Iterator[FigureTable]:
        """How often each label is given, and how far annotators agree."""
        for each in self.fields:
            known = [said for said in self.decided[each.name] if said is not None]
            counts = Counter(
                name for said in known for name in (said if isinstance(said, list) else [said])
            )
            if known:
                table = label_shares(counts, each.names, len(known))
                yield replace(table, title=f"{each.name}, share of rows by label")
        yield from self._agreements()

    @cached_property
    def _unread(self) -> dict[tuple[str, str], Counter[str]]:
        """By annotator and field, what stands in place of a label."""
        return {
            (name, each.name): _unread(replies, each.name)
            for name, replies in self.said.items()
            for each in self.fields
        }

    def _n_answers(self, name: str) -> int:
        return sum(reply.text is not None for reply in self.said[name])

    def _constant(self) -> Iterator[str]:
        """A small model may take what stands first in the list, whatever the row says."""
        for name, replies in self.said.items():
            for each in self.fields:
                given = [str(label) for reply in replies if (label := said_of(reply, each.name))]
                if len(given) >= FEWEST_ALIKE and len({*given}) == 1:
                    yield (
                        f"'{name}' says {given[0]} of '{each.name}' in all {len(given)} rows: look "
                        "whether it reads them"
                    )

    def _agreements(self) -> Iterator[FigureTable]:
        for each in self.fields if len(self.said) > 1 else ():
            compared: dict[str, dict[str, list[str | None]]] = defaultdict(dict)
            for name, replies in self.said.items():
                given = [said_of(reply, each.name) for reply in replies]
                for title, labels in yes_or_no(given, each).items():
                    compared[title][name] = labels
            for title, labels_of in compared.items():
                table = agreement_table(f"agreement on {title}", labels_of)
                if table.figures:
                    yield table


def said_of(reply: Reply[Form], column: str) -> Said | None:
    """What a reply says of a field; None where that cannot be read, or there is none."""
    return None if reply.verdict is None else reply.verdict.labels.get(column)


def _unread(replies: Sequence[Reply[Form]], column: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for reply in replies:
        if reply.text is None:
            continue
        if reply.verdict is None:
            found["no JSON with it"] += 1
        elif column in reply.verdict.unread:
            found[reply.verdict.unread[column]] += 1
    return found


def _most(counts: Counter[str]) -> str:
    return ", ".join(f"{value!r} {count}" for value, count in counts.most_common(5))
