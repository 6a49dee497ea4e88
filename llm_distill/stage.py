"""What a stage is: its settings, the columns it needs and gives, and `run`.

A stage is one file under `llm_distill/stages/` with one subclass of `Stage`; the file's name is
what a pipeline file writes after `stage:`. References to other stages and to models are typed
fields, from which the graph is built.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, get_args

from pydantic import BaseModel, ConfigDict, Field

from llm_distill.rows.columns import Row, features

if TYPE_CHECKING:
    from datasets import Dataset, Features

    from llm_distill.engines.base import Completion, Request, Score, ScoreRequest
    from llm_distill.models.sources import ModelSource
    from llm_distill.tracking import TrackedRun


@dataclass(frozen=True)
class Reference:
    """Marks a setting that names a stage (`rows`) or a model (`model`)."""

    to: Literal["rows", "model"]


Rows = Annotated[str, Reference("rows")]
"""The name of a stage that yields rows."""

Model = Annotated[str, Reference("model")]
"""A name under `models:`, or the name of a stage that trains a model."""

Asked = Literal["text", "structure", "likelihoods", "likeliest", "adapters"]
"""What a stage wants of a model's engine; see `Stage.asks`."""

Columns = frozenset[str] | None
"""Column names; None if they are not known until the data is read."""

Values = Mapping[str, frozenset[str]]
"""By column all that it can hold, or in a list; columns whose values are not known are left out."""


def execution_setting(default: Any, description: str, **constraints: Any) -> Any:
    """A setting that cannot change the result (a batch size on the device, a worker count).

    It is recorded in the manifest but is not part of the fingerprint.
    """
    return Field(
        default,
        description=description,
        json_schema_extra={"affects_result": False},
        **constraints,
    )


def later_setting(default: Any, description: str, **constraints: Any) -> Any:
    """A setting that was added to a stage already in use.

    It is part of the fingerprint only if it is not the default, so that what was made before the
    setting existed is still found.
    """
    return Field(default, description=description, json_schema_extra={"later": True}, **constraints)


@dataclass(frozen=True)
class RowsOutput:
    """Rows that a stage yields, written as they come.

    Attributes:
        rows: the rows, usually a generator.
        features: the name and type of every column.
        files: texts for people, by file name, written beside the rows as part of the artifact.
    """

    rows: Iterable[Row]
    features: Features
    files: Mapping[str, str] | None = None


@dataclass(frozen=True)
class ModelOutput:
    """A model that a stage has saved.

    Attributes:
        directory: a full model or PEFT adapter, as `save_pretrained` writes it, and its tokenizer.
        base: the model that an adapter adapts; None for a full model.
    """

    directory: Path
    base: ModelSource | None = None


@dataclass(frozen=True)
class Launch:
    """How a stage's work is done by several processes, which accelerate starts.

    processes: on all machines, as many on each. arguments: of `accelerate launch`.
    on_cpu: no process has a GPU. advice: what to lower where memory runs out.
    machines: of a Ray cluster if there are several, or else this one.
    """

    processes: int
    arguments: tuple[str, ...]
    on_cpu: bool
    advice: str
    machines: int = 1


class Progress(Protocol):
    """A progress bar, or plain lines without a terminal."""

    def advance(
        self, n: int = 1, tokens: int = 0, cost: float = 0.0, requests: int | None = None
    ) -> None:
        """Count `n` more units, and tokens.

        cost: of the stage by now. requests: how many of the units a model was asked for; None where
        the units are none. Only these say how fast it goes: what was known before takes no time.
        """
        ...


