"""A completion token by token as a model sampled it: what `generate` keeps, and how it is read.

A text that is read again need not be the tokens that were sampled, and a loss on sampled tokens is
about these.

row: {"completion": "It is 4.", "completion_ids": [41, 7, 2], "rollout_logps": [-0.4, -0.1, -0.02],
      "written_by": "tiny-student 9c1e04b7aa31", "written_with": "5d20c1f3be77"}
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from llm_distill.engines.scored import MOST_ABOVE_ZERO
from llm_distill.errors import DataError
from llm_distill.rows.unusable import UnusableRowError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from llm_distill.distillation.alignment.encoding import EncodedRow, RowEncoder
    from llm_distill.engines.base import Completion, SamplingSettings
    from llm_distill.engines.requests import Job
    from llm_distill.models.sources import ModelSource
    from llm_distill.rows.columns import Row

    About = TypeVar("About")

TOKENS = ("completion_ids", "rollout_logps", "written_by", "written_with")
"""The columns."""


def with_tokens(job: Job[About]) -> Job[About]:
    """The job, whose answer has its tokens."""
    if job.request is None:
        return job
    return replace(job, request=replace(job.request, tokens=True))


def tokens_of(completion: Completion) -> Row:
    """Those of the columns that differ from row to row."""
    return {"completion_ids": completion.token_ids, "rollout_logps": completion.logprobs}


def writer_of(source: ModelSource) -> Row:
    """Those that say who sampled the tokens, and in which vocabulary.

    Raises:
        ModelError: the tokenizer cannot be read.
    """
    from llm_distill.distillation.alignment.vocabularies import vocabulary_digest
    from llm_distill.distillation.teacher.identity import scored_by
    from llm_distill.models.sources import own_tokenizer

    tokenizer = own_tokenizer(source.readable, is_alone=source.tokenizer is not None)
    return {"written_by": scored_by(source), "written_with": vocabulary_digest(tokenizer)}


def drawn_otherwise(sampling: SamplingSettings) -> str | None:
    """What to say where tokens are drawn from another distribution than `rollout_logps` are of."""
    if (sampling.temperature, sampling.top_p, sampling.top_k) == (1, 1, 0):
        return None
    return (
        "keep_tokens: rollout_logps are those of the model itself, at temperature 1 without top_p "
        "and top_k, and the tokens are drawn from another distribution; for losses on sampled "
        "tokens set temperature: 1, top_p: 1 and top_k: 0"
    )


def sampled_ids(row: Row, vocabulary: str) -> list[int] | None:
    """The tokens of a row's last answer, if they are of this vocabulary (its digest); else None."""
    ids = row.get("completion_ids")
    return list(ids) if ids and row.get("written_with") == vocabulary else None


def rollout_logps(row: Row, student: RowEncoder, encoded: EncodedRow) -> NDArray[np.float32]:
    """float32 [T], by token of the student's row: as the policy that wrote it had it, else NaN.

    All NaN where the row says nothing of how it was sampled.

    Raises:
        UnusableRowError: the row is not what the student sampled.
        DataError: the log-probabilities do not fit the tokens.
    """
    import numpy as np

    found: NDArray[np.float32] = np.full(len(encoded.ids), np.nan, np.float32)
    ids, logps = row.get("completion_ids"), row.get("rollout_logps")
    if len(encoded.contents) > 1:
        raise UnusableRowError("more than one answer in the loss; set answers: last")
    if ids is None:
        return found
    if row.get("written_with") != student.vocabulary:
        raise UnusableRowError("sampled by a model with another tokenizer than the student's")
    if not encoded.is_sampled:
        raise UnusableRowError("completion is not the text of completion_ids")
    if logps is None:
        return found
    place, values = f"row {row['id']}", np.asarray(logps, np.float64)
    again = "write the row again (generate with keep_tokens)"
    if len(values) != len(ids):
        raise DataError(
            f"{place} has {len(values)} rollout_logps for {len(ids)} completion_ids; {again}"
        )
    bad = values[~np.isfinite(values) | (values > MOST_ABOVE_ZERO)]
    if len(bad):
        raise DataError(
            f"{place}: rollout_logps holds {bad[0]:g}, which is not the log-probability of a "
            f"token that was sampled; {again}"
        )
    start = encoded.contents[-1].start
    found[start : start + len(values)] = np.minimum(values, 0.0)
    return found
