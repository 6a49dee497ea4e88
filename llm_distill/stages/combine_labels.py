"""One label a text from the labels of several teachers.

in:  {"id": "n1", "text": "…", "label": "arts", "choices": ["arts", "sports"],
      "probabilities": [0.6, 0.4]} of `first`, {"id": "n1", "label": "sports",
      "choices": ["sports", "arts"], "probabilities": [0.9, 0.1]} of `second`
out: {"id": "n1", "text": "…", "label": "sports", "confidence": 0.65, "choices": ["arts", "sports"],
      "probabilities": [0.35, 0.65], "agrees": false}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llm_distill.errors import DataError, counted, nearest
from llm_distill.evaluation.label_figures import label_shares
from llm_distill.evaluation.results import shown
from llm_distill.evaluation.teacher_figures import held_out_table, teacher_table
from llm_distill.methods.label_combination import How, chosen
from llm_distill.methods.labels import likeliest
from llm_distill.methods.teacher_labels import (
    Held,
    TeacherLabels,
    check_same_rows,
    held_out,
    same_labels,
)
from llm_distill.rows.columns import Row, features
from llm_distill.rows.label_lists import listed_labels
from llm_distill.rows.user_lists import list_digests
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage, later_setting

ADDED = ("label", "confidence", "choices", "probabilities", "agrees")
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Temperature = Annotated[float, Field(ge=0.01, le=100)]


class CombineLabels(Stage):
    """Joins the rows of several labelling stages by `id`, and their labels by name.

    `mean` is the weighted mean of the teachers' probabilities (linear pool), `product` their
    weighted geometric mean (logarithmic pool; a thousandth is spread evenly first, so that no 0 is
    a veto), `best` the one teacher that is right most often on validation rows, `surest` in each
    row the teacher with the highest probability. Weights and temperatures are given, or chosen by
    the log-loss on validation rows, temperatures first. A temperature divides a teacher's logits:
    above 1 it is made less sure.

    The texts are those of the first stage. A text that a teacher did not label is combined from
    the others, and counted; one without a label of any teacher that has a weight is dropped. A
    label without probabilities counts as certain, in `mean` and `best`; the others refuse it.
    `agrees` says whether all teachers' likeliest labels are the same.
    """

    version: ClassVar[int] = 2
    stage: Literal["combine_labels"]
    rows: list[Rows] = Field(
        min_length=1, description="the stages that labelled the same texts, one a teacher"
    )
    how: How = Field("mean", description="how the teachers' probabilities become one")
    weights: Literal["equal", "validated"] | dict[str, Weight] = Field(
        "equal",
        description="of mean and product: equal; validated: those with the lowest log-loss on "
        "`validation`; or stage: its weight, of which only the ratios matter",
    )
    temperatures: Literal["validated"] | dict[str, Temperature] = Field(
        {},
        description="stage: its temperature, 1 where it has none; validated: those with the lowest "
        "log-loss on `validation`",
    )
    validation: dict[str, Rows] = Field(
        {},
        description="stage: the stage with the same teacher's labels of the validation rows; the "
        "first one's have the right labels",
    )
    reference_column: str = Field(
        "reference_answer", min_length=1, description="the right labels of the validation rows"
    )
    labels: str | None = Field(
        None,
        min_length=1,
        description="a YAML file with the labels; null: those of the teachers, which must be the "
        "same. What lies on others, such as an abstention, is left out",
    )

    keep_each: bool = later_setting(
        False,
        "each teacher's own probabilities are kept too (`teacher_probabilities`), for the "
        "fusion_rows of train_classifier",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(set(self.rows)) < len(self.rows):
            raise ValueError("rows: each stage can be named once; to count one more give weights")
        for name in ("weights", "temperatures", "validation"):
            given = getattr(self, name)
            self._check_names(given if isinstance(given, Mapping) else {}, name)
        if self.how in ("best", "surest") and self.weights != "equal":
            raise ValueError(f"weights: how: {self.how} takes one teacher; leave them out")
        if isinstance(self.weights, Mapping) and not any(self.weights.values()):
            raise ValueError("weights: all are 0, so there is nothing to combine")
        for name in ("weights", "validation"):
            given = getattr(self, name)
            for each in self._teachers if given and isinstance(given, Mapping) else ():
                if each not in given:
                    other = "; 0 leaves it out" if name == "weights" else ""
                    raise ValueError(f"{name}: '{each}' has none{other}")
        if self._validated and not self.validation:
            raise ValueError(
                f"{self._validated} is chosen on validation rows; say where each teacher's labels "
                "of them are (validation: {stage: its stage on them})"
            )
        if self.labels is not None:
            try:
                listed_labels(self.labels)
            except DataError as error:
                raise ValueError(f"labels: {error}") from error
        return self

    def _check_names(self, given: Mapping[str, Any], setting: str) -> None:
        for name in given:
            if name not in self._teachers:
                raise ValueError(f"{setting}: no '{name}' in rows; {nearest(name, self._teachers)}")

    @property
    def _teachers(self) -> dict[str, str]:
        """Name in the settings, without the round of a `repeat`, to the stage with its rows."""
        return {name.partition("@")[0]: name for name in self.rows}

    @property
    def _validated(self) -> str | None:
        """What is chosen on validation rows."""
        if self.how == "best":
            return "how: best"
        settings = ("weights", "temperatures")
        return next((f"{s}: validated" for s in settings if getattr(self, s) == "validated"), None)

    def source_digests(self) -> dict[str, str]:
        return {} if self.labels is None else list_digests(self.labels)

    def required_columns(self) -> dict[str, set[str]]:
        needed = {name: {"id", "label"} for name in self.rows}
        for place, name in enumerate(self.validation.get(each, "") for each in self._teachers):
            if name:
                right = {self.reference_column} if place == 0 else set()
                needed.setdefault(name, set()).update({"id", "label", *right})
        return needed

    def remedy(self, column: str) -> str | None:
        return "label and classify give it" if column == "label" else None

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        columns = inputs[self.rows[0]]
        return None if columns is None else columns.union(self._added())

    def _added(self) -> list[str]:
        return [*ADDED, *(["teacher_probabilities"] if self.keep_each else [])]

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        return rows[self.rows[0]]

    def run(self, context: Context) -> RowsOutput:
        like = context.rows(self.rows[0]).features
        return RowsOutput(self._rows(context), features(self._added(), like=like))

    def _rows(self, context: Context) -> Iterator[Row]:
        of = {each: _read(context, name) for each, name in self._teachers.items()}
        held = {each: _read(context, self.validation[each]) for each in of if self.validation}
        self._check(context, of)
        names = self._names([*of.values(), *held.values()])
        on = self._held_out(context, held, names) if held else None
        how = chosen(self.how, [*of], self.weights, self.temperatures, on)
        counts, given = Counter[str](), Counter[str]()
        agree: list[bool] = []
        for row in context.each_row(self.rows[0]):
            found = {each: labels.of(row["id"], names) for each, labels in of.items()}
            said = {each: p for each, p in found.items() if p is not None}
            given.update([*said])
            together = how.of(said)
            if together is None:
                context.drop("no label of a teacher that counts")
                continue
            label, sure = likeliest(together, names)
            counts[label] += 1
            agrees = None
            if len(said) > 1:
                agrees = len({likeliest(p, names)[0] for p in said.values()}) == 1
                agree.append(agrees)
            yield {
                **row,
                **({"error": None} if "error" in row else {}),
                "label": label,
                "confidence": sure,
                "choices": names,
                "probabilities": together,
                "agrees": agrees,
                **({"teacher_probabilities": how.each_of(said, names)} if self.keep_each else {}),
            }
        if not counts:
            raise DataError(f"no row of '{self.rows[0]}' has a teacher's label to combine")
        self._say_missing(context, of, given)
        n_rows = len(of[next(iter(of))].rows)
        tables = [teacher_table(how, {each: given[each] / n_rows for each in of})]
        tables += [] if on is None else [held_out_table(on, how.of_held(on))]
        tables.append(label_shares(counts, names, counts.total()))
        context.metrics.update(
            agree=sum(agree) / len(agree) if agree else None,
            labels=dict(counts.most_common()),
            **shown(*tables),
        )

    def _names(self, of: list[TeacherLabels]) -> list[str]:
        if self.labels is None:
            return same_labels(of)
        return [each.name for each in listed_labels(self.labels)]

    def _check(self, context: Context, of: Mapping[str, TeacherLabels]) -> None:
        """Raises DataError: the teachers do not go together, or one has no probabilities."""
        first, *others = of.values()
        for other in others:
            check_same_rows(first, other)
            extra = len(other.rows.keys() - first.rows.keys())
            if extra:
                context.warn(
                    f"{counted(extra, 'row')} of '{other.stage}' not in '{first.stage}': left out"
                )
        for each, labels in of.items():
            needs = f"how: {self.how}" if self.how in ("product", "surest") else None
            if self.temperatures == "validated" or each in self.temperatures:
                needs = "a temperature"
            if needs is not None and labels.uncertain is not None:
                raise DataError(
                    f"{needs} needs probabilities, and row {labels.uncertain} of '{labels.stage}' "
                    "has a label alone; label with confidence: likelihood or samples, or take how: "
                    "mean without a temperature"
                )

    def _held_out(
        self, context: Context, held: Mapping[str, TeacherLabels], names: Sequence[str]
    ) -> Held:
        first = next(iter(held.values())).stage
        right = {row["id"]: row[self.reference_column] for row in context.each_row(first)}
        on = held_out(held, right, names)
        if on.left_out:
            context.warn(
                f"{counted(on.left_out, 'validation row')} without a right label, or not labelled "
                "by all teachers: not used"
            )
        return on

    def _say_missing(
        self, context: Context, of: Mapping[str, TeacherLabels], given: Mapping[str, int]
    ) -> None:
        n_rows = len(of[next(iter(of))].rows)
        missing = {each: n_rows - given[each] for each in of}
        context.metrics["missing"] = missing
        for each, n in missing.items():
            malformed = of[each].malformed
            why = ", ".join(f"{reason}: {count:,}" for reason, count in malformed.items())
            if malformed and malformed.total() == len(of[each].rows):
                raise DataError(f"no row of '{of[each].stage}' can be read ({why})")
            if malformed:
                context.warn(f"rows of '{of[each].stage}' that cannot be read: {why}")
            if n:
                context.warn(
                    f"{counted(n, 'text')} without a label by '{of[each].stage}': combined from "
                    "the others, or dropped where there are none"
                )


def _read(context: Context, name: str) -> TeacherLabels:
    return TeacherLabels.read(name, context.each_row(name))
