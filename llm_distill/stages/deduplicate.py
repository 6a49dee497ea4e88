"""Keep the first of rows that say the same thing.

in:  {"id": "a", "question": "What is 2 + 2?"}, {"id": "b", "question": "what is  2 + 2"}
out: {"id": "a", "question": "What is 2 + 2?"}
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from llm_distill.methods.near_duplicates import first_of_each, near_duplicates
from llm_distill.stage import Context, Rows, RowsOutput, Stage


class Deduplicate(Stage):
    """Drops rows whose text equals, or nearly equals, that of an earlier row.

    Texts that differ only in case, white space and sentence punctuation are always dropped. With
    `minhash`, so are those whose word n-grams overlap by `threshold` (Jaccard), unless their
    numbers differ. Rows without a text are dropped as well. Each kind is counted.
    """

    rows_may_be_empty = True
    version: ClassVar[int] = 2

    stage: Literal["deduplicate"]
    rows: Rows = Field(description="the stage whose rows are read")
    column: str = Field("question", description="the text that is compared")
    method: Literal["exact", "minhash"] = Field("minhash", description="how texts are compared")
    threshold: float = Field(0.8, gt=0, le=1, description="Jaccard similarity that drops a row")
    ngram: int = Field(3, ge=1, description="words in an n-gram")

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id", self.column}}

    def read_as_text(self) -> dict[str, set[str]]:
        return {self.rows: {self.column}}

    def run(self, context: Context) -> RowsOutput:
        rows = context.rows(self.rows)
        every: list[str | None] = list(rows[self.column])
        left = [index for index, text in enumerate(every) if text]
        context.drop(f"no {self.column}", len(every) - len(left))
        for reason in ("duplicate", "near duplicate")[: 2 if self.method == "minhash" else 1]:
            texts = [every[index] or "" for index in left]
            earlier = (
                first_of_each(texts)
                if reason == "duplicate"
                else near_duplicates(texts, threshold=self.threshold, n=self.ngram)
            )
            kept = [index for index, first in zip(left, earlier, strict=True) if first is None]
            context.drop(reason, len(left) - len(kept))
            left = kept
        return RowsOutput(rows.select(left), rows.features)
