"""Base of the stages that show a model the skills of a row's task and read labels from answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from llm_distill.engines.asking_stage import AskingStage
from llm_distill.engines.base import SamplingSettings, StructuredOutput
from llm_distill.engines.requests import Job, make_job
from llm_distill.methods.seeds import derive_seed
from llm_distill.prompts import load_template
from llm_distill.rows.columns import Row, task_of
from llm_distill.stage import Columns, Context, Model, Rows


class SkillStage(AskingStage):
    """Settings and requests that labelling questions and finding missing skills share."""

    shown_columns: ClassVar[frozenset[str]]
    """The columns of `rows` that it reads."""

    rows: Rows
    skills: Rows = Field(description="the list: discover_skills or load_skills")
    model: Model = Field(description="the teacher")
    template: str
    max_skills: int
    constrain: bool = Field(
        True, description="constrain answers to the list, with kind: vllm or a server that can"
    )
    sampling: SamplingSettings = Field(
        SamplingSettings(temperature=0), description="how the model answers"
    )

    def required_columns(self) -> dict[str, set[str]]:
        needed = {self.rows: {"id", *self.shown_columns}}
        return {**needed, self.skills: {"id", "skill", *needed.get(self.skills, ())}}

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        return {self.template: self.offered(inputs[self.rows], "skills", "max_skills")}

    def form(self, skills: Sequence[str]) -> str:
        """The regular expression of an answer that names some of these skills."""
        raise TypeError(f"{type(self).__name__} has no form()")

    def stand_ins(self, row: Row) -> Mapping[str, Any]:
        """What the template is given instead of some of the row's columns."""
        return {}

    def jobs(
        self, context: Context, rows: Iterable[Row], lists: Mapping[str, list[str]]
    ) -> Iterator[Job[Row]]:
        """One request per row; `lists` are the skills of each task."""
        template = load_template(self.template)
        prompt_format = context.model(self.model).prompt_format
        held = lists if self.constrain and context.holds_structure(self.model) else {}
        forms = {task: StructuredOutput(regex=self.form(skills)) for task, skills in held.items()}
        for row in rows:
            task = task_of(row)
            values = {**self.values(row), **self.stand_ins(row)}
            values.update(skills=lists[task], max_skills=self.max_skills)
            seed = derive_seed(context.seed, self.model, row["id"], self.stage)
            settings = template, values, prompt_format, self.sampling, seed, forms.get(task)
            yield make_job(row["id"], row, *settings)[0]
