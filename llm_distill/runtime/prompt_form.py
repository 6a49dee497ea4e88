"""How a run turned questions into what a model is given, to ask that model in the same way again.

A model answers best what looks like its training, and an exam's score holds for the exam's prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from llm_distill.distillation.rows import PromptedRow
from llm_distill.engines.base import Request, SamplingSettings
from llm_distill.engines.requests import render_prompt
from llm_distill.errors import ConfigError, DataError
from llm_distill.hints import hint
from llm_distill.methods.dialogue import begun
from llm_distill.methods.examples import draw_examples, worked_examples
from llm_distill.methods.seeds import derive_seed
from llm_distill.models.sources import PromptFormat
from llm_distill.prompts import Template, as_messages, load_template
from llm_distill.rows.columns import Row, task_of
from llm_distill.rows.messages import Message, is_conversation, read_messages, read_tools
from llm_distill.runtime.writer import read_rows
from llm_distill.stages.evaluate import Evaluate
from llm_distill.stages.evaluate_lm_eval import EvaluateLmEval
from llm_distill.stages.generate import Generate
from llm_distill.stages.train_classifier import TrainClassifier

if TYPE_CHECKING:
    from llm_distill.pipeline.schema import PipelineConfig
    from llm_distill.runtime.finished import FinishedRun

LOOKED_AT = 200
"""Rows of an exam or a training that are looked at for what all of them begin with."""
PLAIN = SamplingSettings(temperature=0)
"""How answers are drawn where the run says nothing about it."""
ASKED = ("question", "prompt", "text")
"""Columns of a user's rows that hold a question, where the template's own name is not there."""


@dataclass(frozen=True)
class PromptForm:
    """How a question becomes a prompt.

    Attributes:
        by: what it was taken from, such as `exam 'exam'`.
        template: None: the question as it is, or a row's conversation.
        variables: constants of the template.
        messages_column: a row's conversation, which the model continues.
        system: a message that comes first in a chat. tools: what the model may call.
        pools: worked examples by task; `shots` of them are shown.
        seed: of the draw of worked examples.
        sampling: how the run drew answers.
    """

    by: str
    template: Template | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    messages_column: str | None = None
    system: str | None = None
    tools: tuple[dict[str, Any], ...] = ()
    pools: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    shots: int = 0
    seed: int = 0
    sampling: SamplingSettings = PLAIN

    @property
    def described(self) -> str:
        """`as exam 'exam' asks (arte/exam.jinja, 2 worked examples)`."""
        parts = [self.template.name] if self.template is not None else []
        parts += [f"conversations of '{self.messages_column}'"] if self.messages_column else []
        parts += ["its system message"] if self.system else []
        parts += [f"{len(self.tools)} tools"] if self.tools else []
        parts += [f"{self.shots} worked example{'s' * (self.shots > 1)}"] if self.shots else []
        return f"as {self.by} asks" + (f" ({', '.join(parts)})" if parts else "")

    @property
    def needs(self) -> list[str]:
        """What the template reads of a row."""
        if self.template is None:
            return []
        return sorted(self.template.variables - self.variables.keys() - {"examples"})

    def row(self, question: str) -> Row:
        """A typed question as a row.

        Raises:
            ConfigError: the template reads more of a row than one text.
        """
        if self.template is None:
            return {"question": question}
        if len(self.needs) != 1:
            read = ", ".join(self.needs) or "nothing of a row"
            raise ConfigError(
                f"template {self.template.name} reads {read}, so one text does not fill it; give "
                "rows with these columns (--file), or the whole prompt (--raw)"
            )
        return {self.needs[0]: question}

    def request(
        self,
        identity: str,
        row: Row,
        prompt_format: PromptFormat,
        sampling: SamplingSettings,
        history: Sequence[Message] = (),
    ) -> Request:
        """What the model is asked.

        Args:
            identity: the request's id, and the draw of its worked examples.
            row: a question with whatever else the template reads; or a conversation.
            prompt_format: the model's.
            sampling: how the answer is drawn.
            history: the turns before, of a chat.

        Raises:
            DataError: the row lacks something.
        """
        seed = derive_seed(self.seed, identity, "ask")
        conversation = self._conversation(row)
        if conversation is None:
            text = self._text(identity, row)
            if prompt_format == "text":
                return Request(identity, text, sampling, seed)
            conversation = list(as_messages(text))
        elif prompt_format == "text":
            raise DataError("a conversation, and the model has prompt_format: text; give a text")
        tools = tuple(read_tools(row.get("tools"), identity)) or self.tools
        opening: list[Message] = []
        if self.system and not (history or conversation[0]["role"] == "system"):
            opening = [{"role": "system", "content": self.system}]
        return Request(identity, [*opening, *history, *conversation], sampling, seed, tools=tools)

    def _conversation(self, row: Row) -> list[Message] | None:
        """The turns of a row that holds some, up to the one that the model is to write."""
        for column in (self.messages_column, "messages", "prompt"):
            value = row.get(column) if column else None
            if value is not None and (column != "prompt" or is_conversation(value)):
                return begun(read_messages(value, f"column '{column}'"), "last").said
        return None

    def _text(self, identity: str, row: Row) -> str:
        if self.template is None:
            return _question(row, ASKED)
        values = {**row, **self.variables, "examples": []}
        if len(self.needs) == 1 and values.get(self.needs[0]) is None:
            values[self.needs[0]] = _question(row, [*dict.fromkeys([*self.needs, *ASKED])])
        missing = [name for name in self.needs if name not in values]
        if missing:
            raise DataError(
                f"no column {', '.join(missing)}, which template {self.template.name} reads; "
                f"there are {', '.join(sorted(row))}"
            )
        if self.shots:
            drawn_by = derive_seed(self.seed, identity, "examples")
            asked = {**row, "id": identity, "question": values.get("question")}
            values["examples"] = draw_examples(asked, self._pools(row), self.shots, drawn_by)
        return render_prompt(self.template, values)

    def _pools(self, row: Row) -> Mapping[str, Sequence[Row]]:
        """The worked examples by task; for a row that names no task, all of them."""
        if row.get("task"):
            return self.pools
        return {task_of(row): [example for pool in self.pools.values() for example in pool]}


def _question(row: Row, columns: Sequence[str]) -> str:
    for column in columns:
        value = row.get(column)
        if isinstance(value, str) and value.strip():
            return value
    there = ", ".join(sorted(row)) or "nothing"
    raise DataError(f"no question: a row has one of {', '.join(columns)}; this one has {there}")


def form_of(run: FinishedRun, model: str, shots: int | None) -> PromptForm | None:
    """How the run asked a model: the last exam that names it, its training, or a `generate` stage.

    Args:
        run: whose stages are looked at.
        model: full name of a model.
        shots: worked examples that are wanted; None for the fewest of the exam.

    Raises:
        ConfigError: worked examples are wanted where the run shows none.
    """
    stages = run.pipeline.stages
    for name, stage in reversed(stages.items()):
        if isinstance(stage, Evaluate) and model in stage.models:
            return _of_exam(run, name, stage, shots)
    if shots:
        raise ConfigError(f"--shots: no exam of the run shows worked examples to '{model}'")
    if model in stages:
        return _of_training(run, model)
    for name, stage in reversed(stages.items()):
        if isinstance(stage, Generate) and stage.model == model:
            found = _of_generation(name, stage)
            if found is not None:
                return found
    return None


def chosen_model(run: FinishedRun, name: str | None) -> tuple[str, str]:
    """The model that is to write, and why it is meant where it was not named: `default_model`.

    Raises:
        ConfigError: it gives rows, or is a classifier; or the run has trained no model.
        WorkspaceError: there is none of that name.
    """
    found, why = (run.model_name(name), "") if name else default_model(run)
    if isinstance(run.pipeline.stages.get(found), TrainClassifier):
        raise ConfigError(
            f"'{found}' is a classifier, which writes nothing: new texts are labelled by the stage "
            f"classify (model: {found}), or by transformers' pipeline('text-classification', …) "
            f"with the folder that `{hint('path', run.record.name, found)}` prints"
        )
    return found, why


def default_model(run: FinishedRun) -> tuple[str, str]:
    """The student: the last trained model that the last exam of one names, and why it is meant.

    Raises:
        ConfigError: the run has trained no model.
    """
    stages = run.pipeline.stages
    all_trained = run.trained()
    writing = [t for t in all_trained if not isinstance(stages.get(t), TrainClassifier)]
    trained = writing or all_trained
    examined = examined_model(run.pipeline, trained)
    if examined is not None:
        model, exam = examined
        return model, f"the last trained model that exam '{exam}' names"
    if not trained:
        models = ", ".join(run.pipeline.models) or "none"
        raise ConfigError(
            f"run {run.record.name} has trained no model; name one of its models: {models}"
        )
    return trained[-1], "the last model that the run trained"


def examined_model(pipeline: PipelineConfig, trained: Sequence[str]) -> tuple[str, str] | None:
    """The last of the trained models that the last exam of one names, and that exam."""
    for name, stage in reversed(pipeline.stages.items()):
        if isinstance(stage, Evaluate | EvaluateLmEval):
            named = [model for model in stage.models if model in trained]
            if named:
                return named[-1], name
    return None


def _of_exam(run: FinishedRun, name: str, stage: Evaluate, shots: int | None) -> PromptForm:
    shots = min(stage.shots) if shots is None else shots
    form = PromptForm(
        f"exam '{name}'",
        variables=stage.variables,
        sampling=stage.sampling,
        seed=run.pipeline.seed_of(name),
    )
    if stage.template is None:
        return _of_conversations(run, form, stage.messages_column, stage.rows)
    if shots:
        if stage.examples is None:
            raise ConfigError(f"--shots: exam '{name}' shows no worked examples")
        rows = list(read_rows(run.artifact(stage.examples).path))
        form = replace(form, pools=worked_examples(rows, lambda _: None), shots=shots)
    return replace(form, template=load_template(stage.template))


def _of_training(run: FinishedRun, name: str) -> PromptForm:
    stage = run.pipeline.stages[name]
    form = PromptForm(f"the training of '{name}'")
    column = getattr(stage, "messages_column", None)
    if column is not None:
        return _of_conversations(run, form, column, str(getattr(stage, "rows", "")))
    if isinstance(stage, PromptedRow) and stage.prompt_template is not None:
        template = load_template(stage.prompt_template)
        return replace(form, template=template, variables=stage.variables)
    return form


def _of_generation(name: str, stage: Generate) -> PromptForm | None:
    """Of a stage whose one template reads one text of a row; None for others."""
    if not isinstance(stage.template, str) or stage.system_template or stage.structured_output:
        return None
    template = load_template(stage.template)
    form = PromptForm(f"stage '{name}'", template, stage.variables, sampling=stage.sampling)
    return None if len(form.needs) != 1 or "examples" in template.variables else form


def _of_conversations(
    run: FinishedRun, form: PromptForm, column: str | None, rows: str
) -> PromptForm:
    """With the system message and the tools that all rows begin with."""
    assert column is not None

    def system(row: Row) -> str | None:
        first = read_messages(row[column], rows)[0]
        return first["content"] if first["role"] == "system" else None

    def tools(row: Row) -> tuple[dict[str, Any], ...]:
        return tuple(read_tools(row.get("tools"), rows))

    artifact = run.record.stages.get(rows)
    if artifact is None or artifact.artifact is None:
        return replace(form, messages_column=column)
    path = run.artifact(rows).path

    def first() -> Iterator[Row]:
        return islice(read_rows(path), LOOKED_AT)

    return replace(
        form,
        messages_column=column,
        system=_shared(first(), system),
        tools=_shared(first(), tools) or (),
    )


def _shared(rows: Iterator[Row], of: Callable[[Row], Any]) -> Any:
    """What is the same of each row, else None."""
    found: list[Any] = []
    try:
        for row in rows:
            value = of(row)
            if found and value != found[0]:
                return None
            found = found or [value]
    except DataError:  # a row that the stage left out
        return None
    return found[0] if found else None
