"""Requests that show the skills of a row's task: to label it, or to find what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from llm_distill.engines.base import SamplingSettings, StructuredOutput
from llm_distill.engines.requests import Job, make_job
from llm_distill.methods.seeds import derive_seed
from llm_distill.prompts import load_template
from llm_distill.rows.columns import Row, task_of

if TYPE_CHECKING:
    from llm_distill.stage import Context


class AsksWithSkills(Protocol):
    """A stage that asks so; its settings."""

    @property
    def stage(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def template(self) -> str: ...
    @property
    def variables(self) -> dict[str, Any]: ...
    @property
    def max_skills(self) -> int: ...
    @property
    def constrain(self) -> bool: ...
    @property
    def sampling(self) -> SamplingSettings: ...


def skill_jobs(
    asking: AsksWithSkills,
    context: Context,
    rows: Iterable[Row],
    lists: Mapping[str, list[str]],
    regex: Callable[[Sequence[str]], str],
    in_place_of: Callable[[Row], Mapping[str, Any]] = lambda row: {},
) -> Iterator[Job[Row]]:
    """One request a row.

    lists: the skills of each task.
    regex: from a task's skills to the form that answers are held to where the engine can.
    in_place_of: what is shown in place of some of a row's columns.
    """
    template = load_template(asking.template)
    prompt_format = context.model(asking.model).prompt_format
    is_held = asking.constrain and context.holds_structure(asking.model)
    held = lists.items() if is_held else ()
    forms = {task: StructuredOutput(regex=regex(skills)) for task, skills in held}
    for row in rows:
        values = {**row, **asking.variables, **in_place_of(row)}
        values.update(skills=lists[task_of(row)], max_skills=asking.max_skills)
        yield make_job(
            row["id"],
            row,
            template,
            values,
            prompt_format,
            asking.sampling,
            derive_seed(context.seed, asking.model, row["id"], asking.stage),
            forms.get(task_of(row)),
        )[0]
