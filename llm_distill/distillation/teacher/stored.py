"""A teacher's scores as `score_likelihood` left them in a row, and whether they fit it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from llm_distill.distillation.alignment.chunks import TokenScores, at_tokens
from llm_distill.distillation.dataset import chunk_columns, chunks_of
from llm_distill.distillation.losses.loss import Needs
from llm_distill.distillation.teacher.identity import scored_text
from llm_distill.distillation.teacher.scoring import in_loss
from llm_distill.distillation.teacher.signal import BatchesOfRows
from llm_distill.errors import DataError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from llm_distill.distillation.alignment.aligned import AlignedRow
    from llm_distill.distillation.alignment.encoding import EncodedRow
    from llm_distill.distillation.dataset import Example
    from llm_distill.distillation.settings import DistillSettings
    from llm_distill.rows.columns import Row

MOST_ABOVE_ZERO = 1e-4
"""A log-probability may be as far above 0 as rounding puts it."""


@dataclass(frozen=True)
class StoredScores:
    """A `TeacherSignal` that reads scores off rows.

    rows: the stage that they are from. scored_by: what the teacher's own scores are marked with.
    n_tokens: how many the teacher has.
    """

    rows: str
    teacher: str
    scored_by: str
    n_tokens: int
    settings: DistillSettings
    in_process: ClassVar[bool] = False

    def of_tokens(self, row: Row, teacher: EncodedRow) -> Example:
        """The likeliest tokens, where a loss compares distributions; see `check` and `top`."""
        self.check(row, teacher)
        if not self.settings.losses.needing(Needs.DISTRIBUTIONS):
            return {}
        return self.top(row, teacher)

    def of_chunks(
        self, row: Row, teacher: EncodedRow, found: AlignedRow, n_tokens: int
    ) -> tuple[Example, AlignedRow]:
        """The teacher's side of each chunk; what it seldom ends goes into the next one."""
        scores = self.scores(row, teacher, with_boundary_logps=self.settings.alm.debias)
        chunks = chunks_of(found, scores, self.settings.alm)
        return chunk_columns(chunks, n_tokens), chunks.aligned

    def open(self, student: Any, device: torch.device) -> BatchesOfRows:
        return BatchesOfRows()

    def check(self, row: Row, teacher: EncodedRow) -> None:
        """Raises:
        DataError: they are another model's, or of another text.
        """
        place = f"row {row['id']} of '{self.rows}'"
        if row["scored_by"] != self.scored_by:
            found = row["scored_by"] or "no model"
            raise DataError(
                f"{place} was scored by {found}, and the teacher '{self.teacher}' is "
                f"{self.scored_by}; score the rows with this teacher, or name the one that did"
            )
        if row["scored_text"] != scored_text(teacher):
            raise DataError(
                f"{place} is not what was scored: its prompt or its answer was changed, or the "
                "teacher is given another prompt now (teacher_prompt_template, variables); score "
                "it again, or give the settings that it was scored with"
            )

    def scores(self, row: Row, teacher: EncodedRow, *, with_boundary_logps: bool) -> TokenScores:
        """By token of the teacher's row.

        Raises:
            DataError: a value is missing or is not a log-probability.
        """
        logps = self._read(row, teacher, "teacher_logps", "score the row again")
        if not with_boundary_logps:
            return TokenScores(logps, None)
        instead = "score it with an engine that gives them, or set alm.debias: false"
        return TokenScores(logps, self._read(row, teacher, "teacher_log_pbs", instead))

    def top(self, row: Row, teacher: EncodedRow) -> dict[str, NDArray[Any]]:
        """top_ids, top_logps, flat: k values a token in the loss, as `batches.collate` reads them.

        Raises:
            DataError: they were not stored, or not for each token.
        """
        place = f"row {row['id']} of '{self.rows}'"
        instead = "score the rows with top_k, or set online: true"
        ids = _values(row.get("teacher_top_ids"), f"{place} has no teacher_top_ids; {instead}")
        logps = _values(
            row.get("teacher_top_logps"), f"{place} has no teacher_top_logps; {instead}"
        )
        n_tokens = len(in_loss(teacher))
        if not len(ids) or len(ids) != len(logps) or len(ids) % n_tokens:
            raise DataError(
                f"{place} has {len(ids)} teacher_top_ids and {len(logps)} teacher_top_logps for "
                f"{n_tokens} tokens, where each has k of both; score it again"
            )
        bad = ids[~((ids >= 0) & (ids < self.n_tokens))]
        if len(bad):
            raise DataError(
                f"{place}: teacher_top_ids holds {bad[0]:g}, and the teacher '{self.teacher}' has "
                f"tokens 0 to {self.n_tokens - 1}; score the row again"
            )
        _check_logps(logps, f"{place}: teacher_top_logps")
        return {
            "top_ids": ids.astype(np.int32),
            "top_logps": np.minimum(logps, 0.0).astype(np.float32),
        }

    def _read(
        self, row: Row, teacher: EncodedRow, column: str, instead: str
    ) -> NDArray[np.float64]:
        place = f"row {row['id']} of '{self.rows}'"
        values = _values(row[column], f"{place} has no {column}; {instead}")
        index = in_loss(teacher)
        if len(values) != len(index):
            raise DataError(
                f"{place} has {len(values)} {column} for {len(index)} tokens; {instead}"
            )
        _check_logps(values, f"{place}: {column}")
        return at_tokens(len(teacher.ids), index, np.minimum(values, 0.0))


def _values(found: Any, problem: str) -> NDArray[np.float64]:
    if found is None:
        raise DataError(problem)
    return np.asarray(found, dtype=np.float64)


def _check_logps(values: NDArray[np.float64], place: str) -> None:
    bad = values[~np.isfinite(values) | (values > MOST_ABOVE_ZERO)]
    if len(bad):
        raise DataError(
            f"{place} holds {bad[0]:g}, which is not a log-probability; score the row again"
        )
