"""How far annotators agree: columns of labels, or the rows of models that took the same exam.

in:  {"id": "t1-teacher-0", "parent_id": "t1", "model": "teacher", "answer": "4"} and
     {"id": "t1-student-0", "parent_id": "t1", "model": "student", "answer": "5"}
out: {"id": "t1", "teacher": "4", "student": "5", "agrees": false}

With `by: category`, whether each category of yes-or-no labels can be relied on:
in:  {"id": "c1-setup", "category": "setup", "model": "yes", "h1": "yes", "h2": "no"}
out: {"id": "setup", "passes": false, "kappa_hh": 0.95, "kappa_hm": 0.85, "low_hh": 0.75,
      "low_hm": 0.68, "n": 289, "n_positive": 11}
With `by_label: true` the same of each label:
in:  {"id": "t1", "model": "guess", "h1": "guess", "h2": "method"}, or lists of labels
out: {"id": "guess", "passes": true, "kappa_hh": 0.9, …}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llm_distill.errors import DataError
from llm_distill.evaluation.agreement_figures import (
    below,
    category_line,
    category_notes,
    category_table,
    label_figures,
    line,
    loyalty_figure,
    name_of,
    people_figures,
)
from llm_distill.evaluation.labelled_categories import (
    LabelledCategories,
    categories,
    chosen_items,
)
from llm_distill.evaluation.labelled_items import Item, LabelledRows, loyalties
from llm_distill.evaluation.result_rows import FigureName
from llm_distill.evaluation.results import Results, shown
from llm_distill.methods.agreement import Label, Level, labelled, tabulate
from llm_distill.methods.category_gate import CategoryKappas
from llm_distill.rows.columns import Row
from llm_distill.rows.label_lists import said_alike
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage, later_setting

OF_CATEGORY = {
    "id": "string", "passes": "bool", "kappa_hh": "float64", "kappa_hm": "float64",
    "low_hh": "float64", "low_hm": "float64", "n": "int64", "n_positive": "int64",
}  # fmt: skip
"""The columns of a row of a category, with their types."""


class LowerBounds(BaseModel):
    """What the lower ends of a category's intervals have to be above."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kappa_hh: float = Field(0.8, ge=-1, lt=1, description="of people with each other")
    kappa_hm: float = Field(0.6, ge=-1, lt=1, description="of the model with people")


