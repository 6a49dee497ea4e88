"""What runs say together: intervals over seeds and items, and differences in pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple

import pytest

from llm_distill.errors import ConfigError
from llm_distill.methods.statistics import (
    bootstrap,
    crossed_bootstrap,
    mean_interval,
    wilson_interval,
)
from llm_distill.sweeps.figures import Baseline, Row, read_baseline, read_where, rows_of
from llm_distill.sweeps.notes import notes
from llm_distill.sweeps.outcomes import Outcome, SweepFile

FileOf = Callable[..., SweepFile]
EXAMS = {
    (1, 1): {"weak": [0, 0, 1, 0], "strong": [1, 0, 1, 1]},
    (1, 2): {"weak": [0, 1, 1, 0], "strong": [1, 1, 1, 0]},
    (2, 1): {"weak": [0, 0, 0, 0], "strong": [1, 1, 1, 1]},
    (2, 2): {"weak": [1, 0, 0, 0], "strong": [0, 1, 1, 1]},
}


def _row(rows: list[Row], n: int, model: str) -> Row:
    return next(r for r in rows if r.settings["stages.x.n"] == n and r.labels["model"] == model)


def test_a_mean_has_students_t_and_the_crossed_bootstrap(file_of: FileOf) -> None:
    row = _row(rows_of(file_of(EXAMS), Baseline()), 1, "weak")
    table = [[0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0]]
    assert row.mean.value == 0.375
    assert row.mean.over_seeds == mean_interval([0.25, 0.5])
    assert row.mean.over_both == crossed_bootstrap(table)
    assert (row.mean.seeds, row.mean.n_items) == ((1, 2), 4)


def test_items_that_are_all_right_or_wrong_have_wilsons_interval(file_of: FileOf) -> None:
    for mark in (0, 1):
        rows = rows_of(file_of({(1, seed): {"weak": [mark] * 8} for seed in (1, 2)}), Baseline())
        assert rows[0].mean.over_both == wilson_interval(8 * mark, 8)


def test_by_default_a_model_is_compared_with_the_first_of_its_exam(file_of: FileOf) -> None:
    rows = rows_of(file_of(EXAMS), Baseline())
    assert _row(rows, 1, "weak").difference is None
    found = _row(rows, 1, "strong")
    assert found.baseline == "weak"
    assert found.difference is not None
    assert found.difference.over_both == crossed_bootstrap([[1, 0, 0, 1], [1, 0, 0, 0]])
    assert found.difference.over_seeds == mean_interval([0.5, 0.25])


@pytest.mark.parametrize(
    ("texts", "model", "value"),
    [
        (["stages.x.n=1"], "strong", 0.125),  # strong at 2 against strong at 1
        (["stages.x.n=1", "weak"], "strong", 0.5),  # strong at 2 against weak at 1
        (["strong"], "weak", -0.75),
    ],
)
def test_a_baseline_is_a_model_a_setting_or_both(
    file_of: FileOf, texts: list[str], model: str, value: float
) -> None:
    file = file_of(EXAMS)
    row = _row(rows_of(file, read_baseline(texts, file)), 2, model)
    assert row.difference is not None
    assert row.difference.value == pytest.approx(value)


def test_the_last_round_is_named_as_the_file_names_it(file_of: FileOf) -> None:
    file = file_of({(1, 1): {"taught@2": [1], "taught@10": [0], "other@11": [0]}})
    assert read_baseline(["taught@last"], file).model == "taught@10"
    with pytest.raises(ConfigError, match="no such model"):
        read_baseline(["last@last"], file)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("wek", "did you mean 'weak'"),
        ("stages.x.m=1", "is not swept"),
        ("stages.x.n=3", "no run has this value"),
        ("stages.x.n=1,2", "name one value"),
    ],
)
def test_a_baseline_that_there_is_not(file_of: FileOf, text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        read_baseline([text], file_of(EXAMS))


def test_a_difference_is_over_the_seeds_that_both_have(file_of: FileOf) -> None:
    exams = {place: exam for place, exam in EXAMS.items() if place != (1, 2)}
    file = file_of(exams)
    file.put(Outcome(settings={"stages.x.n": 1}, seed=2, state="failed", why="no memory\nat all"))
    rows = rows_of(file, Baseline(places={"stages.x.n": 1}))
    found = _row(rows, 2, "strong").difference
    assert found is not None
    assert (found.seeds, found.value, found.over_seeds) == ((1,), 0.25, None)
    assert found.over_both == bootstrap([0.0, 1.0, 0.0, 0.0])
    said = notes(file, rows)
    assert said[0] == "failed, and not in any figure: seed 2, n 1: no memory"
    assert "n 1: 1 of 2 seeds; without 2" in said
    assert any(line.startswith("one seed only") for line in said)


def test_items_that_differ_are_not_crossed_and_not_compared(file_of: FileOf) -> None:
    file = file_of({place: EXAMS[place] for place in [(1, 1), (2, 1)]})
    other = file_of({place: EXAMS[place] for place in [(1, 2), (2, 2)]}, items="y")
    file.items |= other.items
    file.runs += other.runs
    rows = rows_of(file, Baseline())
    found = _row(rows, 1, "strong")  # each seed has items of its own, the same for its models
    assert (found.mean.over_both, found.mean.n_items) == (None, None)
    assert found.difference is not None
    assert found.difference.over_seeds == mean_interval([0.5, 0.25])
    assert found.difference.over_both is None
    assert any("each seed has its own items" in line for line in notes(file, rows))
    runs = [run for run in file.runs if run.seed == 1][:1] + other.runs[1:]
    apart = file.model_copy(update={"runs": [runs[0], runs[1].model_copy(update={"seed": 1})]})
    across = rows_of(apart, Baseline(places={"stages.x.n": 1}))
    assert [row.difference for row in across] == [None] * 4  # of two exams


def test_where_takes_some_of_the_items(file_of: FileOf) -> None:
    file = file_of(EXAMS)
    rows = rows_of(file, Baseline(), read_where(["skills=first"], file))
    assert _row(rows, 1, "strong").mean.value == 1.0
    assert _row(rows, 2, "strong").mean.n_items == 1
    whole = rows_of(file, Baseline(), read_where(["skills=first,all"], file))
    assert [astuple(r) for r in whole] == [astuple(r) for r in rows_of(file, Baseline())]
    for text, why in (
        ("skill=x", "no column"),
        ("skills=x", "no item has"),
        ("skills", "expected"),
    ):
        with pytest.raises(ConfigError, match=why):
            read_where([text], file)


def test_many_comparisons_are_mentioned(file_of: FileOf) -> None:
    rows = rows_of(file_of(EXAMS), Baseline("weak", {"stages.x.n": 1}))
    assert any(line.startswith("3 figures are compared") for line in notes(file_of(EXAMS), rows))
