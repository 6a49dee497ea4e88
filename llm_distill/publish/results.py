"""What evaluations measured of a model, before and after, from their manifests. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from llm_distill.evaluation.result_rows import Difference, ExamRow
from llm_distill.evaluation.results import FigureTable, Results
from llm_distill.manifest import Manifest
from llm_distill.publish.lineage import Lineage, Source


@dataclass(frozen=True)
class Result:
    """One exam of a model.

    Attributes:
        stage: The evaluation.
        source: The rows that its items were read from, if known.
        after: The model's results.
        before: The results of the model that it was made from.
        difference: The paired difference; None if not measured.
    """

    stage: str
    source: Source | None
    shots: int
    after: ExamRow
    before: ExamRow | None
    difference: Difference | None


def results_of(
    names: Collection[str], base: str | None, evaluations: Iterable[Lineage]
) -> list[Result]:
    """What the evaluations measured of the model with these names, and of its base."""
    found: list[Result] = []
    for evaluation in evaluations:
        measured = Results.from_metrics(evaluation.manifest.metrics)
        exam = {(row.model, row.shots): row for row in measured.exam}
        paired = {(row.model, row.baseline, row.shots): row for row in measured.differences}
        found += [
            Result(
                stage=evaluation.manifest.name,
                source=_items_from(evaluation),
                shots=row.shots or 0,
                after=row,
                before=exam.get((base, row.shots)) if base is not None else None,
                difference=paired.get((row.model, base, row.shots)) if base is not None else None,
            )
            for row in measured.exam
            if row.model in names
        ]
    return found


def own_tables(manifests: Iterable[Manifest]) -> list[tuple[str, FigureTable]]:
    """(stage, table) for each table of a stage's own figures, once for each stage."""
    named = {manifest.name: manifest for manifest in manifests}
    return [
        (name, table)
        for name, manifest in named.items()
        for table in Results.from_metrics(manifest.metrics).listed
    ]


def notes_of(manifests: Iterable[Manifest]) -> list[str]:
    """What to know of the figures of these evaluations: `exam: accuracy counts …`."""
    return [
        f"{manifest.name}: {note}"
        for manifest in manifests
        for note in Results.from_metrics(manifest.metrics).notes
    ]


def _items_from(evaluation: Lineage) -> Source | None:
    """The dataset that the exam's rows go back to, if there is one."""
    manifest: Manifest | None = evaluation.manifest
    while manifest is not None:
        if manifest.stage == "load_dataset":
            name = manifest.name
            return next(s for s in evaluation.sources if s.stage == name)
        manifest = evaluation.input_of(manifest, manifest.settings.get("rows"))
    return None
