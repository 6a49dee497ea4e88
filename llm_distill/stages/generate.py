"""Ask a model n times about each row; optionally parse and verify its answers.

in:  {"id": "q1", "question": "What is 2 + 2?"}
out: {"id": "q1-recall-0", "parent_id": "q1", "strategy": "recall", "candidate_index": 0,
      "question": "What is 2 + 2?", "prompt": "…", "completion": "… <ans>4</ans>",
      "finish_reason": "stop", "error": null}
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from llm_distill.engines.asking_stage import AskingStage
from llm_distill.engines.base import SamplingSettings, StructuredOutput
from llm_distill.engines.requests import Job, make_job
from llm_distill.errors import DataError
from llm_distill.methods.examples import draw_examples, usable
from llm_distill.methods.parsed_rows import ParseSettings
from llm_distill.methods.seeds import derive_seed
from llm_distill.methods.verified_rows import VerifySettings
from llm_distill.prompts import Template, load_template
from llm_distill.rows.columns import SEED, Row, by_task, features, note_seed, of_seed, renamed
from llm_distill.stage import Columns, Context, Model, Rows, RowsOutput, later_setting

ADDED = ("id", "parent_id", "prompt", "finish_reason", "candidate_index", "error")
EXAMPLE_TEXTS = ("question", "reference_answer", "rationale")


class ExampleSettings(BaseModel):
    """Rows that are shown to the model, as the template's `examples`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: Rows = Field(description="the stage whose rows are examples")
    n: int = Field(ge=1, description="how many are drawn for each request, all of the row's task")
    may_be_itself: bool = Field(
        False, description="a row can be its own example, if the prompt asks for something else"
    )


