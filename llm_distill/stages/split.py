"""Divide rows at random into parts that do not overlap.

in:  {"id": "a", "question": "..."}, {"id": "b", "question": "..."}, ...
out: those of one part, as they were
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from llm_distill.errors import DataError, few, nearest
from llm_distill.methods.splits import part_sizes, split_rows
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage


class Split(Stage):
    """Gives one part of the rows; stages with the same `parts` and seed give parts that fit.

    The part of a row depends on its id and the seed, not on the order of the rows. With
    `stratify_by` every part has the values of that column in the same proportions; with `group_by`
    rows that share a value, such as paraphrases of one question, come into the same part.
    """

    stage: Literal["split"]
    rows: Rows = Field(description="the stage whose rows are read")
    parts: dict[str, float | None] = Field(
        min_length=2,
        description="name: share (below 1), number of rows, or null for the rest",
    )
    part: str = Field(description="which part this stage gives")
    stratify_by: str | None = Field(None, description="a column whose values are spread evenly")
    group_by: str | None = Field(None, description="a column whose values are kept together")

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if self.part not in self.parts:
            raise ValueError(f"part: no '{self.part}' in parts; {nearest(self.part, self.parts)}")
        sizes = [size for size in self.parts.values() if size is not None]
        if len(self.parts) - len(sizes) > 1:
            raise ValueError("parts: only one part can have null, the rest")
        if any(size <= 0 or (size >= 1 and size != int(size)) for size in sizes):
            raise ValueError("parts: a share is above 0 and below 1, a number of rows is whole")
        shares = sum(size for size in sizes if size < 1)
        if shares > 1 + 1e-9:
            raise ValueError(f"parts: the shares add up to {shares:g}; 1 is all rows")
        return self

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        there, size = rows[self.rows], self.parts[self.part]
        if size is None or size < 1 or self.group_by is not None:
            return there
        return int(size) if there is None else min(int(size), there)

    def fewest_rows(self) -> list[tuple[str, str, int]]:
        counts = [int(size) for size in self.parts.values() if size is not None and size >= 1]
        return [("parts", self.rows, sum(counts))] if counts else []

    def required_columns(self) -> dict[str, set[str]]:
        named = {name for name in (self.stratify_by, self.group_by) if name}
        return {self.rows: {"id", *named}}

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return inputs[self.rows]

    def is_seeded(self) -> bool:
        return True

    def run(self, context: Context) -> RowsOutput:
        rows = context.rows(self.rows)
        try:
            sizes = part_sizes(self.parts, len(rows))
        except ValueError as error:
            raise DataError(f"parts: {error}; lower them, or give shares") from error
        strata, groups = (
            None if column is None else [str(value) for value in rows[column]]
            for column in (self.stratify_by, self.group_by)
        )
        found = split_rows(rows["id"], sizes, context.seed, strata, groups)
        kept = [index for index, part in enumerate(found) if part == self.part]
        if not kept:
            raise DataError(
                f"part '{self.part}' gets none of {len(rows)} rows; raise its share, or group less"
            )
        if strata is not None:
            self._warn_of_missing(strata, kept, context)
        context.drop("in another part", len(rows) - len(kept))
        return RowsOutput(rows.select(kept), rows.features)

    def _warn_of_missing(self, strata: list[str], kept: list[int], context: Context) -> None:
        """A value with fewer rows than there are parts cannot be in all of them."""
        counts = Counter(strata)
        missing = sorted(counts.keys() - {strata[index] for index in kept})
        if missing:
            named = few([f"'{value}' ({counts[value]})" for value in missing])
            context.warn(
                f"part '{self.part}' has no row with {self.stratify_by} {named}: too few rows to "
                "be in each part"
            )
