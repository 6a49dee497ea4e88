"""What evaluations say of a model, before and after: read out of their manifests. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from llm_distill.evaluation.results import Results
from llm_distill.manifest import Manifest
from llm_distill.publish.lineage import Lineage, Source

Figure = Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """One exam of a model. All shares are 0 to 1; intervals are those that the evaluation states.

    stage: the evaluation. source: the rows that its items were read from, where that is known.
    after: {accuracy, low, high, n} of the model. before: of the model that it was made from.
    difference: {difference, low, high} of the two, paired; None where it was not measured.
    """

    stage: str
    source: Source | None
    shots: int
    after: Figure
    before: Figure | None
    difference: Figure | None


def results_of(
    names: Collection[str], base: str | None, evaluations: Iterable[Lineage]
) -> list[Result]:
    """What the evaluations measured of the model that goes by `names`, and of its base."""
    found: list[Result] = []
    for evaluation in evaluations:
        manifest = evaluation.manifest
        results = Results.from_metrics(manifest.metrics)
        measured = [row for row in results.results if "accuracy" in row]
        for row in measured:
            if row["model"] not in names:
                continue
            shots = row.get("shots", 0)
            same = {r["model"]: r for r in measured if r.get("shots", 0) == shots}
            paired = (
                d
                for d in results.differences
                if (d.get("model"), d.get("baseline")) == (row["model"], base)
                and d.get("shots", 0) == shots
            )
            found.append(
                Result(
                    stage=manifest.name,
                    source=_items_from(evaluation),
                    shots=shots,
                    after=row,
                    before=same.get(base) if base is not None else None,
                    difference=next(paired, None),
                )
            )
    return found


def _items_from(evaluation: Lineage) -> Source | None:
    """What the exam's rows go back to, if it is one dataset."""
    manifest: Manifest | None = evaluation.manifest
    while manifest is not None:
        if manifest.stage == "load_dataset":
            name = manifest.name
            return next(s for s in evaluation.sources if s.stage == name)
        manifest = evaluation.input_of(manifest, manifest.settings.get("rows"))
    return None
