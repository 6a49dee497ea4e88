"""Compare tutors by their dialogues: is the pupil right in the end, and who said the answer.

in:  {"id": "q1", "reference_answer": "22", "messages": […], "speakers": ["tutor", "student", …],
      "finish_reasons": [null, null, "stop", …], "acts": […], "n_turns": 4, …} of simulate_dialogue
out: {"id": "q1-tuned", "parent_id": "q1", "tutor": "tuned", "success_turn": 2,
      "telling_turn": null, "n_turns": 4, "stop_reason": "answered"}

with columns before and after also: {"before_is_correct": False, "after_is_correct": True}
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from llm_distill.errors import DataError, nearest
from llm_distill.evaluation.results import shown
from llm_distill.evaluation.tutoring_figures import Held, tutoring_tables
from llm_distill.methods.tutoring import Reading, outcome, says_answer
from llm_distill.rows.columns import Row, features
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage, Values

NEEDED = ("messages", "speakers", "acts", "finish_reasons", "n_turns", "stop_reason")
ADDED = (
    *("id", "parent_id", "tutor", "success_turn", "telling_turn", "n_turns", "stop_reason"),
    *("before_is_correct", "after_is_correct"),
)
MOST_K = 30
"""Turns of the pupil that tables go up to, unless `max_k` says more."""


class TutoringReport(Stage):
    """Figures of tutors from the dialogues that `simulate_dialogue` held with each.

    After k turns of the pupil: `success`, it has given the right answer; `telling`, the tutor has
    said it no later; `success without telling`. Turns that were given do not count. With intervals
    over items, and paired differences from the first tutor over the items of both. A pupil may give
    in to anybody: compare with a tutor that only says "think again", and one that always tells.

    With the columns `before` and `after` also what the pupil answers alone, and its gain. Dialogues
    that an error ended are dropped.
    """

    stage: Literal["tutoring_report"]
    dialogues: dict[str, Rows] = Field(
        min_length=1, description="by the tutor's name the stage with its dialogues"
    )
    tutor: str = Field("tutor", description="what the tutor is called in the dialogues")
    student: str = Field("student", description="what the pupil is called there")
    reference_column: str = Field("reference_answer", description="the right answer")
    answer_kind: Literal["exact", "choice", "math"] = Field(
        "exact", description="how answers are compared with it"
    )
    telling_in: Reading = Field(
        "final",
        description="where a tutor's turn tells the answer: in its final answer, or anywhere among "
        "its numbers and words",
    )
    item_column: str = Field(
        "id", description="what a dialogue is about; several about one item are not independent"
    )
    max_k: int | None = Field(
        None,
        ge=1,
        le=100,
        description="the most turns of the pupil; null: of the longest dialogue, at most 30",
    )

    @model_validator(mode="after")
    def _are_two(self) -> Self:
        if self.tutor == self.student:
            raise ValueError(f"tutor and student are both '{self.tutor}'; name two speakers")
        return self

    def required_columns(self) -> dict[str, set[str]]:
        needed = {"id", *NEEDED, self.reference_column, self.item_column}
        return dict.fromkeys(self.dialogues.values(), needed)

    def remedy(self, column: str) -> str | None:
        return "simulate_dialogue gives it" if column in NEEDED else None

    def misfits(self, inputs: Mapping[str, Values]) -> Iterator[tuple[str, str]]:
        for setting in ("tutor", "student"):
            for stage in self.dialogues.values():
                there = inputs[stage].get("speakers")
                if there is not None and (message := self._nobody(setting, stage, there)):
                    yield setting, message
                    break  # it is one name for all of them

    def _nobody(self, setting: str, stage: str, there: Collection[str]) -> str | None:
        """What is wrong if nobody of this name speaks in a stage's dialogues."""
        name = getattr(self, setting)
        if name in there:
            return None
        return f"nobody in '{stage}' is called '{name}' ({setting}); {nearest(name, there)}"

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset(ADDED)

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        counts = [rows[name] for name in self.dialogues.values()]
        return None if None in counts else sum(filter(None, counts))

    def run(self, context: Context) -> RowsOutput:
        return RowsOutput(self._rows(context), features(ADDED))

    def _rows(self, context: Context) -> Iterator[Row]:
        rows: list[Row] = []
        held: dict[str, list[Held]] = {}
        longest = 1
        for name, stage in self.dialogues.items():
            held[name] = []
            for row in self._usable(context, name, stage):
                talk = self._held(row)
                held[name].append(talk)
                rows.append(_written(row, name, talk))
                longest = max(longest, sum(s == self.student for s, _ in _new_turns(row)))
        self._compare_items(context, held)
        ks = range(1, (self.max_k or min(longest, MOST_K)) + 1)
        context.metrics.update(shown(*tutoring_tables(held, ks)))
        yield from rows

    def _usable(self, context: Context, name: str, stage: str) -> Iterator[Row]:
        """The dialogues that were held.

        Raises:
            DataError: there are none, or others speak in them.
        """
        there: set[str] = set()
        n_usable = 0
        for row in context.each_row(stage):
            there.update(row["speakers"])
            if row["stop_reason"] == "error":
                context.drop("the dialogue failed")
            elif not str(row[self.reference_column] or "").strip():
                context.drop(f"no {self.reference_column}")
            elif row[self.item_column] is None:  # all of them would be one item
                context.drop(f"no {self.item_column}")
            else:
                n_usable += 1
                yield row
        if not n_usable:
            needed = " or ".join(dict.fromkeys((self.reference_column, self.item_column)))
            raise DataError(
                f"dialogues.{name}: every dialogue of '{stage}' failed or has no {needed}, so "
                "there is nothing to measure"
            )
        for setting in ("tutor", "student"):
            if message := self._nobody(setting, stage, there):
                raise DataError(f"dialogues.{name}: {message}")

    def _compare_items(self, context: Context, held: Mapping[str, Sequence[Held]]) -> None:
        """Warn where tutors are not compared on all that they did."""
        (first, of_first), *others = held.items()
        items = {talk.item for talk in of_first}
        for name, talks in others:
            theirs = {talk.item for talk in talks}
            if theirs != items:
                context.warn(
                    f"{name} is compared with {first} on the {len(items & theirs)} items of both: "
                    f"it has {len(theirs)}, and {first} {len(items)}"
                )

    def _held(self, row: Row) -> Held:
        reference = str(row[self.reference_column])
        said = [
            (speaker, self._says(speaker, text, reason == "stop", reference))
            for speaker, (text, reason) in _new_turns(row)
        ]
        new = zip(row["speakers"], row["acts"], row["finish_reasons"], strict=True)
        return Held(
            item=str(row[self.item_column]),
            outcome=outcome(said, self.tutor, self.student),
            acts=tuple(act for who, act, reason in new if who == self.tutor and reason and act),
            before=self._is_right(row.get("before"), reference),
            after=self._is_right(row.get("after"), reference),
        )

    def _says(self, speaker: str, text: str, ended: bool, reference: str) -> bool:
        reading = self.telling_in if speaker == self.tutor else "final"
        return says_answer(text, reference, self.answer_kind, reading, ended)

    def _is_right(self, reply: Any, reference: str) -> bool | None:
        """reply: of a dialogue that was not held here also a number."""
        return None if reply is None else says_answer(str(reply), reference, self.answer_kind)


def _new_turns(row: Row) -> list[tuple[str, tuple[str, str]]]:
    """(speaker, (text, finish reason)) of the turns that were not given."""
    turns = zip(row["speakers"], row["messages"], row["finish_reasons"], strict=True)
    return [(who, (said["content"], reason)) for who, said, reason in turns if reason is not None]


def _written(row: Row, name: str, talk: Held) -> Row:
    return {
        "id": f"{row['id']}-{name}",
        "parent_id": row["id"],
        "tutor": name,
        "success_turn": talk.outcome.success,
        "telling_turn": talk.outcome.telling,
        "n_turns": row["n_turns"],
        "stop_reason": row["stop_reason"],
        "before_is_correct": talk.before,
        "after_is_correct": talk.after,
    }
