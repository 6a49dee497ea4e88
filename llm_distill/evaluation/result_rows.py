"""The rows of what stages measured, as types. Pure.

A field's name is its key in a manifest's `metrics`, except for `group`, whose key is the name of
the column that a table is broken down by, and `means`, each of which has a key of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

Number = Annotated[float, Field(allow_inf_nan=False)]
Kind = Literal["share", "points", "number", "difference"]
FigureName = Literal[
    "agreement", "kappa", "alpha", "label_loyalty", "probability_loyalty", "gap_to_people"
]
T = TypeVar("T")

MEAN_BY = "mean_by_"


def percent(share: float) -> str:
    """`57.5%`: every share that people read is written so, in tables as in plots."""
    return f"{share:.1%}"


@dataclass(frozen=True)
class Figure:
    """A measured value.

    Attributes:
        labels: What it is the value of, such as `{"model": "student", "shots": "3"}`.
        value: The value; for shares and points a share in [-1, 1].
        low: Lower end of its 95 % interval, in the value's unit.
        high: Upper end of its 95 % interval, in the value's unit.
        n: Number of items that it was measured on.
        kind: How it is written: `share` as a percentage, `points` as a signed difference in
            percentage points, `number` unchanged, `difference` as a number with its sign.
    """

    labels: Mapping[str, str]
    value: Number
    low: Number | None = None
    high: Number | None = None
    n: int | None = None
    kind: Kind = "number"

    def __str__(self) -> str:
        return f"{self.written} ({self.interval})" if self.interval else self.written

    @property
    def names(self) -> list[str]:
        """Its labels' values, such as `student` and `3-shot`: what tells it from the others."""
        return [f"{v}-shot" if name == "shots" else v for name, v in self.labels.items()]

    @property
    def written(self) -> str:
        return self._written(self.value)

    @property
    def interval(self) -> str:
        """`0.2 to 0.4`, or nothing where it is unknown."""
        if self.low is None or self.high is None:
            return ""
        return f"{self._written(self.low)} to {self._written(self.high)}"

    def _written(self, value: float) -> str:
        if math.isnan(value):
            return ""
        if self.kind == "share":
            return percent(value)
        if self.kind == "points":
            return f"{100 * value:+.1f}"
        return f"{value:+.3g}" if self.kind == "difference" else f"{value:.4g}"


@dataclass(frozen=True, kw_only=True)
class ExamRow:
    """A model's results on an exam's items, or on a group of them; what is None was not counted.

    Attributes:
        shots: Number of worked examples.
        group: The value of a column that these items have; None for all items.
        n: Number of items.
        tokens: Tokens that the model wrote.
        means: Column to the mean of the accuracies by its values.
        samples: Number of answers to each item; None for one.
        pass_at: k to the share of items of which one of k answers is right.
        majority: Accuracy of each item's most frequent answer.
        forms: The form of an answer, such as tag or sentence, to how many had it.
    """

    model: str
    shots: int | None = None
    group: str | None = None
    accuracy: Number
    low: Number | None = None
    high: Number | None = None
    n: int | None = None
    parse_failures: int | None = None
    truncated: int | None = None
    errors: int | None = None
    tokens: int | None = None
    means: Mapping[str, Number] = field(default_factory=dict)
    samples: int | None = None
    pass_at: Mapping[str, Number] | None = None
    majority: Number | None = None
    forms: Mapping[str, int] | None = None

    @property
    def written_forms(self) -> str:
        """`tag 12, sentence 3`, or nothing where forms were not counted."""
        return ", ".join(f"{form} {count}" for form, count in (self.forms or {}).items())

    @property
    def as_figure(self) -> Figure:
        labels = _labels(model=self.model, shots=self.shots, group=self.group)
        return Figure(labels, self.accuracy, self.low, self.high, self.n, "share")


