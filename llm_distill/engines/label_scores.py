"""How likely a model finds each label of a list as the answer to a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from llm_distill.engines.requests import Job
from llm_distill.engines.text_scores import text_scores
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
    opening = "" if context.model(model).prompt_format == "chat" else "\n"
    texts = [opening + as_answer(name) for name in names]
    for row, scores, error in text_scores(context, model, jobs, lambda row: texts, budget):
        yield row, None if scores is None else [score.logp for score in scores], error
