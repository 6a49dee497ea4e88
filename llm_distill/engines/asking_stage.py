"""What every stage that asks a model shares: its settings, and the loop that counts failures.

A new one is its prompt, its parsing and its columns:

    class Summarise(AskingStage):
        stage: Literal["summarise"]
        ...
        budget = self.budget(total)
        for job, completion in self.ask(context, self.model, jobs, total, budget):
            yield {**job.about, "summary": completion.text, "error": completion.error}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, TypeVar

from pydantic import Field

from llm_distill.engines.base import Completion
from llm_distill.engines.requests import Job, answered, offered_variables
from llm_distill.methods.error_budget import ErrorBudget
from llm_distill.stage import Columns, Context, Stage

About = TypeVar("About")


class AskingStage(Stage):
    """Base of the stages that ask a model: constants for the template, and failures borne."""

    former_settings: ClassVar[Mapping[str, Any]] = {"by_task": {}}
    variables: dict[str, Any] = Field({}, description="constants for the template")
    max_error_rate: float = Field(
        0.1, ge=0, le=1, description="the share of requests that may fail before the run stops"
    )

    def offered(self, columns: Columns, *more: str) -> Columns:
        """The names that the template is given: of columns, of constants, and `more`."""
        return offered_variables(columns, self.variables, *more)

    def values(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What the template is given for a row, before what the stage adds itself.

        A constant wins, so that a setting can stand in for a column.
        """
        return {**row, **self.variables}

    def budget(self, total: int) -> ErrorBudget:
        """The failures that `total` requests may have; one for all that a stage asks."""
        return ErrorBudget(self.max_error_rate, total)

    def ask(
        self,
        context: Context,
        model: str,
        jobs: Iterable[Job[About]],
        total: int,
        budget: ErrorBudget,
    ) -> Iterator[tuple[Job[About], Completion]]:
        """Every job in order with its completion, with a bar of `total` requests.

        `thoughts_cut` of the metrics counts, by model, those whose thought a budget closed.

        Raises:
            DataError: more have failed than `budget` allows.
        """
        for job, completion in answered(jobs, partial(context.generate, model, total=total)):
            budget.count(job.id, completion.error, completion.finish_reason == "length")
            if completion.thought_cut is not None:
                counts = context.metrics.setdefault("thoughts_cut", {})
                counts[model] = counts.get(model, 0) + completion.thought_cut
            yield job, completion
