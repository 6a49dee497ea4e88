"""agreement by category: SIGHT's gate, on planted annotators."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.rows.columns import Row
from llm_distill.runtime.fingerprint import result_settings
from llm_distill.stages.agreement import Agreement

Run = Callable[..., Any]
REPORTED = {
    "setup": (0.95, 0.85), "non-English": (0.94, 0.87), "gratitude": (0.92, 0.92),
    "confusion": (0.91, 0.72), "clarification": (0.83, 0.48), "pedagogy": (0.79, 0.35),
    "general": (0.75, 0.48), "personal": (0.74, 0.32), "none": (0.74, 0.65),
}  # fmt: skip
"""SIGHT's kappas without examples: of two people, and their mean with the model."""


def gate(**settings: Any) -> Agreement:
    given = {"by": "category", "annotators": ["model", "h1", "h2"], "people": ["h1", "h2"]}
    return Agreement(stage="agreement", rows="rows", **{**given, **settings})


def spelled(yes: bool) -> str:
    return "yes" if yes else "no"


def comments(category: str, kappa_hh: float, kappa_hm: float, n: int, share: float) -> list[Row]:
    """Items with these kappas: the one who differs is wrong as often on yes as on no."""
    positive = round(n * share)
    chance = 2 * share * (1 - share)
    rows = []
    draw = random.Random(category)
    wrong = {"h2": kappa_hh, "model": kappa_hm}
    flipped = {}
    for name, kappa in wrong.items():
        half = round(n * chance * (1 - kappa) / 2)
        yes, no = range(positive), range(positive, n)
        flipped[name] = {*draw.sample(yes, min(half, positive)), *draw.sample(no, half)}
    for place in range(n):
        truth = place < positive
        labels = {"h1": spelled(truth)}
        labels |= {name: spelled(truth != (place in of)) for name, of in flipped.items()}
        rows.append({"id": f"c{place}-{category}", "category": category, **labels})
    return rows


def found(run: Any) -> dict[str, Row]:
    return {row["id"]: row for row in run.rows}


def test_the_order_of_the_paper_and_its_reliable_categories(run_stage: Run) -> None:
    """With many items each; the model's kappa with h1 is the reported one, with h2 a bit lower."""
    rows = [row for name, k in REPORTED.items() for row in comments(name, *k, 1500, 0.3)]
    of = found(run_stage(gate(), {"rows": rows}))
    for name, (people, _) in REPORTED.items():
        assert of[name]["kappa_hh"] == pytest.approx(people, abs=0.005)
    measured = sorted(of, key=lambda name: of[name]["kappa_hh"])
    assert [REPORTED[name][0] for name in measured] == sorted(k for k, _ in REPORTED.values())
    assert [name for name in of if of[name]["passes"]] == [
        "setup", "non-English", "gratitude", "confusion",
    ]  # fmt: skip
    assert min(of[n]["kappa_hm"] for n, (people, _) in REPORTED.items() if people > 0.9) > 0.65


def test_at_the_papers_size_a_rare_category_is_not_known_and_it_says_so(run_stage: Run) -> None:
    rows = [
        *comments("setup", 0.95, 0.85, 289, 11 / 289),
        *comments("gratitude", 0.96, 0.94, 289, 0.4),
    ]
    run = run_stage(gate(), {"rows": rows})
    of = found(run)
    assert (of["setup"]["passes"], of["gratitude"]["passes"]) == (False, True)
    assert (of["setup"]["n"], of["setup"]["n_positive"]) == (289, 12)  # 11, and one by h2
    assert of["setup"]["low_hh"] < 0.8 < of["setup"]["kappa_hh"]
    (warning,) = run.warnings
    assert warning.startswith("category 'setup': 12 of 289 items are positive, so its kappas")
    assert run.dropped == {}  # its row is written
    assert (run.metrics["n_categories"], run.metrics["n_failed"]) == (2, 1)
    (table,) = run.metrics["figures"]
    assert {row["labels"]["category"] for row in table["rows"]} == {"setup", "gratitude"}
    with pytest.raises(DataError) as failed:
        run_stage(gate(on_failure="stop"), {"rows": rows})
    said = str(failed.value)
    assert said.startswith("1 of the 2 categories of 'rows' cannot be relied on (lower_bounds: kap")
    assert "\n  setup: people 0." in said
    assert "gratitude" not in said
    low = gate(on_failure="stop", lower_bounds={"kappa_hh": 0.4, "kappa_hm": 0.3})
    assert all(row["passes"] for row in run_stage(low, {"rows": rows}).rows)


