"""What a teacher and a student say of the same text, chunk by chunk, from scores of both.

The scores are those that `score_likelihood` stores, and of the student also those that it wrote
with. Chunks are those of ALM, so the tokenizers may differ; with one tokenizer they are its tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from llm_distill.distillation.alignment.aligned import AlignedRow, aligned
from llm_distill.distillation.alignment.chunks import at_tokens
from llm_distill.distillation.alignment.encoding import in_loss
from llm_distill.distillation.teacher.identity import scored_text
from llm_distill.errors import DataError
from llm_distill.methods.rollouts import Gap, Shared

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llm_distill.distillation.alignment.encoding import EncodedRow, RowEncoder
    from llm_distill.rows.columns import Row

CONTEXT = 40
"""Characters shown before a place, and half as many after it."""
END = "⟨end⟩"


@dataclass(frozen=True)
class Spoken:
    """What a model says of a row's tokens, in the order of `in_loss`.

    logps: float64 [n]; NaN where it says nothing. top_ids, top_logps: [n, k]; None without top_k.
    """

    row: EncodedRow
    logps: NDArray[np.float64]
    top_ids: NDArray[np.int64] | None = None
    top_logps: NDArray[np.float64] | None = None


def stored(row: Row, encoded: EncodedRow, who: str, place: str) -> Spoken:
    """What `score_likelihood` left in a row.

    who: the model that has to have scored it, as `scored_by` says. place: the row, for messages.

    Raises:
        DataError: another model did, or of another text, or the values are not one for each token.
    """
    if row["scored_by"] != who:
        raise DataError(
            f"{place} was scored by {row['scored_by'] or 'no model'}, not by {who}; name the model "
            "that scored it, or score it again"
        )
    if row["scored_text"] != scored_text(encoded):
        raise DataError(
            f"{place} is not what was scored: give prompt_template, teacher_prompt_template, "
            "variables, completion_column and truncated as it was scored with, or score it again"
        )
    n_tokens = len(in_loss(encoded))
    logps = np.asarray(row["teacher_logps"], dtype=np.float64)
    if len(logps) != n_tokens:
        raise DataError(f"{place} has {len(logps)} scores for {n_tokens} tokens; score it again")
    ids, likely = (row.get(name) for name in ("teacher_top_ids", "teacher_top_logps"))
    if not ids or not likely or len(ids) != len(likely) or len(ids) % n_tokens:
        return Spoken(encoded, logps)
    return Spoken(
        encoded,
        logps,
        np.asarray(ids, dtype=np.int64).reshape(n_tokens, -1),
        np.asarray(likely, dtype=np.float64).reshape(n_tokens, -1),
    )


def as_written(row: Row, encoded: EncodedRow) -> Spoken | None:
    """What the student said of its own tokens when it wrote them.

    None where the text is read as other tokens than were written: of these it has said nothing.
    """
    ids, logps = row.get("completion_ids"), row.get("rollout_logps")
    places = in_loss(encoded)
    if not ids or logps is None or len(ids) != len(logps):
        return None
    read = encoded.ids[places].tolist()
    n = min(len(ids), len(read))
    # Either may have an end token that the other lacks, and nothing else.
    if abs(len(ids) - len(read)) > 1 or read[:n] != list(ids[:n]):
        return None
    found = np.full(len(read), np.nan)
    found[:n] = np.asarray(logps[:n], dtype=np.float64)
    return Spoken(encoded, found)


@dataclass(frozen=True)
class Compared:
    """Chunks that both sides have scored.

    teacher, student: float64 [C], log-probabilities.
    """

    chunks: AlignedRow
    teacher: NDArray[np.float64]
    student: NDArray[np.float64]
    row: EncodedRow

    @property
    def gap(self) -> Gap:
        n_tokens = (self.chunks.student_last - self.chunks.student_first + 1).sum()
        n_bytes = sum(end - start for start, end, _ in map(self._span, range(len(self.teacher))))
        return Gap(float((self.student - self.teacher).sum()), int(n_tokens), n_bytes)

    def text(self, chunk: int) -> str:
        """The chunk in ⟦⟧, with a little of the text around it."""
        start, end, content = self._span(chunk)
        text = self.row.contents[content].text
        is_end = bool(self.chunks.is_end[chunk])
        what = END if is_end else text[start:end].decode(errors="replace")
        before = text[:start].decode(errors="replace")[-CONTEXT:]
        return f"{before}⟦{what}⟧{text[end:].decode(errors='replace')[: CONTEXT // 2]}"

    def _span(self, chunk: int) -> tuple[int, int, int]:
        """First byte of the chunk, the byte after its last, and which content it is in."""
        first, last = int(self.chunks.student_first[chunk]), int(self.chunks.student_last[chunk])
        number = next(
            i for i, c in enumerate(self.row.contents) if c.start <= first and last <= c.end
        )
        content = self.row.contents[number]
        if self.chunks.is_end[chunk]:
            return len(content.text), len(content.text), number
        before = first - content.start
        start = int(content.ends[before - 1]) if before else content.begin
        return start, int(content.ends[last - content.start]), number


def compared(teacher: Spoken, student: Spoken) -> Compared:
    """Raises:
    UnusableRowError: the tokenizers make other texts of it.
    """
    found = aligned(teacher.row, student.row)
    of_teacher = _sums(teacher, found.teacher_first, found.teacher_last)
    of_student = _sums(student, found.student_first, found.student_last)
    keep = ~(np.isnan(of_teacher) | np.isnan(of_student))
    chunks = replace(found, **{name: getattr(found, name)[keep] for name in _ARRAYS})
    return Compared(chunks, of_teacher[keep], of_student[keep], student.row)


_ARRAYS = ("teacher_first", "teacher_last", "student_first", "student_last", "is_end")


def _sums(spoken: Spoken, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.float64]:
    logps = at_tokens(len(spoken.row.ids), in_loss(spoken.row), spoken.logps)
    is_known = ~np.isnan(logps)
    until = np.concatenate([np.zeros(1), np.cumsum(np.where(is_known, logps, 0.0))])
    known = np.concatenate([np.zeros(1), np.cumsum(is_known)])
    whole = known[last + 1] - known[first] == last - first + 1
    return np.where(whole, until[last + 1] - until[first], np.nan)


@dataclass(frozen=True)
class Vocabularies:
    """Which tokens of two models are the same bytes; all that end a turn are the same."""

    teacher: RowEncoder
    student: RowEncoder

    @cached_property
    def _kinds(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """[V + 1] of either: tokens with one number are the same; negative ones are like none."""
        numbers: dict[bytes, int] = {}
        return _numbered(self.teacher, numbers, -1), _numbered(self.student, numbers, -2)

    def shared(self, teacher: Spoken, student: Spoken, chunks: AlignedRow) -> Shared | None:
        """Over the places where both begin a token; None where likeliest tokens are not known.

        Where one side begins a text with a space and the other does not, as a chat and plain text
        do, no token of one is a token of the other, and the place does not count.
        """
        if teacher.top_ids is None or student.top_ids is None:
            return None
        keep = self._begin_alike(teacher.row, student.row, chunks)
        if not keep.any():
            return None
        of_teacher, of_student = self._kinds
        ours, p = _at(teacher, of_teacher, chunks.teacher_first[keep])
        theirs, q = _at(student, of_student, chunks.student_first[keep])
        same = ours[:, :, None] == theirs[:, None, :]
        in_theirs, in_ours = same.any(2), same.any(1)
        return Shared(
            tokens=float(in_theirs.mean(1).sum()),
            of_teacher=float(((p * in_theirs).sum(1) / p.sum(1)).sum()),
            of_student=float(((q * in_ours).sum(1) / q.sum(1)).sum()),
            n_places=int(keep.sum()),
        )

    def _begin_alike(
        self, teacher: EncodedRow, student: EncodedRow, chunks: AlignedRow
    ) -> NDArray[np.bool_]:
        keep = np.ones(len(chunks.is_end), np.bool_)
        opening = np.isin(chunks.student_first, [content.start for content in student.contents])
        for index in np.flatnonzero(opening):
            first = (
                self.teacher.table.text(teacher.ids[chunks.teacher_first[index]][None]),
                self.student.table.text(student.ids[chunks.student_first[index]][None]),
            )
            keep[index] = first[0][:1].isspace() == first[1][:1].isspace()
        return keep


def _numbered(encoder: RowEncoder, numbers: dict[bytes, int], none: int) -> NDArray[np.int64]:
    table = encoder.table
    data, starts = table.data.tobytes(), table.starts.tolist()
    found = np.full(len(starts), none, np.int64)  # the last: ids that pad the vocabulary
    for index in range(len(starts) - 1):
        if piece := data[starts[index] : starts[index + 1]]:
            found[index] = numbers.setdefault(piece, len(numbers) + 1)
    found[[end for end in encoder.pairs.ends if end < len(starts) - 1]] = 0
    return found


def _at(
    spoken: Spoken, kinds: NDArray[np.int64], first: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """What is likeliest at the tokens `first`, by its number, and how likely."""
    assert spoken.top_ids is not None
    assert spoken.top_logps is not None
    places = np.searchsorted(in_loss(spoken.row), first)
    ids = np.minimum(spoken.top_ids[places], len(kinds) - 1)
    return kinds[ids], np.exp(spoken.top_logps[places])


def log_ratios(now: Spoken, written: Spoken) -> list[float]:
    """Of each token, log of its probability now over that when it was written."""
    found: list[float] = (now.logps - written.logps)[~np.isnan(written.logps)].tolist()
    return found
