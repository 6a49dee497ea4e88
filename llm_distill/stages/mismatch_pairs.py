"""Preference pairs of an expert's turn and a student's own, where declared fields differ.

in:  the expert's {"id": "d1", "prompt": "…", "completion": "{\"action\": \"hint\", …}"} and the
     student's {"id": "d1-0", "parent_id": "d1", "completion": "{\"action\": \"solve\", …}"}
out: {"id": "mismatch-d1-0", "parent_id": "d1", "prompt": "…",
      "chosen": "{\"action\": \"hint\", …}", "rejected": "{\"action\": \"solve\", …}",
      "kind": "action", "mismatch_fields": ["action"]}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llm_distill.errors import DataError
from llm_distill.evaluation.results import Figure, FigureTable, shown
from llm_distill.methods.mismatch import MISSING, OF_FORM, UNREADABLE, fields_of, mismatches
from llm_distill.methods.statistics import wilson_interval
from llm_distill.rows.columns import Row, features
from llm_distill.rows.messages import is_conversation, last_answer
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage

COLUMNS = ("id", "parent_id", "prompt", "chosen", "rejected", "kind", "mismatch_fields")
AGREES = "no mismatch"


class MismatchPairs(Stage):
    """Pairs an expert's turn (`chosen`) with a student's own (`rejected`), where they differ.

    Both are JSON with the declared fields, such as an evaluation of what the pupil said and the
    tutor's action (arXiv 2402.05000). `kind` is the first of what differs, in the order
    `unreadable`, `missing`, and `fields` as they are listed. A part of what is learned from
    `unreadable` and `missing` is to write JSON: leave these out to see what is learned of the
    decisions. Fields are compared without case and spacing.

    A conversation as the prompt ends before the expert's turn, and gives conversations.
    """

    reads_conversations: ClassVar[bool] = True
    stage: Literal["mismatch_pairs"]
    rows: Rows = Field(description="the stage whose rows have the expert's turns")
    own: Rows = Field(description="the student's turns, of a `generate` over these rows")
    fields: tuple[str, ...] = Field(
        min_length=1, description="keys of the JSON that are compared, the one that counts first"
    )
    leave_out: tuple[str, ...] = Field(
        (), description="kinds that make no pair: unreadable, missing, or one of the fields"
    )
    text_column: str = Field(
        "completion",
        min_length=1,
        description="the expert's turn; of a conversation, what the assistant says last",
    )
    own_text_column: str = Field("completion", min_length=1, description="the student's turn")
    prompt_column: str = Field(
        "prompt", min_length=1, description="what both answer, as text or as a conversation"
    )
    parent_column: str = Field(
        "parent_id", min_length=1, description="of the student's rows: the id of the expert's"
    )

    @model_validator(mode="after")
    def _kinds_are_known(self) -> Self:
        taken = [name for name in self.fields if name in OF_FORM]
        if taken:
            raise ValueError(f"fields: '{taken[0]}' is the name of a kind of pair")
        if len(set(self.fields)) < len(self.fields):
            raise ValueError("fields: each can be named once")
        known = (*OF_FORM, *self.fields)
        unknown = [name for name in self.leave_out if name not in known]
        if unknown:
            raise ValueError(f"leave_out: '{unknown[0]}' is none of {', '.join(known)}")
        if set(known) == set(self.leave_out):
            raise ValueError("leave_out: nothing is left to make pairs of")
        return self

    def required_columns(self) -> dict[str, set[str]]:
        needed = {self.rows: {"id", self.prompt_column, self.text_column}}
        own = {"id", self.parent_column, self.own_text_column}
        needed.setdefault(self.own, set()).update(own)
        return needed

    def read_as_text(self) -> dict[str, set[str]]:
        needed = {self.rows: {self.prompt_column, self.text_column}}
        needed.setdefault(self.own, set()).add(self.own_text_column)
        return needed

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset(COLUMNS)

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        return rows[self.own]

    def run(self, context: Context) -> RowsOutput:
        prompts = context.rows(self.rows).features[self.prompt_column]
        types = features(COLUMNS)
        types["prompt"] = prompts
        if isinstance(getattr(prompts, "feature", None), dict):
            types["chosen"] = types["rejected"] = features(["messages"])["messages"]
        return RowsOutput(self._rows(context), types)

    def _rows(self, context: Context) -> Iterator[Row]:
        experts = {row["id"]: row for row in context.each_row(self.rows)}
        kinds: Counter[str] = Counter()
        differ: Counter[str] = Counter()
        pairs: Counter[str] = Counter()
        left_out: Counter[str] = Counter()
        for row in context.each_row(self.own):
            expert = experts.get(row[self.parent_column])
            if expert is None:
                raise DataError(
                    f"row {row['id']} of '{self.own}': its {self.parent_column} "
                    f"'{row[self.parent_column]}' is no id of '{self.rows}'; name the stage that "
                    "the student was asked about"
                )
            found = self._compared(expert, row)
            if isinstance(found, str):
                left_out[found] += 1
                context.drop(found)
                continue
            kind = found[0] if found else AGREES
            kinds[kind] += 1
            differ.update(found)
            if kind == AGREES:
                context.drop(AGREES)
            elif kind in self.leave_out:
                context.drop(f"left out: {kind}")
            else:
                pairs[kind] += 1
                yield self._pair(expert, row, found)
        if not pairs:
            raise DataError(
                f"no turn of '{self.own}' makes a pair. Compared with the expert's: "
                f"{_counted(kinds)}; not compared: {_counted(left_out)}. "
                f"The fields are {', '.join(self.fields)}"
            )
        self._tell(context, kinds, differ, pairs)

    def _compared(self, expert: Row, own: Row) -> list[str] | str:
        """What differs; or why nothing can be compared."""
        if _is_blank(expert[self.prompt_column]):
            return f"no {self.prompt_column}"
        wanted = fields_of(_text(expert[self.text_column]), self.fields)
        if wanted is None or None in wanted.values():
            what = "cannot be read" if wanted is None else "lacks a field"
            return f"the expert's turn {what}"
        text = _text(own[self.own_text_column])
        if own.get("error") or not text.strip():
            return "the student has no turn"
        return mismatches(wanted, fields_of(text, self.fields), self.fields)

    def _pair(self, expert: Row, own: Row, found: Sequence[str]) -> Row:
        prompt = expert[self.prompt_column]
        sides: list[Any] = [_text(expert[self.text_column]), _text(own[self.own_text_column])]
        if is_conversation(prompt):
            if prompt[-1].get("role") == "assistant":
                prompt = prompt[:-1]
            sides = [[{"role": "assistant", "content": text}] for text in sides]
        return {
            "id": f"mismatch-{own['id']}",
            "parent_id": expert["id"],
            "prompt": prompt,
            "chosen": sides[0],
            "rejected": sides[1],
            "kind": found[0],
            "mismatch_fields": list(found),
        }

    def _tell(
        self, context: Context, kinds: Counter[str], differ: Counter[str], pairs: Counter[str]
    ) -> None:
        n = kinds.total()
        figures = []
        for name in (UNREADABLE, MISSING, *self.fields, AGREES):
            for called, counts in (("first mismatch", kinds), ("any mismatch", differ)):
                if name == AGREES and counts is differ:
                    continue
                share = wilson_interval(counts[name], n)
                labels = {"field": name, "of turns": called}
                figures.append(Figure(labels, share.value, share.low, share.high, n, kind="share"))
        table = FigureTable("how a student's turns differ", tuple(figures), across="of turns")
        context.metrics.update(
            compared=n, pairs=dict(pairs), mismatches=dict(differ), **shown(table)
        )


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items()) or "none"


def _is_blank(prompt: Any) -> bool:
    """Also of a conversation in which nobody speaks before the expert."""
    if not is_conversation(prompt):
        return not str(prompt or "").strip()
    return len(prompt) == 1 and bool(prompt[0].get("role") == "assistant")


def _text(value: Any) -> str:
    """A turn; of a conversation the last of the assistant."""
    return (last_answer(value) if is_conversation(value) else value) or ""
