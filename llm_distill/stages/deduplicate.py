"""Keep the first of rows that say the same.

in:  {"id": "a", "question": "What is 2 + 2?"}, {"id": "b", "question": "what is  2 + 2"}
out: {"id": "a", "question": "What is 2 + 2?"}
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llm_distill.methods.near_duplicates import first_of_each, near_duplicates
from llm_distill.stage import Context, Rows, RowsOutput, Stage


class Deduplicate(Stage):
    """Drops rows whose text equals, or nearly equals, that of an earlier row.

    Texts that are equal but for case, white space and sentence punctuation always go. With
    `minhash`, those whose word n-grams overlap by `threshold` (Jaccard) go too, unless their
    numbers differ. Rows without a text go as well. Each kind is counted.
    """

    stage: Literal["deduplicate"]
    rows: Rows = Field(description="the stage whose rows are read")
    column: str = Field("question", description="the text that is compared")
    method: Literal["exact", "minhash"] = Field("minhash", description="how texts are compared")
    threshold: float = Field(0.8, gt=0, le=1, description="Jaccard from which a row is dropped")
    ngram: int = Field(3, ge=1, description="words in an n-gram")

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id", self.column}}

    def may_be_empty(self) -> set[str]:
        return {self.rows}

    def run(self, context: Context) -> RowsOutput:
        rows = context.rows(self.rows)
        every: list[str | None] = list(rows[self.column])
        left = [index for index, text in enumerate(every) if text]
        self._count(f"no {self.column}", len(every) - len(left), context)
        for reason in ("duplicate", "near duplicate")[: 2 if self.method == "minhash" else 1]:
            texts = [every[index] or "" for index in left]
            earlier = (
                first_of_each(texts)
                if reason == "duplicate"
                else near_duplicates(texts, threshold=self.threshold, n=self.ngram)
            )
            kept = [index for index, first in zip(left, earlier, strict=True) if first is None]
            self._count(reason, len(left) - len(kept), context)
            left = kept
        return RowsOutput(rows.select(left), rows.features)

    def _count(self, reason: str, count: int, context: Context) -> None:
        if count:
            context.drop(reason, count)
