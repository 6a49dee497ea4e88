"""A teacher's scores as `score_likelihood` left them in a row, and whether they fit it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from llm_distill.distillation.alignment.chunks import TokenScores, at_tokens, teacher_chunks
from llm_distill.distillation.alignment.encoding import in_loss
from llm_distill.distillation.dataset import chunk_columns
from llm_distill.distillation.losses.loss import Needs
from llm_distill.distillation.teacher.identity import scored_text
from llm_distill.distillation.teacher.signal import BatchesOfRows
from llm_distill.engines.scored import MOST_ABOVE_ZERO
from llm_distill.errors import DataError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from llm_distill.distillation.alignment.aligned import AlignedRow
    from llm_distill.distillation.alignment.encoding import EncodedRow
    from llm_distill.distillation.batches import Example
    from llm_distill.distillation.settings import DistillSettings
    from llm_distill.rows.columns import Row

LEAST = -100.0
"""What is read for minus infinity: of no weight, and finite in a divergence of the student."""


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
        alm, ends = self.settings.chunking(), None
        logps = self._at_tokens(row, teacher, "teacher_logps", "score the row again")
        if alm.debias:
            instead = "score it with an engine that gives them, or set alm.debias: false"
            ends = self._at_tokens(row, teacher, "teacher_log_pbs", instead)
        chunks = teacher_chunks(found, TokenScores(logps, ends), alm)
        return chunk_columns(chunks, n_tokens), chunks.aligned

    def open(self, student: Any, device: torch.device) -> BatchesOfRows:
        return BatchesOfRows()

    def check(self, row: Row, teacher: EncodedRow) -> None:
        """Raises:
        DataError: they are another model's, or of another text.
        """
        place = self._place(row)
        if row["scored_by"] != self.scored_by:
            found = row["scored_by"] or "no model"
            raise DataError(
                f"{place} was scored by {found}, and the teacher '{self.teacher}' is "
                f"{self.scored_by}; score the rows with this teacher, or name the one that did"
            )
        if row["scored_text"] != scored_text(teacher):
            raise DataError(
                f"{place} is not what was scored: its prompt or its answer was changed, or the "
                "teacher is given another prompt now (teacher_prompt_template, variables, "
                "truncated); score it again, or give the settings that it was scored with"
            )

    def top(self, row: Row, teacher: EncodedRow) -> dict[str, NDArray[Any]]:
        """top_ids, top_logps, flat: k values a token in the loss, as `batches.collate` reads them.

        Raises:
            DataError: they were not stored, or not for each token.
        """
        place = self._place(row)
        instead = "score the rows with top_k, or set online: true"
        ids = self._values(row, "teacher_top_ids", instead)
        logps = self._logps(row, "teacher_top_logps", instead, may_be_impossible=True)
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
        return {"top_ids": ids.astype(np.int32), "top_logps": logps.astype(np.float32)}

    def _at_tokens(
        self, row: Row, teacher: EncodedRow, column: str, instead: str
    ) -> NDArray[np.float64]:
        values, index = self._logps(row, column, instead), in_loss(teacher)
        if len(values) != len(index):
            raise DataError(
                f"{self._place(row)} has {len(values)} {column} for {len(index)} tokens; {instead}"
            )
        return at_tokens(len(teacher.ids), index, values)

    def _logps(
        self, row: Row, column: str, instead: str, *, may_be_impossible: bool = False
    ) -> NDArray[np.float64]:
        values = self._values(row, column, instead)
        if may_be_impossible:  # as where top_k is more than a model that masks tokens leaves
            values = np.maximum(values, LEAST)
        bad = values[~np.isfinite(values) | (values > MOST_ABOVE_ZERO)]
        if len(bad):
            raise DataError(
                f"{self._place(row)}: {column} holds {bad[0]:g}, which is not a log-probability; "
                "score the row again"
            )
        return np.minimum(values, 0.0)

    def _values(self, row: Row, column: str, instead: str) -> NDArray[np.float64]:
        if row.get(column) is None:
            raise DataError(f"{self._place(row)} has no {column}; {instead}")
        return np.asarray(row[column], dtype=np.float64)

    def _place(self, row: Row) -> str:
        return f"row {row['id']} of '{self.rows}'"