def test_items_that_a_prompt_was_chosen_on_pass_what_should_not(run_stage: Run) -> None:
    """Of 32 prompts, all as good, the one is taken that is best on a part."""
    n, part, draw = 500, 100, random.Random(3)
    truth = [place % 3 == 0 for place in range(n)]
    prompts = [[yes != (draw.random() < 0.16) for yes in truth] for _ in range(32)]
    best = max(
        prompts, key=lambda said: sum(a == b for a, b in zip(said[:part], truth, strict=False))
    )
    rows = [
        {"id": f"c{place}", "category": "setup", "h1": spelled(yes), "h2": spelled(yes),
         "model": spelled(said)}
        for place, (yes, said) in enumerate(zip(truth, best, strict=True))
    ]  # fmt: skip
    on_tuning = run_stage(gate(), {"rows": rows[:part]})
    apart = run_stage(gate(chosen_on="tuning"), {"rows": rows, "tuning": rows[:part]})
    assert found(on_tuning)["setup"]["passes"]
    assert not found(apart)["setup"]["passes"]
    assert found(apart)["setup"]["n"] == n - part
    assert apart.dropped["a prompt was chosen on it"] == part
    with pytest.raises(DataError, match="a prompt was chosen on all of them"):
        run_stage(gate(chosen_on="rows"), {"rows": rows})


def test_annotators_are_lined_up_by_id(run_stage: Run) -> None:
    """Rows with one label each, in any order, give the same as columns."""
    wide = comments("setup", 0.9, 0.8, 150, 0.3)
    long = [
        {"id": f"{row['id']}-{name}", "parent_id": row["id"], "model": name, "label": row[name],
         "category": row["category"]}
        for row in wide
        for name in ("model", "h1", "h2")
    ]  # fmt: skip
    random.Random(0).shuffle(long)
    columns = run_stage(gate(), {"rows": wide})
    in_rows = run_stage(gate(label="label"), {"rows": long})
    assert in_rows.rows == columns.rows
    left = run_stage(gate(label="label", chosen_on="tuning"), {"rows": long, "tuning": long[:40]})
    assert left.rows[0]["n"] == 150 - len({row["parent_id"] for row in long[:40]})
    alone = {**long[0], "id": "alone", "parent_id": None}  # nobody else labels what it is about
    run = run_stage(gate(label="label"), {"rows": [*long, alone]})
    assert run.rows == columns.rows
    assert run.dropped["without a label of each annotator"] == 1


