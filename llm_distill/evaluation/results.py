"""What stages measured: one type that the terminal, report, cards, `compare` and trackers render.

`Results` is the one place that knows under which keys of a manifest's `metrics` the figures are:
stages write what `to_metrics` gives. A stage with figures of its own shows them like this, without
any change to those that render them:

    context.metrics.update(shown(FigureTable("readability", (Figure({"rows": "all"}, 0.7),))))
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from llm_distill.evaluation.result_rows import (
    AgreementRow,
    AlignmentFigures,
    AnsweredPrompt,
    Contamination,
    Difference,
    ExamRow,
    Figure,
    HarnessRow,
    PlaceRow,
    SkillRow,
    WritingRow,
    is_number,
    read,
    written,
)

__all__ = [
    "CALIBRATION", "MATRIX", "Breakdown", "Figure", "FigureTable", "Results", "group_name",
    "name_of_all", "shown",
]  # fmt: skip

T = TypeVar("T")

RESULTS, DIFFERENCES, AGREEMENT, OWN = "results", "differences", "agreement", "figures"
SKILLS, ALIGNMENT, CONTAMINATION, HISTORY = "skill_profile", "alignment", "contamination", "history"
WRITING, ANSWERED, NOTES = "writing", "answered_prompts", "notes"
PLACES = "worst_places"
BY, DIFFERENCES_BY = "by_", "differences_by_"

MATRIX, CALIBRATION = "matrix", "calibration"
MOST_CELLS = 1000
"""Of a matrix whose cells are told one by one, such as in a tracker."""

MORE = {"95 % interval": "interval", "items": "n"}
"""Columns of a table of figures beside the value, and what of a figure they have."""


@dataclass(frozen=True)
class FigureTable:
    """Figures of a stage under a title.

    Attributes:
        is_detail: It describes data at length, and is not shown at the end of a run; the report has
            it.
        across: A label whose values are columns, so that a line holds several figures, each with
            its interval.
        over: A label with numbers, such as a round, over which the report draws the figures.
        drawn: Which of them, by their value of `across`. Without `over` two of them, which the
            report draws against each other, the first along and the second up, a point a line.
        drawn_as: How the report draws all of them: MATRIX, a line's counts shaded by their share of
            the line; CALIBRATION, how often something is right against how sure it was.
    """

    title: str
    figures: tuple[Figure, ...]
    is_detail: bool = False
    across: str = ""
    over: str = ""
    drawn: tuple[str, ...] = ()
    drawn_as: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of labels, `value`, and `95 % interval` and `items` where there are any."""
        if self.across:
            return (*self.names, *self._across)
        return (*self.names, "value", *(title for title, of in MORE.items() if self._has(of)))

    def _has(self, of: str) -> bool:
        return any(_written(figure, of) for figure in self.figures)

    @property
    def names(self) -> tuple[str, ...]:
        found = dict.fromkeys(name for figure in self.figures for name in figure.labels)
        return tuple(name for name in found if name != self.across)

    @property
    def _across(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(figure.labels.get(self.across, "") for figure in self.figures))

    @property
    def cells(self) -> tuple[tuple[str, ...], ...]:
        """A row of texts for each figure, or with `across` for several; as `columns` has them."""
        if self.across:
            lines: dict[tuple[str, ...], dict[str, str]] = {}
            for figure in self.figures:
                line = tuple(figure.labels.get(name, "") for name in self.names)
                lines.setdefault(line, {})[figure.labels.get(self.across, "")] = str(figure)
            return tuple(
                (*line, *(found.get(column, "") for column in self._across))
                for line, found in lines.items()
            )
        return tuple(
            (
                *(figure.labels.get(name, "") for name in self.names),
                figure.written,
                *(_written(figure, of) for of in MORE.values() if self._has(of)),
            )
            for figure in self.figures
        )


