"""How likely a model finds each of some texts after a prompt, as engines score them.

A text's log-probability is summed over its tokens. The end token is not among them, so the score of
a text is that of everything which begins with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from llm_distill.engines.base import ScoreRequest
from llm_distill.engines.requests import Job
from llm_distill.methods.error_budget import ErrorBudget
from llm_distill.stage import Context

About = TypeVar("About")


class TextScore(NamedTuple):
    """Of a text: log p in nats, and of how many tokens it is the sum."""

    logp: float
    n_tokens: int


def text_scores(
    context: Context,
    model: str,
    jobs: Iterable[Job[About]],
    texts: Callable[[About], Sequence[str]],
    budget: ErrorBudget,
) -> Iterator[tuple[About, list[TextScore] | None, str | None]]:
    """What each job is about, in order, with the scores of its texts; or None and why.

    Args:
        jobs: with the prompts; what cannot be asked has an `error`.
        texts: from what a job is about to its texts, at least one, as they follow the prompt: see
            `prompts.continuation` for a prompt of plain text.
        budget: of as many failures as there are texts.
    """
    waiting: deque[tuple[Job[About], int]] = deque()

    def requests() -> Iterator[ScoreRequest]:
        for job in jobs:
            if job.request is None:
                waiting.append((job, 0))
                continue
            each = texts(job.about)
            waiting.append((job, len(each)))
            for index, text in enumerate(each):
                yield ScoreRequest(f"{job.id}-{index}", job.request.prompt, text)

    def unasked() -> Iterator[tuple[About, None, str | None]]:
        """Those at the head of the line of which nothing could be asked."""
        while waiting and waiting[0][0].request is None:
            job, _ = waiting.popleft()
            budget.count(job.id, job.error, False)
            yield job.about, None, job.error

    found: list[TextScore] = []
    failed: str | None = None
    for _, score in context.score(model, requests(), total=budget.total):
        yield from unasked()
        budget.count(score.id, score.error, False)
        failed = failed or score.error
        found.append(TextScore(sum(score.logprobs), len(score.logprobs)))
        if len(found) == waiting[0][1]:
            job, _ = waiting.popleft()
            yield job.about, found if failed is None else None, failed
            found, failed = [], None
    yield from unasked()