def test_what_is_missing_is_left_out_and_what_cannot_be_is_said(run_stage: Run) -> None:
    rows = comments("setup", 0.9, 0.8, 60, 0.3)
    gaps = [{**row, "h1": None} if place < 5 else row for place, row in enumerate(rows)]
    run = run_stage(gate(), {"rows": gaps})
    assert run.rows[0]["n"] == 55
    assert run.dropped["without a label of each annotator"] == 5
    for changed, said in (
        ({"model": "maybe"}, "category 'setup' has the labels maybe, no, yes: with `by` there are"),
        ({"category": " "}, "row c0-setup of 'rows' has no 'category'"),
    ):
        with pytest.raises(DataError, match=said):
            run_stage(gate(), {"rows": [{**rows[0], **changed}, *rows[1:]]})
    with pytest.raises(DataError, match="no item of any category has the label 'true'"):
        run_stage(gate(positive="true"), {"rows": [{**row, **dict.fromkeys(
            ("h1", "h2", "model"), "no")} for row in rows]})  # fmt: skip
    both = [{**rows[0], "category": "other"}, *rows]
    with pytest.raises(DataError, match="item c0-setup of 'rows' is of 'other' and of 'setup'"):
        run_stage(gate(), {"rows": both})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"by": None, "chosen_on": "x"}, "chosen_on: goes with `by`"),
        ({"people": []}, "name two or more of the annotators as `people`"),
        ({"minimum": {"kappa": 0.5}}, "have `lower_bounds`; remove minimum"),
        ({"by_label": True}, "by and by_label: categories are in a column, or are the labels"),
        ({"by": None, "by_label": True, "positive": "y"}, "positive goes with `by`"),
        ({"by": None, "by_label": True, "people": []}, "by_label: name two or more of the annot"),
        ({"by": None, "by_label": True, "level": "ordinal"}, "by_label: categories of yes and no"),
        ({"lower_bounds": {"kappa": 0.5}}, "kappa"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    given = {"by": "category", "people": ["h1", "h2"], "annotators": ["model", "h1", "h2"]}
    with pytest.raises(ValidationError, match=said):
        Agreement(**{"stage": "agreement", "rows": "rows", **given, **settings})


def test_without_by_it_is_the_same_work_as_before(run_stage: Run) -> None:
    before = Agreement(stage="agreement", rows="rows", annotators=["a", "b"])
    assert not {"by", "by_label", "positive", "lower_bounds", "on_failure", "chosen_on"} & {
        *result_settings(before)
    }
    assert before.output_columns({"rows": frozenset()}) == {"id", "a", "b", "agrees"}
    run = run_stage(gate(), {"rows": comments("setup", 0.9, 0.8, 60, 0.3)})
    assert gate().output_columns({"rows": frozenset()}) == {*run.rows[0]}


def test_rows_that_are_not_chosen_need_no_category(run_stage: Run) -> None:
    rows = [{**row, "shots": 0} for row in comments("setup", 0.9, 0.9, 40, 0.5)]
    other = {**rows[0], "id": "other", "category": None, "shots": 1}
    run = run_stage(gate(where={"shots": 0}), {"rows": [*rows, other]})
    assert [row["n"] for row in run.rows] == [40]


def test_each_label_is_a_category(run_stage: Run) -> None:
    """The same figures as of rows of yes and no, one for each text and label."""
    draw = random.Random(5)
    names, kinds = ("model", "h1", "h2"), ["guess", "method", "result"]
    rows = []
    for place in range(240):
        truth = kinds[place % 3]
        said = {n: truth if draw.random() < 0.9 else draw.choice(kinds) for n in names}
        # The model takes every second wrong result for a wrong method.
        if truth == "result" and place % 2:
            said["model"] = "method"
        rows.append({"id": f"t{place}", **said})
    wide = [
        {"id": f"{row['id']}-{kind}", "category": kind,
         **{name: spelled(row[name] == kind) for name in names}}
        for kind in kinds
        for row in rows
    ]  # fmt: skip
    bounds = {"kappa_hh": 0.6, "kappa_hm": 0.6}
    by_label = run_stage(gate(by=None, by_label=True, lower_bounds=bounds), {"rows": rows})
    assert by_label.rows == run_stage(gate(lower_bounds=bounds), {"rows": wide}).rows
    assert {name: row["passes"] for name, row in found(by_label).items()} == {
        "guess": True, "method": False, "result": False,
    }  # fmt: skip
    spoken = [{**row, "h1": f" {row['h1'].title()}"} for row in rows]  # people write as they like
    again = run_stage(gate(by=None, by_label=True, lower_bounds=bounds), {"rows": spoken})
    assert [{**row, "id": row["id"].lower()} for row in again.rows] == by_label.rows
    lists = [{"id": row["id"], **{name: [row[name]] for name in names}} for row in rows]
    of_lists = run_stage(gate(by=None, by_label=True, lower_bounds=bounds), {"rows": lists})
    assert of_lists.rows == by_label.rows
    stops = gate(by=None, by_label=True, lower_bounds=bounds, on_failure="stop")
    with pytest.raises(DataError, match="2 of the 3 categories of 'rows' cannot be relied on"):
        run_stage(stops, {"rows": rows})


def test_labels_in_lists_that_are_empty_or_missing(run_stage: Run) -> None:
    """An empty list is an answer, and a null one is none; a label that no person gives fails."""
    rows: list[Row] = [
        {"id": f"t{n}", "model": [*(["cold"] if n % 2 else []), *(["odd"] if n < 3 else [])],
         "h1": ["cold"] if n % 2 else [], "h2": ["cold"] if n % 2 else []}
        for n in range(60)
    ]  # fmt: skip
    rows[0]["h1"] = None
    run = run_stage(
        gate(by=None, by_label=True, chosen_on="seen"), {"rows": rows, "seen": rows[9:]}
    )
    of = found(run)
    assert run.dropped == {"a prompt was chosen on it": 51, "without a label of each annotator": 1}
    assert {name: (row["n"], row["n_positive"]) for name, row in of.items()} == {
        "cold": (8, 4), "odd": (8, 0),
    }  # fmt: skip
    assert (of["odd"]["kappa_hh"], of["odd"]["passes"]) == (None, False)
    with pytest.raises(DataError, match=r"not \[\]; by_label: true reads lists"):
        run_stage(
            Agreement(stage="agreement", rows="rows", annotators=["h2", "h1"]), {"rows": rows}
        )
    none = [{**row, "model": []} for row in rows]
    with pytest.raises(DataError, match="no item of 'rows' has labels of each of model, h1, h2"):
        run_stage(gate(by=None, by_label=True), {"rows": [{**r, "h1": [], "h2": []} for r in none]})
