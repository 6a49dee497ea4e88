"""What would stop a run for certain, found before its first request, and said all at once.

Only about the stages that are to run. What cannot be known is left to the stage that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Timer

from llm_distill.errors import (
    ConfigError,
    LLMDistillError,
)
from llm_distill.pipeline.graph import base_model
from llm_distill.pipeline.problems import Problems
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.estimate import most_rows
from llm_distill.runtime.first_prompts import unaskable
from llm_distill.runtime.hardware import this_machine
from llm_distill.runtime.impossible import Look, Problem
from llm_distill.runtime.needs import Needs
from llm_distill.runtime.plan import Decision
from llm_distill.runtime.resolve import Resolver
from llm_distill.runtime.unusable import of_other_tokenizers, unreadable, unserved
from llm_distill.runtime.writers import of_another_teacher
from llm_distill.stage import models_of

SECONDS = 2.0
"""After so long it is said what takes so long."""


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
    asks_servers: bool = True,
    says: Callable[[str], None] = lambda _: None,
) -> Preflight:
    """Look at what is to run: nothing is written, and nothing is asked that costs.

    resolver: with the artifacts that are reused. must_be_ready: stages that are not to run.
    counts_rows: whether too few rows are a problem. asks_servers: which are sent their keys.
    says: told what takes long.
    """
    to_run = [d.name for d in decisions if d.action == "run" and d.name not in must_be_ready]
    if not to_run:
        return Preflight()
    look = Look(resolver, workspace, this_machine(), to_run)
    rows = most_rows(decisions, resolver.pipeline)
    with _said_if_long(says):
        return _found(look, decisions, rows, counts_rows, asks_servers)


@contextmanager
def _said_if_long(says: Callable[[str], None]) -> Iterator[None]:
    what = "looking at models, servers and first prompts before anything is asked"
    timer = Timer(SECONDS, says, [what])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _found(
    look: Look,
    decisions: Sequence[Decision],
    rows: Mapping[str, int | None],
    counts_rows: bool,
    asks_servers: bool,
) -> Preflight:
    pipeline = look.pipeline
    problems = [
        *look.missing_models(),
        *look.missing_devices(),
        *look.missing_disk(),
        *(look.missing_rows(rows) if counts_rows else ()),
        *unreadable(look),
        *of_other_tokenizers(look),
    ]
    warnings = list(look.unlikely(rows)) if counts_rows else []
    warnings += of_another_teacher(pipeline, look.to_run)
    served = list(unserved(look)) if asks_servers else []
    broken = {p.place[1] for p in (*problems, *served) if isinstance(p, Problem)}

    def wanted(name: str) -> bool:
        """Of what is said to be broken already, no more is said."""
        models = {base_model(m, pipeline.stages) for m in models_of(pipeline.stages[name])}
        return name in look.to_run and not broken & {name, *models}

    of_prompts = unaskable(decisions, look.resolver, look.of.folder, wanted)
    for found in (*served, *of_prompts):
        if isinstance(found, Problem):
            problems.append(found)
        else:
            said = pipeline.problems()
            said.add(found.problem.place, found.problem.message)
            warnings += said.found
    return Preflight(problems, warnings, look.needs)