class Generate(AskingStage):
    """Renders a template for each row and keeps what the model answers, one row per candidate.

    A row is returned `n` times (`n` times for each named template), with a new `id` and the old
    one as `parent_id`. A row that cannot be asked about (a variable of the template is null or
    empty) or on which the engine fails is kept, with the reason in `error` and no completion.

    With `parse`, columns are read out of the model's text; with `verify`, answers are compared with
    references. Both do what the stages of these names do, and what they drop is counted here. If
    rows get another `question`, what was said about the one before (its answer, skills, …) goes on
    as `seed_question`, `seed_reference_answer` and so on.
    Completions are stored, so changing either does not ask the model again.
    """

    rows_may_be_empty = True
    version: ClassVar[int] = 3

    stage: Literal["generate"]
    rows: Rows = Field(description="the stage whose rows are asked about")
    model: Model = Field(description="the model that answers")
    template: str | dict[str, str] = Field(
        description="a template, or several by name; the name goes into the column `strategy`"
    )
    n: int = Field(1, ge=1, description="how many candidates, for each row and template")
    sampling: SamplingSettings = Field(SamplingSettings(), description="how completions are drawn")
    structured_output: StructuredOutput | None = Field(
        None, description="the form that every completion must have; not with kind: transformers"
    )
    examples: ExampleSettings | None = Field(
        None, description="rows that the template shows as `examples`, drawn anew for each request"
    )
    completion_column: str = Field("completion", description="where the model's text goes")
    parse: ParseSettings | None = later_setting(
        None, "what to read out of the model's text into columns, as the stage `parse` does"
    )
    verify: VerifySettings | None = later_setting(
        None,
        "compare answers with references, as the stage `verify` does; after `parse`",
    )

    @field_validator("template")
    @classmethod
    def _named_plainly(cls, value: str | dict[str, str]) -> str | dict[str, str]:
        if not value:
            raise ValueError("name at least one template")
        for name in value if isinstance(value, dict) else ():
            if not re.fullmatch(r"\w+", name):  # it becomes a part of ids
                raise ValueError(f"'{name}': letters, digits and underscores only")
        return value

    @field_validator("completion_column")
    @classmethod
    def _not_taken(cls, value: str) -> str:
        if value in (*ADDED, "strategy"):
            raise ValueError(f"'{value}' holds something else; choose another column")
        return value

    @model_validator(mode="after")
    def _verify_has_its_columns(self) -> Self:
        missing = sorted(self._judged_columns().intersection(self._dropped()))
        if missing:
            raise ValueError(f"parse.drop_columns: verify needs {', '.join(missing)}")
        return self

    def asks(self, place: str) -> Literal["text", "structure"] | None:
        return "text" if self.structured_output is None else "structure"

    def required_columns(self) -> dict[str, set[str]]:
        judged = self._judged_columns() - {*self._added(), *self._parsed()}
        if self._gives_question():  # what is renamed is needed by its name before
            judged = {name.removeprefix(SEED) for name in judged}
        needed = {self.rows: {"id", *judged}}
        if self.parse is not None:
            needed[self.rows] |= self.parse.dropped_columns(self._added())
        if self.examples is not None:
            needed.setdefault(self.examples.rows, set()).add("id")
        return needed

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        columns = inputs[self.rows]
        if columns is None:
            return None
        kept = renamed(dict.fromkeys(columns), self._of_seed(columns))
        answered = {*kept, *self._added(), *self._parsed()}.difference(self._dropped())
        return frozenset(answered.union(self._verdict()))

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        more = ("examples",) if self.examples is not None else ()
        offered = self.offered(inputs[self.rows], *more)
        return dict.fromkeys(self._templates().values(), offered)

    def is_seeded(self) -> bool:
        return self.sampling.temperature > 0 or self.examples is not None

    def run(self, context: Context) -> RowsOutput:
        if self.n > 1 and not self.is_seeded():
            context.warn(f"n is {self.n} at temperature 0: every candidate of a row is the same")
        given = context.rows(self.rows).features
        names = self._of_seed(given)
        for name in sorted(self._judged_columns().intersection(names).difference(self._parsed())):
            raise DataError(
                f"verify: '{name}' is about the question before, not about the one that is "
                f"written; read it with the question (parse), or compare with '{names[name]}'"
            )
        note_seed(names)
        rows = self._rows(context, names)
        if self.parse is not None:
            rows = self.parse.read_rows(rows, self.completion_column, context.drop)
        if self.verify is not None:
            rows = self.verify.judged(rows, context.drop, context.warn, context.metrics)
        answered = features((*self._added(), *self._parsed()), like=renamed(given, names))
        for name in self._dropped():
            answered.pop(name, None)
        return RowsOutput(rows, features(self._verdict(), like=answered))

    def _gives_question(self) -> bool:
        return "question" in (self.completion_column, *self._parsed())

    def _of_seed(self, columns: Iterable[str]) -> dict[str, str]:
        """The columns that are about the question before, if rows get another one."""
        return of_seed(columns, self._dropped()) if self._gives_question() else {}

    def _parsed(self) -> list[str]:
        return self.parse.new_columns() if self.parse is not None else []

    def _dropped(self) -> Sequence[str]:
        return self.parse.drop_columns if self.parse is not None else ()

    def _verdict(self) -> list[str]:
        return ["is_correct"] if self.verify is not None else []

    def _judged_columns(self) -> set[str]:
        if self.verify is None:
            return set()
        return {self.verify.answer_column, self.verify.reference_column}

    def _templates(self) -> dict[str, str]:
        """By strategy; a single template has the empty name."""
        return self.template if isinstance(self.template, dict) else {"": self.template}

    def _added(self) -> Sequence[str]:
        strategy = ("strategy",) if isinstance(self.template, dict) else ()
        return (*ADDED, *strategy, self.completion_column)

    def _rows(self, context: Context, names: Mapping[str, str]) -> Iterator[Row]:
        total = len(context.rows(self.rows)) * len(self._templates()) * self.n
        budget = self.budget(total)
        for job, completion in self.ask(context, self.model, self._jobs(context), total, budget):
            text = completion.text.strip() if completion.error is None else None
            yield {
                **renamed(job.about, names),
                self.completion_column: text,
                "finish_reason": completion.finish_reason,
                "error": completion.error,
            }
        context.metrics.update(budget.figures())

    def _jobs(self, context: Context) -> Iterator[Job[Row]]:
        templates = {name: load_template(t) for name, t in self._templates().items()}
        pools = self._example_pools(context)
        for row in context.each_row(self.rows):
            for strategy, template in templates.items():
                for index in range(self.n):
                    yield self._job(context, row, strategy, template, index, pools)

    def _job(
        self,
        context: Context,
        row: Row,
        strategy: str,
        template: Template,
        index: int,
        pools: Mapping[str, Sequence[Row]],
    ) -> Job[Row]:
        name = f"-{strategy}" if strategy else ""
        about = {
            **row,
            "id": f"{row['id']}{name}-{index}",
            "parent_id": row["id"],
            "candidate_index": index,
        }
        if strategy:
            about["strategy"] = strategy
        # With the model's name: two models that are asked the same should write independently.
        seed = derive_seed(context.seed, self.model, row["id"], strategy, index)
        values = self.values(row)
        if self.examples is not None:
            n, itself = self.examples.n, self.examples.may_be_itself
            drawn_by = derive_seed(seed, "examples")
            try:
                values["examples"] = draw_examples(row, pools, n, drawn_by, may_be_itself=itself)
            except DataError as error:
                return Job(about["id"], {**about, "prompt": None}, None, str(error))
        form, structure = context.model(self.model).prompt_format, self.structured_output
        job, about["prompt"] = make_job(
            about["id"], about, template, values, form, self.sampling, seed, structure
        )
        return job

    def _example_pools(self, context: Context) -> dict[str, list[Row]]:
        if self.examples is None:
            return {}
        rows = context.rows(self.examples.rows)
        return by_task(row for row in rows if usable(row, EXAMPLE_TEXTS))
