"""The rows of a user's file that are asked, and which of their columns has the questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from llm_distill.cli.answerer import Answerer
from llm_distill.errors import ConfigError, DataError, nearest
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.rows.columns import Row
from llm_distill.rows.reading import stream
from llm_distill.runtime.prompt_form import ASKED
from llm_distill.stages.load_dataset import LoadDataset

TEXT_ENDING = ".txt"
CONVERSATIONS = ("messages", "prompt")
"""Columns that are asked before a question's is looked at."""


def read_questions(file: Path) -> list[Row]:
    """The rows of a file; of a text, a row for each line.

    Raises:
        DataError: it is not there, empty, or of an unknown kind.
    """
    if not file.is_file():
        raise DataError(f"--file: there is no file {file}")
    if file.suffix.lower() == TEXT_ENDING:
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(f"--file: {file} is not UTF-8 text; save it as UTF-8") from error
        found = [{ASKED[0]: line} for line in lines if line.strip()]
    else:
        found = [row for _, row in stream(file)]
    if not found:
        raise DataError(f"--file: {file} has no questions")
    return found


def with_questions(
    rows: list[Row],
    column: str | None,
    answerers: Sequence[Answerer],
    pipeline: PipelineConfig,
    says: Callable[[str], None],
) -> list[Row]:
    """The rows as the models are asked them.

    Args:
        rows: of the user's file.
        column: what the user says has the questions. Unless given, what the template reads, or one
            of the usual names; if no row has that, what the run read as its questions, or the only
            column of text.
        answerers: the models that are asked.
        pipeline: of the run.
        says: is told which column was taken.

    Raises:
        ConfigError: there is no such column.
        DataError: no row can be asked.
    """
    there = list(dict.fromkeys(name for row in rows for name in row))
    if column is not None and column not in there:
        hint = nearest(column, there).replace("allowed:", "there are:")
        raise ConfigError(f"--question: no column '{column}'; {hint}")
    if column is None and not _some_can_be_asked(rows, answerers):
        column, why = _found(rows, there, pipeline)
        if column is not None:
            says(f"questions: column '{column}' ({why}); --question COLUMN takes another")
    if column is not None:
        names = {ASKED[0], *(a.form.needs[0] for a in answerers if len(a.form.needs) == 1)}
        rows = [_asking(row, column, names) for row in rows]
    if not _some_can_be_asked(rows, answerers):
        reason = answerers[0].why_not(rows[0])
        raise DataError(
            f"--file: none of its rows can be asked; the first: {reason}. --question COLUMN says "
            f"where the questions are; columns: {', '.join(there)}"
        )
    return rows


def _some_can_be_asked(rows: Sequence[Row], answerers: Sequence[Answerer]) -> bool:
    return any(answerer.why_not(row) is None for row in rows for answerer in answerers)


def _found(
    rows: Sequence[Row], there: list[str], pipeline: PipelineConfig
) -> tuple[str | None, str]:
    """A column that can be nothing else than the questions', and why."""
    for name, stage in reversed(pipeline.stages.items()):
        if isinstance(stage, LoadDataset):
            mapped = [stage.columns[ours] for ours in ASKED if stage.columns.get(ours) in there]
            if mapped:
                return mapped[0], f"as stage '{name}' reads it"
    texts = [name for name in there if name != "id" and _is_text([row.get(name) for row in rows])]
    return (texts[0], "the only one of text") if len(texts) == 1 else (None, "")


def _is_text(values: Sequence[object]) -> bool:
    """Whether some value has letters: in a table without types, numbers are texts too."""
    return any(isinstance(value, str) and any(map(str.isalpha, value)) for value in values)


def _asking(row: Row, column: str, names: set[str]) -> Row:
    """The row with its question under the names that are read, and nothing read before it."""
    kept = {k: v for k, v in row.items() if k == column or k not in CONVERSATIONS}
    return {**kept, **dict.fromkeys(names, row.get(column))}