class Context(Protocol):
    """What a running stage is given: inputs, models, counters. It does not write artifacts."""

    metrics: dict[str, Any]
    """Figures for the manifest and the summary, JSON values."""

    @property
    def seed(self) -> int:
        """The pipeline's seed, or the round's in a `repeat`. Derive from it with `derive_seed`."""
        ...

    @property
    def work_dir(self) -> Path:
        """The stage's own folder. The contents of `work_dir/checkpoints` survive a kill."""
        ...

    @property
    def tracked(self) -> TrackedRun:
        """What the stage's curves are called in an experiment tracker, and where to write them."""
        ...

    @property
    def pipeline(self) -> Mapping[str, Any]:
        """The resolved pipeline file, for a stage that documents where things come from."""
        ...

    def rows(self, reference: str) -> Dataset: ...

    def each_row(self, reference: str) -> Iterator[Row]:
        """The rows one by one: faster than a loop over `rows`, with one batch in memory."""
        ...

    def training_rows(self, models: Sequence[str]) -> Mapping[str, Iterator[Row]]:
        """By stage, the rows that the models were trained on in this pipeline."""
        ...

    def model(self, reference: str) -> ModelSource: ...

    def artifact(self, reference: str) -> Path | None:
        """The folder of a stage's artifact, manifest included; None for a model from outside."""
        ...

    def generate(
        self,
        model: str,
        requests: Iterable[Request],
        *,
        total: int | None = None,
        adapter: Path | None = None,
    ) -> Iterator[tuple[Request, Completion]]:
        """Completions in the order of the requests, with a bar; tokens and cost are counted.

        What was written for the same request before, in any run of the workspace, is reused.

        adapter: laid over the model on an engine that `asks` was told of; what is written with it
            is not kept.
        """
        ...

    def score(
        self, model: str, requests: Iterable[ScoreRequest], *, total: int | None = None
    ) -> Iterator[tuple[ScoreRequest, Score]]:
        """As `generate`, for the likelihoods of given completions."""
        ...

    def ask_in_turn(self, models: Iterable[str]) -> None:
        """Say that these are asked turn after turn: small ones stay in memory beside each other."""
        ...

    def close_engines(self) -> None:
        """Free the memory of the models that were asked, before the stage loads one itself."""
        ...

    def holds_structure(self, model: str) -> bool:
        """Whether its engine can constrain completions (`Request.structure`)."""
        ...

    def drop(self, reason: str, count: int = 1) -> None:
        """Count rows that are not passed on; a count of 0 is not recorded."""
        ...

    def warn(self, message: str) -> None: ...

    def progress(
        self, description: str, total: int | None = None, unit: str = "rows", done: int = 0
    ) -> AbstractContextManager[Progress]:
        """A bar of `total` units, `done` of which were done before it was opened."""
        ...


