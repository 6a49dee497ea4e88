"""Read columns out of text: shared by the stage `parse` and `parse:` of `generate`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llm_distill.errors import DataError
from llm_distill.methods.final_answer import final_answer
from llm_distill.methods.parsing import (
    block_pattern,
    read_blocks,
    read_json,
    read_pattern,
    read_tag,
)
from llm_distill.rows.columns import COLUMNS, Row, of_seed
from llm_distill.rows.messages import is_conversation, last_answer
from llm_distill.rows.thoughts import split_thoughts


class ParseSettings(BaseModel):
    """What is read out of a text, and what happens to a row without it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tags: dict[str, str] | None = Field(
        None, description="column: the tag that it is read from, the first of that name"
    )
    pattern: str | None = Field(
        None, description="regular expression, searched for; its named groups are columns"
    )
    json_keys: dict[str, str] | None = Field(
        None,
        description="column: the key that it is read from, in the first JSON object that has any",
    )
    final_answer: str | None = Field(
        None,
        description="the column that gets the final answer, in whatever form it stands; see "
        "docs/answers.md",
        json_schema_extra={"later": True},
    )
    each: str | None = Field(
        None,
        description=r"regular expression of tags, such as Question_\d+: each is a row of its own",
    )
    keep_text_as: str | None = Field(None, description="column that gets the whole trimmed text")
    required: tuple[str, ...] | None = Field(
        None, description="columns that must be found; all of them by default"
    )
    on_failure: Literal["drop", "keep"] = Field(
        "drop", description="drop: count it; keep: nulls, and the reason in `error`"
    )
    drop_columns: tuple[str, ...] = Field((), description="columns that are not passed on")

    @model_validator(mode="after")
    def _check_settings(self) -> Self:
        ways = ("tags", "pattern", "json_keys", "final_answer")
        given = [way for way in ways if getattr(self, way) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(ways)}; got {given or 'none'}")
        try:
            re.compile(self.pattern or "")
            block_pattern(self.each or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error.pattern!r}: {error}") from error
        if not self._columns():
            raise ValueError("names no column; a pattern needs named groups such as (?P<answer>…)")
        unknown = set(self.required or ()) - set(self._columns())
        if unknown:
            raise ValueError(f"required: {sorted(unknown)} are not among {self._columns()}")
        if "id" in (*self._columns(), *self.drop_columns, self.keep_text_as):
            raise ValueError("the column id can be neither read nor dropped")
        for name in (*self._columns(), *filter(None, [self.keep_text_as])):
            if COLUMNS.get(name, ("string",))[0] != "string":
                raise ValueError(
                    f"'{name}' holds {COLUMNS[name][0]} everywhere, and what is read is text; "
                    "choose another name"
                )
        return self

    def _columns(self) -> list[str]:
        if self.pattern is not None:
            return list(re.compile(self.pattern).groupindex)
        if self.final_answer is not None:
            return [self.final_answer]
        return list(self.tags or self.json_keys or {})

    def _reads_thoughts(self) -> bool:
        asked = (self.pattern or "", self.each or "", *(self.tags or {}).values())
        return any("think" in each for each in asked)

    def dropped_columns(self, new: Collection[str] = ()) -> set[str]:
        """Those of `drop_columns` that the input must have: not read here, and not among `new`."""
        return set(self.drop_columns) - {*self.new_columns(), *new}

    def new_columns(self) -> list[str]:
        """The columns that a row is given, including any that it already had."""
        extra = ["parent_id"] if self.each else []
        text = [self.keep_text_as] if self.keep_text_as else []
        return [*extra, *self._columns(), *text, "error"]

    def of_seed(self, columns: Iterable[str], column: str) -> dict[str, str]:
        """What is renamed since it is about another question, see `rows.columns.of_seed`.

        A question that is read out of the column `question` is the same one, written otherwise.
        """
        if column == "question" or "question" not in self.new_columns():
            return {}
        return of_seed(columns, {column, *self.drop_columns})

    def read_rows(
        self, rows: Iterable[Row], column: str, drop: Callable[[str], None]
    ) -> Iterator[Row]:
        """The rows with what was read out of `column`; `drop` is called for each one dropped."""
        for row in rows:
            for made, error in self._read_row(row, column):
                if error and self.on_failure == "drop":
                    # Not the model's own error, which differs from row to row.
                    drop("an error upstream" if row.get("error") else error)
                else:
                    made["error"] = error
                    yield {k: v for k, v in made.items() if k not in self.drop_columns}

    def _read_row(self, row: Row, column: str) -> Iterator[tuple[Row, str | None]]:
        """The rows made from one, each with the reason if it could not be read."""
        text = row[column]
        if is_conversation(text):
            text = last_answer(text)
        if text is not None and not isinstance(text, str):
            raise DataError(f"row {row['id']}: '{column}' should be text, but is {text!r}")
        text = text or ""
        if not self._reads_thoughts():
            text = split_thoughts(text)[1]  # a draft
        elif row.get("reasoning") and "<think" not in text:
            text = f"<think>{row['reasoning']}</think>\n{text}"
        ended = row.get("finish_reason") == "stop"
        earlier = row.get("error")  # set if the model gave no text in the first place
        if self.each is None:
            yield self._finish(row, text, earlier, ended)
            return
        blocks = read_blocks(text, self.each)
        unread = earlier or (None if blocks else f"no <{self.each}>")
        for index, block in enumerate(blocks or [""]):
            made = {**row, "id": f"{row['id']}-{index}", "parent_id": row["id"]}
            yield self._finish(made, block, unread)

    def _finish(
        self, row: Row, text: str, earlier: str | None, ended: bool = False
    ) -> tuple[Row, str | None]:
        values = {name: value or None for name, value in self._read(text, ended).items()}
        needed = self.required if self.required is not None else self._columns()
        missing = [f"<{name}>" for name in needed if values[name] is None]
        error = earlier or (f"no {' and no '.join(missing)}" if missing else None)
        if self.keep_text_as:
            values[self.keep_text_as] = text.strip() or None
        return {**row, **values}, error

    def _read(self, text: str, ended: bool) -> dict[str, str | None]:
        if self.pattern is not None:
            return read_pattern(text, re.compile(self.pattern, re.DOTALL))
        if self.json_keys is not None:
            return read_json(text, self.json_keys)
        if self.final_answer is not None:
            found = final_answer(text, ended)
            return {self.final_answer: found.text if found is not None else None}
        return {column: read_tag(text, tag, ended) for column, tag in (self.tags or {}).items()}
