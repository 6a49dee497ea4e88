"""A sweep's figures: means over seeds with intervals, and differences to a baseline. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, Literal

from llm_distill.errors import ConfigError, nearest
from llm_distill.evaluation.result_rows import Kind
from llm_distill.methods.statistics import (
    Estimate,
    bootstrap,
    crossed_bootstrap,
    mean_interval,
    wilson_interval,
)
from llm_distill.pipeline.yaml_file import parse_yaml
from llm_distill.sweeps.grid import Axis, described, read_axis, setting_key, settings_of, written
from llm_distill.sweeps.outcomes import Key, Measured, Outcome, SweepFile

Where = Mapping[str, Sequence[str]]
"""Column to the values of which an item must have one."""


@dataclass(frozen=True)
class Baseline:
    """What differences are taken to: a model, a setting, or a model at a setting.

    Each row is compared with the row of the same figure, but of this model and with these values
    of these places. Neither: the first model of each exam, as `evaluate` compares.
    """

    model: str | None = None
    places: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Mean:
    """A mean over seeds.

    over_seeds: Student's t over the seeds' means: how it moves with other seeds on these items.
    over_both: the crossed bootstrap over seeds and items; of one seed the bootstrap over items.
    seeds: that it is the mean of. n_items: None where `items` is not "same".
    items: whether the runs have the same, different ones, or it is not known.
    """

    value: float
    over_seeds: Estimate | None
    over_both: Estimate | None
    seeds: tuple[int, ...]
    n_items: int | None
    items: Literal["same", "different", "unknown"] = "unknown"


@dataclass(frozen=True)
class Row:
    """A figure with a setting. difference: to `baseline`, over the seeds that both have."""

    settings: Mapping[str, Any]
    stage: str
    labels: Mapping[str, str]
    kind: Kind
    mean: Mean
    difference: Mean | None = None
    baseline: str = ""


def read_baseline(texts: Sequence[str], file: SweepFile) -> Baseline:
    """`--baseline sft_student`, `--baseline stages.x.n=1`, or both.

    Raises:
        ConfigError: there is no such model, place or value among the runs.
    """
    models = {f.labels["model"] for r in file.done() for f in r.figures if "model" in f.labels}
    model: str | None = None
    places: dict[str, Any] = {}
    for text in texts:
        place, equals, _ = text.partition("=")
        if not equals:
            if model is not None:
                raise ConfigError(f"--baseline {text}: '{model}' is one already; name one model")
            named = text if text in models else _last_round(text, models)
            if named not in models:
                raise ConfigError(f"--baseline {text}: no such model; {nearest(text, models)}")
            model = named
            continue
        if place not in file.places:
            raise ConfigError(
                f"--baseline {text}: '{place}' is not swept; {nearest(place, file.places)}"
            )
        (value,) = _one_value(text)
        known = {written(run.settings[place]) for run in file.runs}
        if written(value) not in known:
            raise ConfigError(f"--baseline {text}: no run has this value; {nearest('', known)}")
        places[place] = value
    return Baseline(model, places)


def _last_round(name: str, names: Iterable[str]) -> str:
    """`x@last` as the file calls it is `x@3` where figures are, of three rounds."""
    stem, _, which = name.partition("@")
    if which != "last":
        return name
    found = (other.partition("@") for other in names)
    rounds = [int(n) for other, _, n in found if other == stem and n.isdigit()]
    return f"{stem}@{max(rounds)}" if rounds else name


def check_baseline(texts: Sequence[str], names: Sequence[str], axes: Sequence[Axis]) -> None:
    """What can be said of `--baseline` before there are figures.

    Args:
        texts: As `read_baseline` takes them.
        names: The pipeline's models and stages.
        axes: What is swept.

    Raises:
        ConfigError: there is no such model, place or value.
    """
    places = {axis.place: axis for axis in axes}
    for text in texts:
        place, equals, _ = text.partition("=")
        # The best round is known in a run only; that there are rounds is known before.
        named = text.removesuffix("@best") + "@1" if text.endswith("@best") else text
        if not equals and _last_round(named, names) not in names:
            raise ConfigError(f"--baseline {text}: no such model; {nearest(text, names)}")
        if equals and place not in places:
            raise ConfigError(
                f"--baseline {text}: '{place}' is not swept; {nearest(place, places)}"
            )
        if equals:
            known = {written(s.values[place]) for s in settings_of([places[place]])}
            (value,) = _one_value(text)
            if written(value) not in known:
                raise ConfigError(f"--baseline {text}: no run has this value; {nearest('', known)}")


def read_where(texts: Sequence[str], file: SweepFile) -> Where:
    """`--where skills=subtraction,weekday`: the items that have one of these values.

    Raises:
        ConfigError: no exam has such a column or value.
    """
    found: dict[str, list[str]] = {}
    groups = [items.groups for items in file.items.values()]
    for text in texts:
        column, equals, values = text.partition("=")
        if not equals or not values:
            raise ConfigError(f"--where {text}: expected COLUMN=VALUE or COLUMN=VALUE,VALUE")
        columns = {name for of in groups for name in of}
        if column not in columns:
            raise ConfigError(f"--where {text}: no column '{column}'; {nearest(column, columns)}")
        known = {value for of in groups for value in of.get(column, {})}
        for value in _listed(values, f"--where {text}"):
            if value not in known:
                raise ConfigError(f"--where {text}: no item has '{value}'; {nearest(value, known)}")
            found.setdefault(column, []).append(value)
    return found


def rows_of(file: SweepFile, baseline: Baseline, where: Where | None = None) -> list[Row]:
    """A row for each setting and figure, in the order of the first run that has it."""
    by_setting: dict[str, list[Outcome]] = {}
    for outcome in sorted(file.done(), key=lambda run: run.seed):
        by_setting.setdefault(outcome.setting, []).append(outcome)
    order = dict.fromkeys(outcome.setting for outcome in file.runs)
    tables: dict[tuple[str, Key], dict[int, Measured]] = {}
    for setting in order:
        for outcome in by_setting.get(setting, ()):
            for figure in _cut(where or {}, file, outcome):
                tables.setdefault((setting, figure.key), {})[outcome.seed] = figure
    first_models: dict[str, str] = {}
    for (_, (stage, _)), by_seed in tables.items():
        figure = next(iter(by_seed.values()))
        if figure.kind == "share" and "model" in figure.labels:
            first_models.setdefault(stage, figure.labels["model"])
    rows = []
    for (setting, key), by_seed in tables.items():
        settings = by_setting[setting][0].settings
        figure = next(iter(by_seed.values()))
        other = _baseline_of(settings, key, figure, baseline, first_models)
        base = tables.get(other) if other is not None else None
        rows.append(
            Row(
                settings=settings,
                stage=figure.stage,
                labels=figure.labels,
                kind=figure.kind,
                mean=_mean(by_seed),
                difference=_difference(by_seed, base) if base else None,
                baseline=_name(baseline, first_models.get(figure.stage)) if base else "",
            )
        )
    return rows


def _cut(where: Where, file: SweepFile, outcome: Outcome) -> list[Measured]:
    """The figures over the items that `where` names; those without items are left out then."""
    if not where:
        return list(outcome.figures)
    found = []
    for figure in outcome.figures:
        items = file.items.get(figure.items or "")
        if items is None or any(column not in items.groups for column in where):
            continue
        chosen = [
            index
            for index in range(items.n)
            if all(
                any(items.groups[column].get(v, "0" * items.n)[index] == "1" for v in values)
                for column, values in where.items()
            )
        ]
        if not chosen:
            continue
        by_item = figure.by_item()
        kept = [by_item[index] for index in chosen]
        marks = "".join(f"{value * figure.out_of:.6g} " for value in kept)
        update = {"value": fmean(kept), "n": len(kept), "marks": marks}
        found.append(figure.model_copy(update=update))
    return found


def _baseline_of(
    settings: Mapping[str, Any],
    key: Key,
    figure: Measured,
    baseline: Baseline,
    first_models: Mapping[str, str],
) -> tuple[str, Key] | None:
    """Where the figure that this one is compared with is; None for the baseline itself."""
    model = baseline.model
    if model is None and not baseline.places:
        model = first_models.get(figure.stage)
    labels = dict(figure.labels)
    if model is not None and "model" in labels:
        labels["model"] = model
    elif not baseline.places:
        return None
    other = (
        setting_key({**settings, **baseline.places}),
        figure.model_copy(update={"labels": labels}).key,
    )
    return None if other == (setting_key(settings), key) else other


def _name(baseline: Baseline, first: str | None) -> str:
    model = baseline.model or (None if baseline.places else first)
    parts = [model] if model else []
    return ", ".join([*parts, *([described(baseline.places)] if baseline.places else [])])


def _mean(by_seed: Mapping[int, Measured]) -> Mean:
    figures = list(by_seed.values())
    table = None
    if len({figure.items for figure in figures}) == 1 and figures[0].marks:
        table = [figure.by_item() for figure in figures]
    mean = _over([figure.value for figure in figures], table, tuple(by_seed))
    if table and len(table[0]) > 1 and {value for row in table for value in row} in ({0.0}, {1.0}):
        # There is nothing to resample: as an exam has it, and seeds do not add to the items.
        n = len(table[0])
        mean = replace(mean, over_both=wilson_interval(round(table[0][0] * n), n))
    known = all(figure.items for figure in figures)
    return mean if table or not known else replace(mean, items="different")


def _difference(own: Mapping[int, Measured], base: Mapping[int, Measured]) -> Mean | None:
    """Own − base, run by run; item by item where both have the same items.

    None where there is no seed in both, or where the items are known and not the same: then it
    would be the difference of two exams.
    """
    seeds = [seed for seed in own if seed in base]
    pairs = [(own[seed], base[seed]) for seed in seeds]
    if not pairs or any(a.items != b.items for a, b in pairs if a.items and b.items):
        return None
    table = None
    if len({figure.items for pair in pairs for figure in pair}) == 1 and pairs[0][0].marks:
        table = [[x - y for x, y in zip(a.by_item(), b.by_item(), strict=True)] for a, b in pairs]
    return _over([a.value - b.value for a, b in pairs], table, tuple(seeds))


def _over(values: list[float], table: list[list[float]] | None, seeds: tuple[int, ...]) -> Mean:
    both = None
    if table is not None and len(table[0]) > 1:
        both = crossed_bootstrap(table) if len(table) > 1 else bootstrap(table[0])
    return Mean(
        value=fmean(values),
        over_seeds=mean_interval(values) if len(values) > 1 else None,
        over_both=both,
        seeds=seeds,
        n_items=len(table[0]) if table is not None else None,
        items="unknown" if table is None else "same",
    )


def _listed(values: str, where: str) -> list[str]:
    found, _ = parse_yaml(f"[{values}]", lambda _: where)
    return [str(value) for value in found]


def _one_value(text: str) -> tuple[Any]:
    axis = read_axis(text)
    if len(axis.values) != 1:
        raise ConfigError(f"--baseline {text}: name one value")
    (setting,) = settings_of([axis])
    return (setting.values[axis.place],)
