"""Annotators answer the questions of a codebook about each row.

in:  {"id": "t1", "messages": [{"role": "user", "content": "7 x 8 is 54?"}]}
out: {"id": "t1", "messages": […], "mistake": "guess", "remedy": "ask", "error": null}
With several annotators also {"annotations": {"one": {"mistake": "guess", "remedy": "ask"}, …}},
and with annotator_columns {"one_mistake": "guess", "one_remedy": "ask", …}.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from llm_distill.engines.asking_stage import AskingStage
from llm_distill.engines.base import Completion, SamplingSettings, StructuredOutput
from llm_distill.errors import ConfigError, DataError
from llm_distill.evaluation.results import shown
from llm_distill.judging.annotation_figures import AnnotationFigures, said_of
from llm_distill.judging.judge import Judge, Reply, Shown
from llm_distill.methods.codebook import (
    Form,
    Said,
    as_variables,
    empty_form,
    json_schema,
    majority,
    random_form,
    read_form,
)
from llm_distill.methods.error_budget import ErrorBudget
from llm_distill.methods.seeds import derive_seed
from llm_distill.prompts import load_template
from llm_distill.rows.codebooks import OWN, CodebookField, read_codebook
from llm_distill.rows.columns import Row, features
from llm_distill.rows.conversation_text import as_text
from llm_distill.rows.user_lists import list_digests, list_text
from llm_distill.stage import Columns, Context, Model, Rows, RowsOutput, later_setting

if TYPE_CHECKING:
    from datasets import Features

ALONE = "annotator"
"""What a single one is called in messages and for its seed."""


class Annotator(BaseModel):
    """Who answers: a model, or chance."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Model | None = Field(None, description="the model that is asked")
    random: bool = Field(
        False, description="draws every label at random, all as likely: a control without a model"
    )
    template: str | None = Field(None, description="its own prompt; null: the stage's")

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.model is None) == (not self.random):
            raise ValueError("an annotator has a model, or random: true")
        if self.random and self.template is not None:
            raise ValueError("template: an annotator that draws at random reads none")
        return self


