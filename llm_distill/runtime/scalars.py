"""A stage's figures as names and numbers, for trackers and for machines. Pure.

evaluate:  {"results": [{"model": "student", "shots": 0, "accuracy": 0.4, "n": 100}]}
           becomes {"results/student/0-shot/accuracy": 0.4, "results/student/0-shot/n": 100}
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from llm_distill.evaluation.result_rows import written
from llm_distill.evaluation.results import AGREEMENT, BY, DIFFERENCES, OWN, RESULTS, Results
from llm_distill.manifest import Manifest

NOT_ALLOWED = re.compile(r"[^0-9A-Za-z_\-. /]")  # mlflow allows nothing else


def plain_name(name: str) -> str:
    """A name that every tracker allows: `trained@2` as `trained-2`, other characters as `_`."""
    return NOT_ALLOWED.sub("_", name.replace("@", "-"))


def stage_scalars(manifest: Manifest, *, made: bool) -> dict[str, float]:
    """Rows and dropped rows, costs if the stage was executed, and its metrics.

    made: whether this run executed it. tokens_per_second is over the stage's whole time,
    including loading the model.
    """
    values: dict[str, float] = {}
    if manifest.rows_out is not None:
        values["rows"] = manifest.rows_out
        values["dropped"] = sum(manifest.dropped.values())
    if made:
        seconds, tokens = manifest.seconds, manifest.tokens_out
        values["seconds"] = seconds
        if tokens:
            values["tokens"] = tokens
            values["tokens_per_second"] = tokens / seconds if seconds else 0.0
        if manifest.cost:
            values["cost"] = manifest.cost
    return {**values, **metric_scalars(manifest.metrics)}


def metric_scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Every number in a stage's metrics, named by its path.

    Tables by a column give accuracies only, or there would be hundreds of names, and large matrices
    nothing. Lists give what `Results` reads from them, without a training's history.
    """
    found = dict(_numbers(metrics, ""))
    for place, row in _rows(Results.from_metrics(metrics)):
        found.update(_numbers(row, "/".join(place)))
    named: dict[str, float] = {}
    seen: Counter[str] = Counter()
    for name, value in found.items():
        plain = plain_name(name)  # two names may become one
        seen[plain] += 1
        named[plain if seen[plain] == 1 else f"{plain} {seen[plain]}"] = value
    return named


def _rows(measured: Results) -> Iterator[tuple[list[str], Mapping[str, Any]]]:
    """The path to each row, such as `results`, `student`, `0-shot`, and its columns."""
    for row in measured.of_models:
        yield [RESULTS, *row.as_figure.names], {**written(row), "shots": None}
    for difference in measured.differences:
        compared = f"{difference.model}-minus-{difference.baseline}"
        place = [DIFFERENCES, compared, *difference.as_figure.names[1:]]
        yield place, {**written(difference), "shots": None}
    for agreed in measured.agreement:
        yield [AGREEMENT, agreed.figure, "-".join(agreed.annotators)], written(agreed)
    for by in measured.by:
        for row in by.rows:
            yield [f"{BY}{by.column}", *row.as_figure.names], {"accuracy": row.accuracy}
    for table in measured.listed:
        for figure in table.figures:
            place = [OWN, table.title, *figure.labels.values()]
            yield place, written(figure)


def _numbers(values: Mapping[str, Any], place: str) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        inner = f"{place}/{name}" if place else str(name)
        if isinstance(value, Mapping):
            yield from _numbers(value, inner)
        elif isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        elif math.isfinite(value):
            yield inner, value