class Stage(BaseModel):
    """Base of every stage. The class's docstring is what `llm-distill stages NAME` shows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    output: ClassVar[Literal["rows", "model"]] = "rows"
    needs_weights: ClassVar[bool] = False
    """Whether it loads all of its models itself, as every training stage does; see `loads`."""
    keeps_size: ClassVar[bool] = True
    """Whether a model that it gives is as large as the one it is made from."""
    version: ClassVar[int] = 1
    """Raise it when the same settings would give another result: old artifacts are not reused."""
    always_seeded: ClassVar[bool] = False
    """Whether the seed can change the result whatever the settings; see `is_seeded`."""
    rows_may_be_empty: ClassVar[bool] = False
    """Whether `rows` may have no rows; see `may_be_empty`."""
    is_repeated: ClassVar[bool] = False
    """Whether every run repeats it, because what it changes is outside the workspace."""
    former_settings: ClassVar[Mapping[str, Any]] = {}
    """Removed settings, with the value that is now always used.

    They stay part of the fingerprint, so that what was made with that value is still found. Those
    of the base classes count too, and settings within settings may have their own.
    """

    reads_conversations: ClassVar[bool] = False
    """Whether a column of `read_as_text` may also hold turns of a conversation."""

    added_columns: ClassVar[tuple[str, ...]] = ()
    """The columns that it adds, if it passes on those of `rows`."""

    stage: str
    optional: bool = execution_setting(
        False, "run only where another stage reads it: one of several that stand ready"
    )

    def loads(self, place: str) -> bool:
        """Whether it loads the model at this place in its settings itself, so needs its weights."""
        return self.output == "model" or self.needs_weights

    def if_served(self, place: str) -> str | None:
        """What to do where it would load the model at this place, and that is on a server."""
        return None

    def reads_tokenizer(self, place: str) -> bool:
        """Whether it reads the tokenizer of the model at this place, which may be on a server."""
        return False

    def reads_training(self, place: str) -> bool:
        """Whether it reads what was measured while the model at this place was trained.

        Then it is executed again where that may differ, although the weights are the same.
        """
        return False

    def asks(self, place: str) -> Asked | None:
        """What it wants of the engine of the model at this place; None where it asks no engine.

        The engine's settings are a part of the fingerprint then, and an engine that cannot do it is
        refused before anything runs. structure: text in the form of a request's `structure`.
        likeliest: with the likelihoods of given texts the likeliest tokens at each place.
        adapters: text, with one adapter after another laid over the model.
        """
        return None if self.loads(place) else "text"

    def required_columns(self) -> Mapping[str, Iterable[str]]:
        """Columns that each input must have, by the reference's value."""
        return {}

    def read_as_text(self) -> Mapping[str, Iterable[str]]:
        """Of `required_columns`, those whose names are settings and that must hold text."""
        return {}

    def columns_that_are_new(self) -> Mapping[str, Mapping[str, str]]:
        """Columns that it gives and that an input must not have, each with what to do then.

        By the reference's value, as `required_columns`. What somebody else has said there, such as
        people's labels, would be lost.
        """
        return {}

    def remedy(self, column: str) -> str | None:
        """What to do if an input lacks this column; None if its name must be a typo."""
        return None

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        """Columns of the output given those of the inputs, by the reference's value.

        Unless overridden: those of `rows` and `added_columns`.
        """
        columns = inputs[self._passed_on()]
        return None if columns is None else columns.union(self.added_columns)

    def output_values(self, inputs: Mapping[str, Values]) -> Values:
        """What columns of the output can hold, where settings say it; of inputs as `misfits`.

        Unless overridden: as in `rows`, where those are passed on.
        """
        if self.output != "rows" or type(self).output_columns is not Stage.output_columns:
            return {}
        there = inputs.get(self._passed_on(), {})
        return {name: there[name] for name in there if name not in self.added_columns}

    def misfits(self, inputs: Mapping[str, Values]) -> Iterable[tuple[str, str]]:
        """Settings that name a value which an input cannot hold: (place, message).

        inputs: by the reference's value. Said before anything runs, since what makes an input may
        be dear.
        """
        return ()

    def output_features(self, context: Context) -> Features:
        """The names and types of these columns, for `RowsOutput`."""
        return features(self.added_columns, like=context.rows(self._passed_on()).features)

    def each_row(self, context: Context) -> Iterator[Row]:
        """The rows of `rows` one by one, with a bar."""
        name = self._passed_on()
        with context.progress(self.stage, len(context.rows(name))) as bar:
            for row in context.each_row(name):
                yield row
                bar.advance()

    def _passed_on(self) -> str:
        rows = getattr(self, "rows", None)
        if not isinstance(rows, str):
            raise TypeError(f"{type(self).__name__} gives rows but does not say which columns")
        return rows

    def template_variables(self, inputs: Mapping[str, Columns]) -> Mapping[str, Columns]:
        """The templates that the stage renders, each with the variables available to it."""
        return {}

    def further_settings(self) -> Mapping[str, Any]:
        """By place, execution settings that can change the result of this stage after all."""
        return {}

    def is_seeded(self) -> bool:
        """Whether the pipeline's seed can change the result."""
        return self.always_seeded

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        """How many rows it gives at most, given those of its inputs; None where that is not known.

        Unless overridden: no more than `rows` has, where it passes those on.
        """
        passes_on = type(self).output_columns is Stage.output_columns
        return rows.get(self._passed_on()) if passes_on and self.output == "rows" else None

    def most_asked(self, rows: Mapping[str, int | None]) -> Mapping[str, tuple[int, int]] | None:
        """By model, how many requests at most and the most tokens of an answer; as `most_rows`."""
        asks = any(kind == "model" and self.asks(place) for place, _, kind in references(self))
        return None if asks else {}

    def fewest_rows(self) -> Iterable[tuple[str, str, int]]:
        """Inputs with fewer rows than this stop it for certain: (place that says so, input, n)."""
        return ()

    def why_no_adapter(self) -> str | None:
        """Why the model that it gives is not one that vLLM takes beside the weights below it.

        None: it is a LoRA adapter on linear layers, and nothing else.
        """
        return "it gives whole weights"

    def launched(self) -> Launch | None:
        """The processes that do its work together; None where one does. Asked in its worker."""
        return None

    def missing(self) -> Iterable[tuple[str, str]]:
        """What its settings need and is not there, such as a package: (place, message)."""
        return ()

    def source_digests(self) -> dict[str, str]:
        """Digests or revisions of what is read from outside the pipeline, such as files."""
        return {}

    def hub_datasets(self) -> list[tuple[str, str | None]]:
        """(name, revision) of what is read from the Hub."""
        return []

    def hub_models(self) -> list[tuple[str, str | None]]:
        """(name, revision) of models named in its own settings, not under `models:`."""
        return []

    def may_be_empty(self) -> Iterable[str]:
        """The inputs that may have no rows, by the reference's value.

        Any other input without rows stops the run before the stage. A student that is already
        right leaves nothing to select: that is a result, and the stages after it pass it on.
        """
        return (self._passed_on(),) if self.rows_may_be_empty else ()

    def run(self, context: Context) -> RowsOutput | ModelOutput:
        raise TypeError(f"{type(self).__name__} has no run()")