def _written(figure: Figure, of: str) -> str:
    if of == "interval":
        return figure.interval
    return "" if figure.n is None else f"{figure.n:,}"


@dataclass(frozen=True)
class Breakdown:
    """An exam's figures and paired differences for each value of a column."""

    column: str
    rows: tuple[ExamRow, ...]
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class Results:
    """All figures of a stage.

    Attributes:
        exam: A row for each model and number of worked examples.
        harness: lm-eval's, a row for each model, task, metric and filter.
        differences: Paired differences between models over the same items.
        by: The exam's figures by column.
        agreement: Agreement of annotators.
        skills: What the student lacks, most frequent first.
        alignment: How texts of teacher and student aligned; None if not measured.
        contamination: Overlap of the exam with rows; None if not looked for.
        history: A training's steps, each with `step` and TRL's figures.
        writing: How the model writes before and after its training.
        answered: A few prompts with what it wrote.
        places: Where a teacher and a student differ most on the student's texts, the worst first.
        own: Tables of any other figures.
        notes: What to know of the exam's figures before they are believed.
    """

    exam: tuple[ExamRow, ...] = ()
    harness: tuple[HarnessRow, ...] = ()
    differences: tuple[Difference, ...] = ()
    by: tuple[Breakdown, ...] = ()
    agreement: tuple[AgreementRow, ...] = ()
    skills: tuple[SkillRow, ...] = ()
    alignment: AlignmentFigures | None = None
    contamination: Contamination | None = None
    history: tuple[Mapping[str, float], ...] = ()
    writing: tuple[WritingRow, ...] = ()
    answered: tuple[AnsweredPrompt, ...] = ()
    places: tuple[PlaceRow, ...] = ()
    own: tuple[FigureTable, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def listed(self) -> tuple[FigureTable, ...]:
        """Its own tables without matrices of so many cells that only a picture tells anything."""
        return tuple(
            table
            for table in self.own
            if table.drawn_as != MATRIX or len(table.figures) <= MOST_CELLS
        )

    @property
    def rows(self) -> tuple[ExamRow | HarnessRow | AgreementRow, ...]:
        """What an evaluation measured: of models, or else of annotators."""
        return self.of_models or self.agreement

    @property
    def of_models(self) -> tuple[ExamRow | HarnessRow, ...]:
        return (*self.exam, *self.harness)

    @property
    def models(self) -> frozenset[str]:
        """The models that were measured; in a stage's own figures the label `model`."""
        own = (figure.labels.get("model", "") for table in self.own for figure in table.figures)
        return frozenset((*(row.model for row in self.of_models), *own)) - {""}

    @classmethod
    def from_metrics(cls, metrics: Mapping[str, Any]) -> Results:
        """Read them from a manifest's `metrics`; what is malformed is left out."""
        tables = (
            FigureTable(
                str(table.get("title", "")),
                _rows(Figure, table.get("rows")),
                table.get("is_detail") is True,
                across=str(table.get("across", "")),
                over=str(table.get("over", "")),
                drawn=_texts(table.get("drawn")),
                drawn_as=how if (how := table.get("drawn_as")) in (MATRIX, CALIBRATION) else "",
            )
            for table in _mappings(metrics.get(OWN))
        )
        return cls(
            exam=_rows(ExamRow, metrics.get(RESULTS)),
            harness=_rows(HarnessRow, metrics.get(RESULTS)),
            differences=_rows(Difference, metrics.get(DIFFERENCES)),
            by=tuple(
                Breakdown(
                    column := key.removeprefix(BY),
                    _rows(ExamRow, rows, column),
                    _rows(Difference, metrics.get(f"{DIFFERENCES_BY}{column}"), column),
                )
                for key, rows in metrics.items()
                if key.startswith(BY)
            ),
            agreement=_rows(AgreementRow, metrics.get(AGREEMENT)),
            skills=_rows(SkillRow, metrics.get(SKILLS)),
            alignment=read(AlignmentFigures, metrics.get(ALIGNMENT)),
            contamination=read(Contamination, metrics.get(CONTAMINATION)),
            history=tuple(
                {name: value for name, value in point.items() if is_number(value)}
                for point in _mappings(metrics.get(HISTORY))
            ),
            writing=_rows(WritingRow, metrics.get(WRITING)),
            answered=_rows(AnsweredPrompt, metrics.get(ANSWERED)),
            places=_rows(PlaceRow, metrics.get(PLACES)),
            own=tuple(table for table in tables if table.figures),
            notes=_texts(metrics.get(NOTES)),
        )

    def to_metrics(self) -> dict[str, Any]:
        """Plain JSON for a stage to add to its metrics: all tables with rows, without the history.

        An exam has differences and breakdowns even if they are empty.
        """
        found: dict[str, Any] = {}
        if self.of_models:
            found[RESULTS] = [written(row) for row in self.of_models]
        if self.exam:
            found[DIFFERENCES] = [written(row) for row in self.differences]
        for by in self.by:
            found[f"{BY}{by.column}"] = [written(row, by.column) for row in by.rows]
            differences = [written(row, by.column) for row in by.differences]
            found[f"{DIFFERENCES_BY}{by.column}"] = differences
        lists: tuple[tuple[str, tuple[Any, ...]], ...] = (
            (AGREEMENT, self.agreement),
            (SKILLS, self.skills),
            (WRITING, self.writing),
            (ANSWERED, self.answered),
            (PLACES, self.places),
        )
        for key, rows in lists:
            if rows:
                found[key] = [written(row) for row in rows]
        for key, row in ((ALIGNMENT, self.alignment), (CONTAMINATION, self.contamination)):
            if row is not None:
                found[key] = written(row)
        if self.own:
            found[OWN] = [
                {
                    "title": table.title,
                    "rows": [written(figure) for figure in table.figures],
                    **({"is_detail": True} if table.is_detail else {}),
                    **{n: v for n in ("across", "over", "drawn_as") if (v := getattr(table, n))},
                    **({"drawn": list(table.drawn)} if table.drawn else {}),
                }
                for table in self.own
            ]
        if self.notes:
            found[NOTES] = list(self.notes)
        return found


def told_later(of_stages: Sequence[Results]) -> list[frozenset[str]]:
    """Of each stage's results the titles of tables that a later stage has with more lines.

    A table `over` rounds goes on from round to round, and says again what the one before said.
    """
    found: list[frozenset[str]] = []
    later: dict[str, set[str]] = {}
    for results in reversed(of_stages):
        own = (table for table in results.own if table.over)
        lines = {table.title: {repr(figure) for figure in table.figures} for table in own}
        found.append(frozenset(t for t, of in lines.items() if of < later.get(t, set())))
        later |= lines
    return found[::-1]


def shown(*tables: FigureTable) -> dict[str, Any]:
    """Plain JSON for a stage to add to its metrics, so that these tables are shown."""
    return Results(own=tables).to_metrics()


def group_name(value: Any) -> str:
    """What the group of items with this value of a column is called.

    >>> group_name("addition"), group_name(3), group_name(None), group_name(" ")
    ('addition', '3', '(none)', '(none)')
    """
    is_missing = value is None or value != value or not str(value).strip()
    return "(none)" if is_missing else str(value)


def name_of_all(groups: Collection[str]) -> str:
    """What all items together are called beside their groups, of which none is called so.

    >>> name_of_all(["a", "b"]), name_of_all(["a", "all"])
    ('all', '(all)')
    """
    name = "all"
    while name in groups:
        name = f"({name})"
    return name


def _rows(kind: type[T], value: Any, column: str = "") -> tuple[T, ...]:
    found = (read(kind, row, column) for row in _mappings(value))
    return tuple(row for row in found if row is not None)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list) else ()


def _mappings(value: Any) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
