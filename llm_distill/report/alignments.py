"""How the texts of teacher and student aligned, of each training across tokenizers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_distill.evaluation.result_rows import Alignment
from llm_distill.report.charts import Table

if TYPE_CHECKING:
    from llm_distill.report.collect import RunView

COLUMNS = (
    ("rows", "n_rows", "{:,}"),
    ("chunks", "n_chunks", "{:,}"),
    ("bytes compared", "share_of_bytes", "{:.1%}"),
    ("teacher's tokens a chunk", "teacher_tokens_per_chunk", "{:.2f}"),
    ("student's tokens a chunk", "student_tokens_per_chunk", "{:.2f}"),
)


def alignments(run: RunView) -> Table | None:
    """A row a training; None where there is none."""
    found = [(stage.name, stage.results.alignment) for stage in run.stages]
    rows = tuple((name, *_cells(figures)) for name, figures in found if figures is not None)
    return Table(("stage", *(title for title, _, _ in COLUMNS), "left out"), rows) if rows else None


def _cells(found: Alignment) -> list[str]:
    values = (getattr(found, name) for _, name, _ in COLUMNS)
    cells = [
        "" if value is None else form.format(value)
        for value, (_, _, form) in zip(values, COLUMNS, strict=True)
    ]
    return [*cells, ", ".join(f"{reason}: {count:,}" for reason, count in found.dropped.items())]
