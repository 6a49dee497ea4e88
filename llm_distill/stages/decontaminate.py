"""Drop rows that overlap rows which must stay unseen.

in:  {"id": "a", "question": "Tom has 3 apples ..."}; against: {"question": "Tom has 3 apples ..."}
out: nothing: the row is counted as "overlaps test"
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from llm_distill.evaluation.results import Figure, FigureTable, shown
from llm_distill.methods.contamination import (
    COMPARE,
    Compare,
    Comparison,
    SeenTexts,
    check_named,
)
from llm_distill.rows.columns import Row, task_of
from llm_distill.stage import Context, Rows, RowsOutput, Stage, later_setting

log = logging.getLogger("llm_distill")
FOUND: dict[Comparison, str] = {
    "ngram": "overlaps",
    "near": "near-copy in",
    "whole": "copy in",
}
ALIKE = "compared, and texts of the task that share an n-gram with another"
Lost = Counter[tuple[str, str, Comparison]]
"""Rows by their task, the stage that they are found in, and the comparison."""


class Decontaminate(Stage):
    """Drops rows whose text is found among the rows of the named stages.

    A text that equals one of them is found whatever its case, white space and sentence punctuation.
    What else is compared is chosen for each task of `against` (the column `task`; without it the
    stage is one task), see `compare`. A text with fewer than `ngram` words is compared as a whole.
    Rows without a text are dropped too. A row is counted for the first stage that it is found in.
    The log and the manifest say what each task lost, by which comparison, and why.
    """

    rows_may_be_empty = True
    version: ClassVar[int] = 3

    stage: Literal["decontaminate"]
    rows: Rows = Field(description="the stage whose rows are read")
    against: tuple[Rows, ...] = Field(min_length=1, description="stages with rows to stay clear of")
    column: str = Field("question", description="the text that is checked")
    against_column: str = Field("question", description="the text that it is checked against")
    ngram: int = Field(13, ge=1, description="words in an n-gram; GPT-3's data used 13")
    compare: Compare | dict[str, Compare] = later_setting("auto", COMPARE)

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
        seen = {name: self._seen(context, name) for name in self.against}
        check_named(self.compare, {task for texts in seen.values() for task in texts.compared})
        read: Counter[str] = Counter()
        lost: Lost = Counter()
        for row in self.each_row(context):
            text, task = row[self.column], task_of(row) or self.rows
            read[task] += 1
            if not text:
                context.drop(f"no {self.column}")
                continue
            for name, texts in seen.items():
                if found := texts.found_in(text):
                    comparison = next(iter(found.values()))
                    lost[task, name, comparison] += 1
                    context.drop(f"{FOUND[comparison]} {name}")
                    break
            else:
                yield row
        self._report(context, seen, read, lost)

    def _seen(self, context: Context, name: str) -> SeenTexts:
        rows = [row for row in context.each_row(name) if row[self.against_column]]
        texts = {str(index): row[self.against_column] for index, row in enumerate(rows)}
        tasks = {str(index): task_of(row) or name for index, row in enumerate(rows)}
        return SeenTexts(texts, self.ngram, tasks, self.compare)

    def _report(
        self, context: Context, seen: Mapping[str, SeenTexts], read: Counter[str], lost: Lost
    ) -> None:
        how, shares = [], []
        for name, texts in seen.items():
            for task, each in texts.compared.items():
                labels = {"against": name, "task": task, "by": each.how(self.ngram)}
                how.append(Figure(labels, each.alike, kind="share"))
                log.info("%s, %s: by %s (%s)", *labels.values(), each.why(self.ngram))
        for (task, name, comparison), count in sorted(lost.items()):
            labels = {"task": task, "found in": name, "by": comparison}
            shares.append(Figure(labels, count / read[task], n=read[task], kind="share"))
            log.info("%s: %d of %d found in %s by %s", task, count, read[task], name, comparison)
        tables = (
            FigureTable(ALIKE, tuple(how), is_detail=True),
            FigureTable("dropped", tuple(shares), is_detail=True),
        )
        context.metrics.update(shown(*(table for table in tables if table.figures)))
        for task in sorted(read):
            of_task = {key: count for key, count in lost.items() if key[0] == task}
            if sum(of_task.values()) == read[task]:
                by = ", ".join(sorted({f"{name} by {found_by}" for _, name, found_by in of_task}))
                context.warn(
                    f"no row of task '{task}' is left, all are found in {by}; if they are new "
                    "questions, set compare: near or whole"
                )
