"""What a stage is: its settings, the columns it needs and gives, and `run`.

A stage is one file under `llm_distill/stages/` with one subclass of `Stage`; the file's name is
what the pipeline file writes under `stage:`. References to other stages and to models are typed
fields, and the graph is read off them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from datasets import Dataset, Features

    from llm_distill.engines.base import Completion, Request, Score, ScoreRequest
    from llm_distill.models.sources import ModelSource
    from llm_distill.rows.columns import Row
    from llm_distill.tracking import TrackedRun


@dataclass(frozen=True)
class Reference:
    """Marks a setting that names a stage (`rows`) or a model (`model`)."""

    to: Literal["rows", "model"]


Rows = Annotated[str, Reference("rows")]
"""The name of a stage that yields rows."""

Model = Annotated[str, Reference("model")]
"""A name under `models:`, or the name of a stage that trains a model."""

Columns = frozenset[str] | None
"""Column names; None where they are only known once the data is read."""


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
    """A setting that a stage was given after people had used it.

    It is a part of the fingerprint only where it is not the default, so that what was made before
    there was such a setting is still found.
    """
    return Field(default, description=description, json_schema_extra={"later": True}, **constraints)


@dataclass(frozen=True)
class RowsOutput:
    """Rows that a stage gives, written as they come. `features` names and types every column.

    files: texts for people that lie beside the rows, by file name. They are a part of the artifact.
    """

    rows: Iterable[Row]
    features: Features
    files: Mapping[str, str] | None = None


@dataclass(frozen=True)
class ModelOutput:
    """A model that a stage has saved.

    directory: a full model or a PEFT adapter as `save_pretrained` writes it, with its tokenizer.
    base: what an adapter stands on; None for a full model.
    """

    directory: Path
    base: ModelSource | None = None


class Progress(Protocol):
    """A bar, or plain lines where there is no terminal."""

    def advance(self, n: int = 1, tokens: int = 0, cost: float = 0.0) -> None: ...


class Context(Protocol):
    """What a running stage is given: inputs, models, counters. It writes no artifact."""

    metrics: dict[str, Any]
    """Figures for the manifest and the summary, JSON values."""

    @property
    def seed(self) -> int:
        """The pipeline's seed, or the round's in a `repeat`. Derive from it with `derive_seed`."""
        ...

    @property
    def work_dir(self) -> Path:
        """The stage's own folder. What lies in `work_dir/checkpoints` survives a kill."""
        ...

    @property
    def tracked(self) -> TrackedRun:
        """What the stage's curves are called in an experiment tracker, and where they may lie."""
        ...

    @property
    def pipeline(self) -> Mapping[str, Any]:
        """The pipeline file as it was resolved, for a stage that tells where things come from."""
        ...

    def rows(self, reference: str) -> Dataset: ...

    def each_row(self, reference: str) -> Iterator[Row]:
        """The rows one by one: quicker than a loop over `rows`, a batch in memory at a time."""
        ...

    def training_rows(self, models: Sequence[str]) -> Mapping[str, Iterator[Row]]:
        """By stage, the rows that the models were trained on, as far as this pipeline did it."""
        ...

    def model(self, reference: str) -> ModelSource: ...

    def artifact(self, reference: str) -> Path | None:
        """The folder of what a stage gave, with its manifest; None for a model from outside."""
        ...

    def generate(
        self, model: str, requests: Iterable[Request], *, total: int | None = None
    ) -> Iterator[tuple[Request, Completion]]:
        """Completions in the order of the requests, with a bar; tokens and cost are counted.

        What was written for the same request before, in any run of the workspace, is reused.
        """
        ...

    def score(
        self, model: str, requests: Iterable[ScoreRequest], *, total: int | None = None
    ) -> Iterator[tuple[ScoreRequest, Score]]:
        """As `generate`, for the likelihoods of given completions."""
        ...

    def close_engines(self) -> None:
        """Free the memory of the models that were asked, before the stage loads one itself."""
        ...

    def holds_structure(self, model: str) -> bool:
        """Whether its engine can hold a completion to a form (`Request.structure`)."""
        ...

    def drop(self, reason: str, count: int = 1) -> None:
        """Count rows that were read and are not passed on."""
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
    """Whether it loads all of its models itself, as every training does; see `loads`."""
    version: ClassVar[int] = 1
    """Raise it when the same settings would give another result: old artifacts are not reused."""
    is_repeated: ClassVar[bool] = False
    """Whether it is done anew in every run: what it changes lies outside the workspace."""
    former_settings: ClassVar[Mapping[str, Any]] = {}
    """Settings that it no longer has, at the value that it always has now.

    They stay a part of the fingerprint, so that what was made with that value is still found. Those
    of the classes above count too, and settings within settings may have their own.
    """

    stage: str

    def loads(self, place: str) -> bool:
        """Whether it loads the model at this place of its settings itself: no server will do."""
        return self.output == "model" or self.needs_weights

    def required_columns(self) -> Mapping[str, Iterable[str]]:
        """Columns that each input must have, by the reference's value."""
        return {}

    def remedy(self, column: str) -> str | None:
        """What to do where an input lacks a required column; None where a name is mistyped."""
        return None

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        """Columns of the output given those of the inputs, by the reference's value."""
        raise TypeError(f"{type(self).__name__} gives rows but does not say which columns")

    def template_variables(self, inputs: Mapping[str, Columns]) -> Mapping[str, Columns]:
        """The templates that the stage renders, each with the variables that it offers them."""
        return {}

    def is_seeded(self) -> bool:
        """Whether the pipeline's seed can change the result."""
        return False

    def source_digests(self) -> dict[str, str]:
        """Digests (or revisions) of what is read from outside the pipeline, such as files."""
        return {}

    def hub_datasets(self) -> list[tuple[str, str | None]]:
        """(name, revision) of what is read from the Hub."""
        return []

    def hub_models(self) -> list[tuple[str, str | None]]:
        """(name, revision) of models that it names itself, not under `models:`."""
        return []

    def may_be_empty(self) -> Iterable[str]:
        """The inputs that may have no rows, by the reference's value.

        Of all others one without rows stops the run before the stage. A student that is already
        right leaves nothing to select: that is a result, and what stands after it passes it on.
        """
        return ()

    def run(self, context: Context) -> RowsOutput | ModelOutput:
        raise TypeError(f"{type(self).__name__} has no run()")


