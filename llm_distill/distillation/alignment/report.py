"""How well the texts of a teacher and a student align, for the manifest and the run's report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from llm_distill.errors import DataError
from llm_distill.evaluation.result_rows import AlignmentFigures

if TYPE_CHECKING:
    from llm_distill.distillation.alignment.aligned import AlignedRow
    from llm_distill.distillation.alignment.encoding import EncodedRow
    from llm_distill.rows.columns import Row

MOST_SHOWN = 3
LONGEST_SHOWN = 60


@dataclass
class AlignmentReport:
    """Counts over the rows. Where the teacher scores each batch, chunks are not merged yet."""

    n_rows: int = 0
    n_different: int = 0
    n_chunks: int = 0
    n_teacher_tokens: int = 0
    n_student_tokens: int = 0
    n_bytes: int = 0
    n_bytes_kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, found: AlignedRow, student: EncodedRow) -> None:
        """Count the chunks of a row that is kept."""
        written = np.zeros(len(student.ids) + 1, np.int64)  # bytes before each token
        for content in student.contents:
            ends = np.diff(content.ends, prepend=content.begin)
            written[content.start + 1 : content.end + 1] = ends
        written = np.cumsum(written)
        self.n_chunks += len(found.is_end)
        self.n_teacher_tokens += int((found.teacher_last - found.teacher_first + 1).sum())
        self.n_student_tokens += int((found.student_last - found.student_first + 1).sum())
        self.n_bytes += found.n_bytes
        self.n_bytes_kept += int(
            (written[found.student_last + 1] - written[found.student_first]).sum()
        )

    def differs(self, row: Row, teacher: EncodedRow, student: EncodedRow) -> None:
        """Count a row whose texts differ, and keep the first few to be shown."""
        self.n_different += 1
        if len(self.examples) < MOST_SHOWN:
            pairs = zip(teacher.contents, student.contents, strict=False)
            texts = next(((a.text, b.text) for a, b in pairs if a.text != b.text), (b"", b""))
            self.examples.append(f"row {row['id']}: {_shown(*texts)}")

    def check(self, max_dropped: float, name: str) -> None:
        """Raises:
        DataError: more than this share of the rows have texts that differ.
        """
        if self.n_different <= max_dropped * self.n_rows:
            return
        raise DataError(
            f"{self.n_different} of {self.n_rows} rows of '{name}' are not the same text for "
            "teacher and student once their tokenizers have normalised it: "
            f"{'; '.join(self.examples)}. Normalise the texts before, take a student whose "
            f"tokenizer leaves them alone, or raise max_dropped (now {max_dropped:g})"
        )

    def figures(self) -> AlignmentFigures:
        n = max(1, self.n_chunks)
        return AlignmentFigures(
            n_rows=self.n_rows,
            dropped=self.dropped,
            examples=tuple(self.examples),
            n_chunks=self.n_chunks,
            share_of_bytes=self.n_bytes_kept / max(1, self.n_bytes),
            teacher_tokens_per_chunk=self.n_teacher_tokens / n,
            student_tokens_per_chunk=self.n_student_tokens / n,
        )


def _shown(a: bytes, b: bytes) -> str:
    """Both from a little before the byte where they part."""
    shorter = min(len(a), len(b))
    same = next((i for i in range(shorter) if a[i] != b[i]), shorter)
    start = max(0, same - LONGEST_SHOWN // 3)
    cut = slice(start, start + LONGEST_SHOWN)
    return " and ".join(repr(side[cut].decode(errors="replace")) for side in (a, b))