@dataclass(frozen=True, kw_only=True)
class HarnessRow:
    """A metric of lm-evaluation-harness; filter: how answers were read, `none` for unchanged."""

    model: str
    task: str
    shots: int | None = None
    metric: str
    filter: str = "none"
    value: Number
    stderr: Number | None = None
    low: Number | None = None
    high: Number | None = None
    n: int | None = None
    higher_is_better: bool | None = None

    @property
    def as_figure(self) -> Figure:
        how = None if self.filter == "none" else self.filter
        labels = _labels(
            model=self.model, task=self.task, metric=self.metric, filter=how, shots=self.shots
        )
        return Figure(labels, self.value, self.low, self.high, self.n)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Difference in accuracy between two models on the same items, as a share.

    Attributes:
        p_value: Of McNemar's test; None where items have several answers.
        group: As of `ExamRow`.
    """

    model: str
    baseline: str
    shots: int | None = None
    difference: Number
    low: Number | None = None
    high: Number | None = None
    n: int | None = None
    p_value: Number | None = None
    group: str | None = None

    @property
    def as_figure(self) -> Figure:
        labels = _labels(model=f"{self.model} − {self.baseline}", shots=self.shots)
        return Figure(labels, self.difference, self.low, self.high, self.n, "points")


@dataclass(frozen=True, kw_only=True)
class AgreementRow:
    """How far annotators agree; value is None where the figure is undefined."""

    figure: FigureName | Literal["weighted_kappa"]
    annotators: tuple[str, ...]
    value: Number | None = None
    low: Number | None = None
    high: Number | None = None
    n: int | None = None

    @property
    def as_figure(self) -> Figure:
        """Its value is NaN where it is undefined."""
        labels = _labels(model=", ".join(self.annotators), metric=self.figure)
        value = math.nan if self.value is None else self.value
        return Figure(labels, value, self.low, self.high, self.n)


@dataclass(frozen=True, kw_only=True)
class SkillRow:
    """A skill that a student lacks; weight: its share of all labels, with its interval."""

    id: str
    task: str = ""
    skill: str
    count: int
    weight: Number
    weight_low: Number
    weight_high: Number

    @property
    def as_figure(self) -> Figure:
        ends = self.weight_low, self.weight_high
        return Figure({"skill": self.skill}, self.weight, *ends, self.count, "share")


@dataclass(frozen=True, kw_only=True)
class AlignmentFigures:
    """How the texts of teacher and student aligned.

    Attributes:
        dropped: Reason to the number of rows left out for it.
        examples: The first few rows whose texts differ, and where.
        share_of_bytes: Share of the contents' bytes in chunks that are compared.
    """

    n_rows: int | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    n_chunks: int | None = None
    share_of_bytes: Number | None = None
    teacher_tokens_per_chunk: Number | None = None
    student_tokens_per_chunk: Number | None = None


@dataclass(frozen=True, kw_only=True)
class WritingRow:
    """How the answers to some prompts are written; `llm_distill.methods.collapse.Habits` says more.

    answers: whose they are: the model's before or after its training, or the rows'.
    entropy: mean over answers of the mean over tokens, in nats; the rows' have none.
    """

    answers: str
    ended: Number
    length: Number
    repeated: Number
    same: Number
    readable: Number | None = None
    entropy: Number | None = None


@dataclass(frozen=True, kw_only=True)
class AnsweredPrompt:
    """What a model wrote before and after its training."""

    prompt: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class PlaceRow:
    """A piece of a text, with the log-probabilities that a teacher and a student give it.

    row: the id of the text's row. place: the piece in ⟦⟧, with a little of the text around it.
    """

    row: str
    place: str
    teacher: Number
    student: Number

    @property
    def gap(self) -> float:
        return self.teacher - self.student


@dataclass(frozen=True, kw_only=True)
class Contamination:
    """Items of an exam that are found in rows.

    Attributes:
        ngram: Words in an n-gram, for the tasks that are compared by n-grams.
        compared: Task to what is compared, in words.
        rows: Stage to the number of items in its rows.
        items: Stage to the ids of some of them.
    """

    ngram: int | None = None
    compared: Mapping[str, str] | None = None
    n_items: int | None = None
    rows: Mapping[str, int]
    items: Mapping[str, Sequence[str]] = field(default_factory=dict)


def read(kind: type[T], row: Any, column: str = "") -> T | None:
    """A mapping of a manifest as a row; a value of another type counts as missing.

    Args:
        kind: The row's type.
        row: The mapping.
        column: What the table is broken down by.

    Returns:
        The row; None where a required field is missing.
    """
    if not isinstance(row, Mapping):
        return None
    means = {k.removeprefix(MEAN_BY): v for k, v in row.items() if k.startswith(MEAN_BY)}
    stated = {**row, "group": row.get(column), "means": means}
    given = {}
    for name, adapter in _adapters(kind).items():  # type: ignore[arg-type]
        try:
            given[name] = adapter.validate_python(stated[name])
        except (KeyError, ValidationError):
            continue
    try:
        return kind(**given)
    except TypeError:
        return None


def written(row: Any, column: str = "") -> dict[str, Any]:
    """A row as plain JSON for a manifest, the inverse of `read`."""
    found: dict[str, Any] = {}
    for name in (each.name for each in fields(row)):
        value = getattr(row, name)
        if name == "group":
            found |= {column: value} if column else {}
        elif name == "means":
            found |= {f"{MEAN_BY}{of}": mean for of, mean in value.items()}
        elif isinstance(value, Mapping):
            found[name] = dict(value)
        elif value is not None or not isinstance(row, ExamRow):
            found[name] = list(value) if isinstance(value, tuple) else value
    return found


def is_number(value: Any) -> bool:
    """Whether it is a finite number of any type, numpy's and booleans too."""
    return hasattr(value, "__float__") and math.isfinite(value)


@cache
def _adapters(kind: type) -> dict[str, TypeAdapter[Any]]:
    config = ConfigDict(coerce_numbers_to_str=True)
    hints = get_type_hints(kind, include_extras=True)
    return {each.name: TypeAdapter(hints[each.name], config=config) for each in fields(kind)}


def _labels(**labels: str | int | None) -> dict[str, str]:
    return {name: str(label) for name, label in labels.items() if label is not None}