class Annotate(AskingStage):
    """Asks a model, or several, the questions of a codebook; the answers are columns.

    Each field has one label, or with `several` a list. Answers are JSON: where an engine can hold a
    model to a schema it does (`constrain`), others are asked in words. What is not a label of
    its field is none: the field is null, `error` says so, and it is counted by field. An annotator
    of whose replies none can be read is stopped early. Of several annotators the columns are the
    majority (a tie is null, and counted), and figures show how far they agree; one with
    `random: true` has no vote beside others. To let a run depend on how far they agree, give each
    its columns (`annotator_columns`) and put `agreement` after this stage.
    """

    reads_conversations: ClassVar[bool] = True
    stage: Literal["annotate"]
    rows: Rows = Field(description="the stage whose rows are annotated")
    model: Model | None = Field(None, description="the annotator; or name several in `annotators`")
    annotators: dict[str, Annotator] = Field(
        {}, description="annotators by name: {one: {model: …}, control: {random: true}}"
    )
    annotator_columns: bool = later_setting(
        False,
        "a column of each annotator and field too, such as one_mistake, for `agreement` and other "
        "stages that read columns",
    )
    codebook: str | dict[str, Any] = Field(
        description="field to labels with definitions: {mistake: {guess: …, misread: …}}; where "
        "several may fit {several: true, labels: …}; or a YAML file with that"
    )
    template: str = Field(
        "tutoring/annotate.jinja", description="reads `text`, `codebook` and `form`, or columns"
    )
    text_column: str = Field(
        "messages",
        min_length=1,
        description="the template's `text`: a text, or a conversation, which is written out",
    )
    roles: dict[str, str] = Field(
        {}, description="what speakers are called in `text`: {user: Pupil, assistant: Tutor}"
    )
    constrain: bool = Field(
        True,
        description="only the form can be answered, with kind: vllm or a server that can; other "
        "engines are asked in words",
    )
    sampling: SamplingSettings = Field(
        SamplingSettings(temperature=0, max_tokens=256), description="how answers are drawn"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.model is None) == (not self.annotators):
            raise ValueError("give one of model and annotators")
        for name in self.annotators:
            if not name.isidentifier():
                raise ValueError(f"annotators: '{name}' is a column: letters, digits and _ only")
        try:
            read = self.fields
        except DataError as error:
            raise ValueError(f"codebook: {error}") from error
        names = {each.name for each in read}
        if self.text_column in names or names & {*self.variables}:
            raise ValueError("codebook: a field is called like text_column, or like a variable")
        self._check_own_columns(names)
        return self

    def _check_own_columns(self, names: set[str]) -> None:
        if not self.annotator_columns:
            return
        if not self.annotators:
            raise ValueError("annotator_columns goes with `annotators`; of one the fields are its")
        own = [column for column, *_ in self._own_columns()]
        taken = {*names, *self.variables, self.text_column, "annotations", "error", "id"}
        twice = [column for column in own if column in taken or own.count(column) > 1]
        if twice:
            raise ValueError(
                f"annotator_columns: '{twice[0]}' would be two columns; rename the annotator"
            )

    @cached_property
    def fields(self) -> tuple[CodebookField, ...]:
        """The codebook's."""
        if not isinstance(self.codebook, str):
            return read_codebook(self.codebook, "the codebook")
        text, place = list_text(self.codebook)
        try:
            raw = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise DataError(f"{place} is not valid YAML: {error}") from error
        if not isinstance(raw, Mapping):
            raise DataError(f"{place}: it has to map each field to its labels")
        return read_codebook(raw, place)

    @property
    def _annotators(self) -> dict[str, Annotator]:
        return self.annotators or {ALONE: Annotator(model=self.model)}

    @property
    def _voters(self) -> list[str]:
        """Whose labels make the majority: a control has a vote only where nobody else has."""
        asked = [name for name, each in self._annotators.items() if not each.random]
        return asked or list(self._annotators)

    def _template_of(self, annotator: Annotator) -> str:
        return annotator.template or self.template

    @property
    def _templates(self) -> list[str]:
        asked = [each for each in self._annotators.values() if not each.random]
        return list(dict.fromkeys(map(self._template_of, asked)))

    @property
    def _reads_text(self) -> bool:
        """Whether a template reads `text`; one that cannot be read is said elsewhere."""
        for name in self._templates:
            try:
                if "text" in load_template(name).variables:
                    return True
            except ConfigError:
                continue
        return False

    def source_digests(self) -> dict[str, str]:
        return list_digests(self.codebook) if isinstance(self.codebook, str) else {}

    def most_asked(self, rows: Mapping[str, int | None]) -> Mapping[str, tuple[int, int]] | None:
        n = rows[self.rows]
        if n is None:
            return None
        models = Counter(each.model for each in self._annotators.values() if each.model is not None)
        return {model: (n * often, self.sampling.max_tokens) for model, often in models.items()}

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id", *([self.text_column] if self._reads_text else [])}}

    def columns_that_are_new(self) -> dict[str, dict[str, str]]:
        names = [each.name for each in self.fields]
        new = {name: f"choose another name, such as own_{name}" for name in names}
        if self.annotators:
            new["annotations"] = "let one `annotate` have all annotators, and all fields"
        for column, annotator, _ in self._own_columns():
            new[column] = f"choose another name for the annotator '{annotator}'"
        return {self.rows: new}

    def read_as_text(self) -> dict[str, set[str]]:
        return {self.rows: {self.text_column} if self._reads_text else set()}

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        offered = self.offered(inputs[self.rows], *OWN[1:])
        return dict.fromkeys(self._templates, offered)

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        columns = inputs[self.rows]
        return None if columns is None else columns.union(self._added())

    def _added(self) -> list[str]:
        kept = ["annotations"] if self.annotators else []
        own = [column for column, *_ in self._own_columns()]
        return [*(each.name for each in self.fields), *kept, *own, "error"]

    def _own_columns(self) -> list[tuple[str, str, CodebookField]]:
        """With `annotator_columns`: each column, its annotator and its field."""
        if not self.annotator_columns:
            return []
        return [(f"{a}_{each.name}", a, each) for a in self.annotators for each in self.fields]

    def is_seeded(self) -> bool:
        draws = any(each.random for each in self.annotators.values())
        return draws or self.sampling.temperature > 0

    def run(self, context: Context) -> RowsOutput:
        theirs = context.rows(self.rows).features
        return RowsOutput(self._rows(context), self._features(theirs))

    def _features(self, theirs: Features) -> Features:
        from datasets import Features, List, Value

        types = {
            each.name: List(Value("string")) if each.several else Value("string")
            for each in self.fields
        }
        found: dict[str, Any] = {**theirs, **types}
        if self.annotators:
            found["annotations"] = {name: dict(types) for name in self.annotators}
        found |= {column: types[each.name] for column, _, each in self._own_columns()}
        return features(["error"], like=Features(found))

    def _rows(self, context: Context) -> Iterator[Row]:
        n_asked = sum(not each.random for each in self._annotators.values())
        n_rows = len(context.rows(self.rows))
        budget = self.budget(max(1, n_rows * n_asked))
        said = {
            name: self._said(context, name, annotator, budget)
            for name, annotator in self._annotators.items()
        }
        decided: dict[str, list[Said | None]] = defaultdict(list)
        for place, row in enumerate(context.each_row(self.rows)):
            replies = {name: of[place] for name, of in said.items()}
            found = self._decided(replies)
            for each in self.fields:
                decided[each.name].append(found[each.name])
            yield {**row, **found, "error": found["error"] or row.get("error")}
        figures = AnnotationFigures(self.fields, said, self._voters, decided)
        figures.check()
        for note in figures.notes():
            context.warn(note)
        counts = {"unreadable": figures.unreadable(), "ties": figures.ties()}
        context.metrics.update(counts, **budget.figures(), **shown(*figures.tables()))

    # --- one annotator ---

    def _said(
        self, context: Context, name: str, annotator: Annotator, budget: ErrorBudget
    ) -> list[Reply[Form]]:
        """Its form for each row."""
        rows = context.each_row(self.rows)
        if annotator.random:
            seeds = (derive_seed(context.seed, name, row["id"]) for row in rows)
            return [Reply(random_form(self.fields, seed), "") for seed in seeds]
        asked = [Shown(str(row["id"]), row, self._own_values(row)) for row in rows]
        return list(self._judge(context, name, annotator, budget).replies(asked, self._read))

    def _judge(
        self, context: Context, name: str, annotator: Annotator, budget: ErrorBudget
    ) -> Judge:
        model = annotator.model
        assert model is not None
        held = self.constrain and context.holds_structure(model)
        return Judge(
            name=model if name == ALONE else name,
            wanted=f"labels of the codebook for {', '.join(each.name for each in self.fields)}",
            template=load_template(self._template_of(annotator)),
            sampling=self.sampling,
            prompt_format=context.model(model).prompt_format,
            seed=context.seed,
            ask=lambda jobs, total: self.ask(context, model, jobs, total, budget),
            variables=self.variables,
            structure=StructuredOutput(json_schema=json_schema(self.fields)) if held else None,
            role="annotator",
            sampling_at="sampling",
        )

    def _own_values(self, row: Row) -> dict[str, Any]:
        try:
            text = as_text(row.get(self.text_column), self.roles, str(row["id"]))
        except DataError:
            text = ""  # no prompt can be made of it, which is said of the row
        own = {"codebook": as_variables(self.fields), "form": empty_form(self.fields)}
        return {"text": text, **own}

    def _read(self, completion: Completion) -> Form | None:
        return read_form(completion.text, self.fields)

    # --- all of them ---

    def _decided(self, replies: Mapping[str, Reply[Form]]) -> Row:
        """The columns of a row."""
        found: Row = {}
        for each in self.fields:
            given = [said_of(replies[name], each.name) for name in self._voters]
            known = [said for said in given if said is not None]
            found[each.name] = majority(known, each)
        if self.annotators:
            found["annotations"] = {
                name: {each.name: said_of(reply, each.name) for each in self.fields}
                for name, reply in replies.items()
            }
        for column, annotator, each in self._own_columns():
            found[column] = said_of(replies[annotator], each.name)
        return {**found, "error": self._error(replies)}

    def _error(self, replies: Mapping[str, Reply[Form]]) -> str | None:
        """Why a field has no label by anybody; null where each has one."""
        voters = [replies[name] for name in self._voters]
        without = [
            each.name
            for each in self.fields
            if all(said_of(reply, each.name) is None for reply in voters)
        ]
        if not without:
            return None
        failed = next((reply.error for reply in voters if reply.error is not None), None)
        forms = [reply.verdict for reply in voters if reply.verdict is not None]
        if not forms:
            return failed or "no JSON with labels of the codebook"
        said = {name: next(form.unread[name] for form in forms) for name in without}
        return "; ".join(f"{name}: {value!r} is no label" for name, value in said.items())