def references(
    settings: BaseModel, within: str = ""
) -> list[tuple[str, str, Literal["rows", "model"]]]:
    """Every reference of a stage: (place such as `models[1]`, name, kind), in field order.

    Of references by name the place is such as `teachers.math`, and of settings by name such as
    `speakers.tutor.model`.

    Args:
        settings: the stage, or settings inside it.
        within: the place of `settings` in the stage, ending in a dot.
    """
    found: list[tuple[str, str, Literal["rows", "model"]]] = []
    for field, info in type(settings).model_fields.items():
        value, place = getattr(settings, field), f"{within}{field}"
        kind = _reference_kind((info.annotation, *info.metadata))
        if isinstance(value, BaseModel):
            found.extend(references(value, f"{place}."))
        elif isinstance(value, Mapping) and any(isinstance(v, BaseModel) for v in value.values()):
            for key, inner in value.items():
                found.extend(references(inner, f"{place}.{key}."))
        elif kind is not None and isinstance(value, str):
            found.append((place, value, kind))
        elif kind is not None and isinstance(value, Mapping):
            found.extend((f"{place}.{key}", name, kind) for key, name in value.items())
        elif kind is not None and value is not None:
            found.extend((f"{place}[{index}]", name, kind) for index, name in enumerate(value))
    return found


def rows_of(stage: Stage) -> list[str]:
    """The names of the rows that a stage reads, in field order."""
    return [name for _, name, kind in references(stage) if kind == "rows"]


def tokenizers_of(stage: Stage) -> set[str]:
    """The models whose tokenizers a stage reads, wherever the models are."""
    return {
        target
        for place, target, kind in references(stage)
        if kind == "model" and stage.reads_tokenizer(place)
    }


def models_of(stage: Stage) -> list[str]:
    """The names of the models that a stage asks or trains, in field order.

    A stage that gives a model makes it from the first.
    """
    return [name for _, name, kind in references(stage) if kind == "model"]


def _reference_kind(parts: Iterable[Any]) -> Literal["rows", "model"] | None:
    """The mark among the parts of an annotation, or inside one, as in `list[Rows]`."""
    for part in parts:
        kind = part.to if isinstance(part, Reference) else _reference_kind(get_args(part))
        if kind is not None:
            return kind
    return None
