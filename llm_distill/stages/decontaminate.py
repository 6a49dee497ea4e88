"""Drop rows that overlap rows which must stay unseen.

in:  {"id": "a", "question": "Tom has 3 apples ..."}; against: {"question": "Tom has 3 apples ..."}
out: nothing: the row is counted as "overlaps test"
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from llm_distill.methods.contamination import SeenTexts
from llm_distill.rows.columns import Row, task_of
from llm_distill.stage import Context, Rows, RowsOutput, Stage


class Decontaminate(Stage):
    """Drops rows that share a word n-gram with any row of the named stages.

    Case, white space and sentence punctuation do not count. An n-gram that several texts of one
    named stage share is a task's wording, and does not count either. A text with fewer than `ngram`
    words is compared as a whole. Rows without a text are dropped too. A row is counted for the
    first stage that it overlaps. A task that loses all its rows causes a warning.
    """

    rows_may_be_empty = True
    version: ClassVar[int] = 2

    stage: Literal["decontaminate"]
    rows: Rows = Field(description="the stage whose rows are read")
    against: tuple[Rows, ...] = Field(min_length=1, description="stages with rows to stay clear of")
    column: str = Field("question", description="the text that is checked")
    against_column: str = Field("question", description="the text that it is checked against")
    ngram: int = Field(13, ge=1, description="words in an n-gram; GPT-3's data used 13")

    @model_validator(mode="after")
    def _check_not_itself(self) -> Self:
        if self.rows in self.against:
            raise ValueError(
                f"against: '{self.rows}' are the rows themselves; all would be dropped"
            )
        return self

    def required_columns(self) -> dict[str, set[str]]:
        others = {name: {self.against_column} for name in self.against}
        return {**others, self.rows: {"id", self.column}}

    def read_as_text(self) -> dict[str, set[str]]:
        return {**{name: {self.against_column} for name in self.against}, self.rows: {self.column}}

    def run(self, context: Context) -> RowsOutput:
        return RowsOutput(self._clean(context), context.rows(self.rows).features)

    def _clean(self, context: Context) -> Iterator[Row]:
        seen = {
            name: SeenTexts(
                {str(i): t for i, t in enumerate(context.rows(name)[self.against_column]) if t},
                self.ngram,
            )
            for name in self.against
        }
        lost: set[str] = set()
        kept: set[str] = set()
        for row in self.each_row(context):
            text = row[self.column]
            hit = next((name for name, texts in seen.items() if texts.found_in(text or "")), "")
            if text and not hit:
                kept.add(task_of(row))
                yield row
            else:
                lost.add(task_of(row))
                context.drop(f"overlaps {hit}" if text else f"no {self.column}")
        for task in sorted(lost - kept):
            context.warn(f"no row of task '{task}' is left; raise ngram (now {self.ngram})")
