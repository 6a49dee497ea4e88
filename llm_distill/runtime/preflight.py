"""What would stop a run for certain, found before its first request, and said all at once.

Only about the stages that are to run. What cannot be known is left to the stage that needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llm_distill.errors import (
    ConfigError,
    LLMDistillError,
)
from llm_distill.pipeline.problems import Problems
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.estimate import most_rows
from llm_distill.runtime.hardware import this_machine
from llm_distill.runtime.impossible import Look, Problem
from llm_distill.runtime.needs import Needs
from llm_distill.runtime.plan import Decision
from llm_distill.runtime.resolve import Resolver


@dataclass(frozen=True)
class Preflight:
    """problems: what makes the run impossible. warnings: what makes it unlikely to succeed.

    needs: of the stages that are to run.
    """

    problems: Sequence[Problem] = ()
    warnings: Sequence[str] = ()
    needs: Mapping[str, Needs] = field(default_factory=dict)

    def listed(self, pipeline: PipelineConfig) -> Problems:
        """The problems, each with its place in the file."""
        found = pipeline.problems()
        for problem in self.problems:
            found.add(problem.place, problem.message)
        return found

    def error(self, pipeline: PipelineConfig) -> LLMDistillError | None:
        """All problems in one."""
        kinds = {problem.kind for problem in self.problems}
        try:
            self.listed(pipeline).raise_if_any(kinds.pop() if len(kinds) == 1 else ConfigError)
        except LLMDistillError as error:
            return error
        return None


def preflight(
    decisions: Sequence[Decision],
    resolver: Resolver,
    workspace: Workspace,
    must_be_ready: frozenset[str] | set[str] = frozenset(),
    *,
    counts_rows: bool = True,
) -> Preflight:
    """Look at what is to run.

    resolver: with the artifacts that are reused. must_be_ready: stages that are not to run.
    counts_rows: whether too few rows are a problem.
    """
    to_run = [d.name for d in decisions if d.action == "run" and d.name not in must_be_ready]
    if not to_run:
        return Preflight()
    look = Look(resolver, workspace, this_machine(), to_run)
    rows = most_rows(decisions, resolver.pipeline)
    problems = [
        *look.missing_models(),
        *look.missing_devices(),
        *look.missing_disk(),
        *(look.missing_rows(rows) if counts_rows else ()),
    ]
    return Preflight(problems, list(look.unlikely(rows)) if counts_rows else [], look.needs)
