"""How likely a model finds each label of a list as the answer to a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from llm_distill.engines.base import ScoreRequest
from llm_distill.engines.requests import Job
from llm_distill.methods.error_budget import ErrorBudget
from llm_distill.rows.columns import Row
from llm_distill.stage import Context


def as_answer(name: str) -> str:
    """What names a label; the end is part of it, as one name may begin like another."""
    return f"<label>{name}</label>"


def label_logps(
    context: Context,
    model: str,
    jobs: Iterable[Job[Row]],
    names: Sequence[str],
    budget: ErrorBudget,
) -> Iterator[tuple[Row, list[float] | None, str | None]]:
    """For each job's row, in order, the log-likelihood of each label, in nats; or None and why.

    budget: of as many answers as there are rows times labels.
    """
    waiting: list[Job[Row]] = []
    opening = "" if context.model(model).prompt_format == "chat" else "\n"

    def requests() -> Iterator[ScoreRequest]:
        for job in jobs:
            waiting.append(job)
            if job.request is not None:
                for index, name in enumerate(names):
                    text = opening + as_answer(name)
                    yield ScoreRequest(f"{job.id}-{index}", job.request.prompt, text)

    def unasked() -> Iterator[tuple[Row, None, str | None]]:
        """Those at the head of the line of which nothing could be asked."""
        while waiting and waiting[0].request is None:
            job = waiting.pop(0)
            budget.count(job.id, job.error, False)
            yield job.about, None, job.error

    logps: list[float] = []
    failed: str | None = None
    for _, score in context.score(model, requests(), total=budget.total):
        yield from unasked()
        budget.count(score.id, score.error, False)
        failed = failed or score.error
        logps.append(sum(score.logprobs))
        if len(logps) == len(names):
            yield waiting.pop(0).about, logps if failed is None else None, failed
            logps, failed = [], None
    yield from unasked()
