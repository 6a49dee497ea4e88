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

from llm_distill.evaluation.results import BY, DIFFERENCES_BY, OWN, Results
from llm_distill.manifest import Manifest

NOT_ALLOWED = re.compile(r"[^0-9A-Za-z_\-. /]")  # mlflow takes no more


def plain_name(name: str) -> str:
    """A name that every tracker takes: `trained@2` as `trained-2`, other signs as `_`."""
    return NOT_ALLOWED.sub("_", name.replace("@", "-"))


def stage_scalars(manifest: Manifest, *, made: bool) -> dict[str, float]:
    """Rows and dropped rows, what it took where the stage was executed now, and the metrics.

    made: whether this run executed it. tokens_per_second is over the stage's whole time, with
    loading the model.
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
    """Every number among a stage's metrics, named by the way to it.

    Of tables by a column there are the accuracies alone: all else would be hundreds of names. A
    list that is no table of models or annotators, such as a training's history, is left out.
    """
    found: dict[str, float] = {}
    for name, value in metrics.items():
        if name.startswith(DIFFERENCES_BY):
            continue
        if isinstance(value, list):
            column = name.removeprefix(BY)
            for row in value:
                if isinstance(row, Mapping) and ("model" in row or "annotators" in row):
                    place = "/".join([name, *_labels(row, column)])
                    wanted = {"accuracy"} if column != name else set(row) - {"shots", column}
                    found.update(_numbers({n: row[n] for n in row if n in wanted}, place))
        else:
            found.update(_numbers({name: value}, ""))
    for table in Results.from_metrics(metrics).own:
        for figure in table.figures:
            place = "/".join([OWN, table.title, *figure.labels.values()])
            values = {name: getattr(figure, name) for name in ("value", "low", "high", "n")}
            found.update(_numbers(values, place))
    named: dict[str, float] = {}
    seen: Counter[str] = Counter()
    for name, value in found.items():
        plain = plain_name(name)  # two names may become one
        seen[plain] += 1
        named[plain if seen[plain] == 1 else f"{plain} {seen[plain]}"] = value
    return named


def _labels(row: Mapping[str, Any], column: str) -> list[str]:
    """`student-minus-base`, `0-shot`, and the column's value where the table is by a column."""
    if "annotators" in row:
        return [str(row["figure"]), "-".join(map(str, row["annotators"]))]
    baseline = row.get("baseline")
    labels = [f"{row['model']}-minus-{baseline}" if baseline else str(row["model"])]
    labels += [str(row[name]) for name in ("task", "metric") if name in row and name != column]
    if row.get("filter", "none") != "none":
        labels.append(str(row["filter"]))
    if row.get("shots") is not None:
        labels.append(f"{row['shots']}-shot")
    if column in row:
        labels.append(str(row[column]))
    return labels


def _numbers(values: Mapping[str, Any], place: str) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        inner = f"{place}/{name}" if place else str(name)
        if isinstance(value, Mapping):
            yield from _numbers(value, inner)
        elif isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        elif math.isfinite(value):
            yield inner, value