class Agreement(Stage):
    """Agreement between annotators with 95 % intervals, and a gate.

    For every two annotators: `agreement`, the share of equal labels, and Cohen's `kappa`, over the
    items that both labelled. For all together: Krippendorff's `alpha`. For the first, as a teacher,
    with each other, as its student: `label_loyalty`, where a missing label is a miss, and, with
    probabilities, `probability_loyalty` (1 − √JSD). Labels are compared as they are written.
    With `people`: `gap_to_people`, the teacher's mean alpha with each of them less theirs with each
    other, and the same by label. With `minimum` the run fails if a figure is lower or undefined,
    and lists all figures.

    With `by`, each category of yes-or-no labels is a figure of its own: `kappa_hh` of people with
    each other and `kappa_hm` of the first annotator with them. It passes where the lower ends of
    both 95 % intervals are above `lower_bounds`. Items on which a prompt was chosen (`chosen_on`)
    are left out: on those the model agrees better than it will. With `by_label` each label is such
    a category: an annotator gives it to a row, or does not.
    """

    version: ClassVar[int] = 2
    former_settings: ClassVar[Mapping[str, Any]] = {
        "annotator_column": "model",
        "item_column": "parent_id",
    }
    stage: Literal["agreement"]
    rows: Rows = Field(description="the stage whose rows have the labels")
    annotators: tuple[str, ...] = Field(
        min_length=2,
        description="the columns with the labels; with `label`, values of the column `model`. A "
        "teacher comes first",
    )
    label: str | None = Field(
        None,
        description="the column with the label, if each row has the label that its `model` gave "
        "to its `parent_id`",
    )
    where: dict[str, str | bool | int | float] = Field(
        {}, description="only rows with these values, such as shots: 0"
    )
    probabilities: tuple[str, ...] = Field(
        (),
        description="columns with the probabilities of an item's labels, one per annotator; with "
        "`label`, the single column with them",
    )
    people: tuple[str, ...] = later_setting(
        (),
        "annotators that are people, two or more: `gap_to_people` is how much less the first, a "
        "teacher, agrees with them than they with each other",
    )
    level: Level = Field(
        "nominal", description="how alpha weighs differences; ordinal, interval need numbers"
    )
    minimum: dict[FigureName, float] = Field(
        {}, description="the lowest figures with which the run continues, such as kappa: 0.6"
    )
    by: str | None = later_setting(
        None,
        "the column with the category of yes-or-no labels; a row for each category, with whether "
        "it passes",
        min_length=1,
    )
    by_label: bool = later_setting(
        False,
        "each label is a category of its own, as with `by`; the columns have one label a row, or "
        "a list of them",
    )
    positive: str = later_setting("yes", "with `by`: the label that says yes, whatever its case")
    lower_bounds: LowerBounds = later_setting(
        LowerBounds(), "with `by`, `by_label`: what the lower ends of the kappas have to be above"
    )
    on_failure: Literal["mark", "stop"] = later_setting(
        "mark",
        "with `by`, `by_label`: mark: a category that does not pass gets `passes: false`, and its "
        "row is written like the others; stop: the run ends",
    )
    chosen_on: Rows | None = later_setting(
        None, "with `by`, `by_label`: the rows on which a prompt was chosen; they are left out"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len({*self.annotators, "id", "agrees"}) < len(self.annotators) + 2:
            raise ValueError("annotators: each can be named once, and not `id` or `agrees`")
        wanted = len(self.annotators) if self.label is None else 1
        if self.probabilities and len(self.probabilities) != wanted:
            raise ValueError(
                f"probabilities: {len(self.probabilities)} columns, but {wanted} needed"
            )
        if "probability_loyalty" in self.minimum and not self.probabilities:
            raise ValueError("minimum: probability_loyalty needs `probabilities`")
        others = self.annotators[1:]
        if self.people and (len({*self.people}) < 2 or not {*self.people} <= {*others}):
            raise ValueError(
                f"people: two or more of {', '.join(others)}, each once; the first annotator is "
                "whom they are compared with"
            )
        if "gap_to_people" in self.minimum and not self.people:
            raise ValueError("minimum: gap_to_people needs `people`")
        self._check_categories()
        return self

    def _check_categories(self) -> None:
        if not self._is_by_category:
            own = ("positive", "lower_bounds", "on_failure", "chosen_on")
            alone = [name for name in own if name in self.model_fields_set]
            if alone:
                raise ValueError(
                    f"{', '.join(alone)}: goes with `by`, the column of the category, or by_label"
                )
            return
        setting = "by" if self.by is not None else "by_label"
        if self.by is not None and self.by_label:
            raise ValueError("by and by_label: categories are in a column, or are the labels")
        if self.by_label and "positive" in self.model_fields_set:
            raise ValueError("positive goes with `by`; with by_label every label is a category")
        if not self.people:
            raise ValueError(f"{setting}: name two or more of the annotators as `people`")
        if self.minimum or self.probabilities or self.level != "nominal":
            raise ValueError(
                f"{setting}: categories of yes and no have `lower_bounds`; remove minimum, "
                "probabilities and level"
            )

    @property
    def _is_by_category(self) -> bool:
        return self.by is not None or self.by_label

    def required_columns(self) -> dict[str, set[str]]:
        own = {"id", *self.annotators}
        labels = own if self.label is None else {self.label, "model", "parent_id"}
        category = {self.by} if self.by is not None else set()
        needed = {self.rows: {*labels, *self.probabilities, *self.where, *category}}
        if self.chosen_on is not None:
            needed.setdefault(self.chosen_on, set()).add("id")
        return needed

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset(
            OF_CATEGORY if self._is_by_category else {"id", *self.annotators, "agrees"}
        )

    def run(self, context: Context) -> RowsOutput:
        from datasets import Features, Value

        if self._is_by_category:
            types = Features({name: Value(kind) for name, kind in OF_CATEGORY.items()})
            return RowsOutput(self._categories(context), types)
        theirs = context.rows(self.rows).features
        labels = {name: theirs[self.label or name] for name in self.annotators}
        features = Features({"id": Value("string"), **labels, "agrees": Value("bool")})
        return RowsOutput(self._rows(context), features)

    @property
    def _read(self) -> LabelledRows:
        return LabelledRows(
            stage=self.rows,
            annotators=self.annotators,
            label=self.label,
            probabilities=self.probabilities,
            where=self.where,
            level=self.level,
        )

    def _rows(self, context: Context) -> Iterator[Row]:
        read = self._read
        items = read.items(context.each_row(self.rows))
        labels: dict[str, list[Label | None]] = {name: [] for name in self.annotators}
        for key, item in items.items():
            given = [read.label_of(item.labels.get(name), key) for name in self.annotators]
            for name, label in zip(self.annotators, given, strict=True):
                labels[name].append(label)
            different = {label for label in given if label is not None}
            yield {
                "id": key,
                **{name: item.labels.get(name) for name in self.annotators},
                "agrees": len(different) == 1 if len(given) - given.count(None) > 1 else None,
            }
        self._measure(context, items, labels)

    def _measure(
        self, context: Context, items: Mapping[str, Item], labels: dict[str, list[Label | None]]
    ) -> None:
        n = labelled(tabulate(*labels.values()))
        if n < 2:
            raise DataError(
                f"{n} of {len(items)} items of '{self.rows}' have labels of two annotators; "
                "at least 2 are needed"
            )
        figures = list(label_figures(labels, self.level))
        teacher, *students = self.annotators
        for student in students if self.probabilities else ():
            figures.append(loyalty_figure(teacher, student, loyalties(items, teacher, student)))
        by_label = None
        if self.people:
            gap, by_label = people_figures(labels, self.people, self.level)
            figures.append(gap)
        missing = {name: given.count(None) for name, given in labels.items()}
        self._check_labels(context, labels, missing)
        own = () if by_label is None else (by_label,)
        measured = Results(agreement=tuple(figures), own=own).to_metrics()
        context.metrics.update(measured, n_items=len(items), missing=missing)
        for figure in figures:
            if figure.value is None:
                why = "all labels are the same" if figure.n else "no item has both"
                context.warn(f"{name_of(figure)} is undefined: {why}")
        too_low = below(figures, self.minimum)
        if too_low:  # lists all figures, since nothing of the stage is kept
            listed = "\n".join(f"  {line(figure)}" for figure in figures)
            raise DataError(f"{'; '.join(too_low)}; the figures are\n{listed}")

    def _check_labels(
        self,
        context: Context,
        labels: Mapping[str, Sequence[Label | None]],
        missing: Mapping[str, int],
    ) -> None:
        """Say what makes figures of agreement that they are not what they seem.

        Raises:
            DataError: labels are spelled in several ways, and a gate would read them as different.
        """
        alike = said_alike({x for given in labels.values() for x in given if isinstance(x, str)})
        if alike is not None and self.minimum:
            raise DataError(f"{alike}; write them alike: with `minimum` this is a gate")
        if alike is not None:
            context.warn(alike)
        for name, n in missing.items():
            if n:
                context.warn(
                    f"'{name}' has no label in {n:,} of {len(labels[name]):,} items, which its "
                    "figures leave out (of label_loyalty they are misses)"
                )

    # --- by category ---

    def _categories(self, context: Context) -> Iterator[Row]:
        found = self._kappas(context)
        wanted = self.lower_bounds
        bounds = wanted.kappa_hh, wanted.kappa_hm
        context.metrics.update(shown(category_table(found, *bounds)))
        failed = [name for name, kappas in found.items() if not kappas.passes(*bounds)]
        for name, kappas in found.items():
            for note in category_notes(name, kappas):
                context.warn(note)
        if failed and self.on_failure == "stop":
            listed = "\n".join(f"  {category_line(name, found[name])}" for name in failed)
            raise DataError(
                f"{len(failed)} of the {len(found)} categories of '{self.rows}' "
                f"cannot be relied on (lower_bounds: kappa_hh {bounds[0]:g}, "
                f"kappa_hm {bounds[1]:g}):\n{listed}"
            )
        context.metrics.update(n_categories=len(found), n_failed=len(failed))
        for name, kappas in found.items():
            people, model = kappas.people, kappas.model
            yield {
                "id": name,
                "passes": kappas.passes(*bounds),
                "kappa_hh": people and people.value,
                "kappa_hm": model and model.value,
                "low_hh": people and people.low,
                "low_hm": model and model.low,
                "n": kappas.n,
                "n_positive": kappas.n_positive,
            }

    def _kappas(self, context: Context) -> dict[str, CategoryKappas]:
        read = self._read
        labels = LabelledCategories(
            read=read, model=self.annotators[0], people=self.people, positive=self.positive
        )
        if self.by is None:
            found, n_left_out = labels.of_labels(self._items(context))
        else:
            category_of = categories(read, context.each_row(self.rows), self.by)
            found, n_left_out = labels.of_column(self._items(context), category_of)
        context.drop("without a label of each annotator", n_left_out)
        return found

    def _items(self, context: Context) -> dict[str, Item]:
        """By id, without those that a prompt was chosen on.

        Raises:
            DataError: none is left.
        """
        read = self._read
        items = read.items(context.each_row(self.rows))
        if self.chosen_on is None:
            return items
        left_out = chosen_items(read, context.each_row(self.rows), context.each_row(self.chosen_on))
        context.drop("a prompt was chosen on it", len(left_out & items.keys()))
        left = {key: item for key, item in items.items() if key not in left_out}
        if not left:
            raise DataError(
                f"no item of '{self.rows}' is left: a prompt was chosen on all of them (chosen_on)"
            )
        return left