def references(stage: Stage) -> list[tuple[str, str, Literal["rows", "model"]]]:
    """Every reference of a stage: (place such as `models[1]`, name, kind), in field order."""
    found: list[tuple[str, str, Literal["rows", "model"]]] = []
    for field_name, field in type(stage).model_fields.items():
        value = getattr(stage, field_name)
        kind = _reference_kind(field.metadata) or _reference_kind_in(field.annotation)
        if kind is not None and value is not None:
            found.extend((place, name, kind) for place, name in _names(field_name, value))
        elif isinstance(value, BaseModel):
            found.extend((f"{field_name}.{place}", name, k) for place, name, k in _nested(value))
    return found


def rows_of(stage: Stage) -> list[str]:
    """The names of the rows that a stage reads, in field order."""
    return [name for _, name, kind in references(stage) if kind == "rows"]


def models_of(stage: Stage) -> list[str]:
    """The names of the models that a stage asks or trains, in field order.

    A stage that gives a model makes it of the first.
    """
    return [name for _, name, kind in references(stage) if kind == "model"]


def _nested(value: BaseModel) -> list[tuple[str, str, Literal["rows", "model"]]]:
    found: list[tuple[str, str, Literal["rows", "model"]]] = []
    for name, field in type(value).model_fields.items():
        kind = _reference_kind(field.metadata) or _reference_kind_in(field.annotation)
        inner = getattr(value, name)
        if kind is not None and inner is not None:
            found.extend((place, target, kind) for place, target in _names(name, inner))
    return found


def _names(place: str, value: str | Sequence[str]) -> list[tuple[str, str]]:
    if isinstance(value, str):
        return [(place, value)]
    return [(f"{place}[{index}]", name) for index, name in enumerate(value)]


def _reference_kind(metadata: Iterable[Any]) -> Literal["rows", "model"] | None:
    return next((item.to for item in metadata if isinstance(item, Reference)), None)


def _reference_kind_in(annotation: Any) -> Literal["rows", "model"] | None:
    """The mark inside `list[Rows]`, `tuple[Model, ...]` or `Rows | None`."""
    if get_origin(annotation) is Annotated:
        return _reference_kind(get_args(annotation)[1:])
    for argument in get_args(annotation):
        kind = _reference_kind_in(argument)
        if kind is not None:
            return kind
    return None
