"""combine_labels: by hand, by name and not by place, and what cannot be combined."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.evaluation.results import Results
from llm_distill.stages.combine_labels import CombineLabels

Run = Callable[..., Any]
NAMES = ["arts", "rail", "sport"]


def stage(*rows: str, **settings: Any) -> CombineLabels:
    given = {"stage": "combine_labels", "rows": rows or ("one", "two"), **settings}
    return CombineLabels(**given)


def said(*p: list[float] | str | None, names: list[str] = NAMES, **more: Any) -> list[dict]:
    """Rows of a teacher: probabilities, a label alone, or nothing."""
    made = []
    for i, of in enumerate(p):
        label = names[of.index(max(of))] if isinstance(of, list) else of
        found = {"label": label, "choices": names if isinstance(of, list) else None}
        found["probabilities"] = of if isinstance(of, list) else None
        made.append({"id": f"t{i}", "text": f"text {i}", **found, **more})
    return made


ONE = said([0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6])
TWO = said([0.1, 0.9, 0.0], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4], names=["sport", "rail", "arts"])
"""Sure of rail, of arts, of arts: the first list has another order."""
RIGHT = ["rail", "rail", "arts"]


def held(rows: list[dict], right: list[Any] = RIGHT) -> list[dict]:
    return [{**row, "reference_answer": of} for row, of in zip(rows, right, strict=True)]


def own(run: Any, title: str) -> dict[tuple[str, str], float]:
    (table,) = [t for t in Results.from_metrics(run.metrics).own if t.title == title]
    return {(f.labels["teacher"], f.labels["of"]): f.value for f in table.figures}


def test_labels_are_matched_by_name(run_stage: Run) -> None:
    run = run_stage(stage(), {"one": ONE, "two": TWO[::-1]})
    assert run.rows[0] == {
        "id": "t0",
        "text": "text 0",
        "label": "rail",
        "confidence": pytest.approx(0.6),
        "choices": NAMES,
        "probabilities": pytest.approx([0.3, 0.6, 0.1]),
        "agrees": False,
    }
    assert [row["label"] for row in run.rows] == ["rail", "rail", "sport"]
    assert run.rows[2]["probabilities"] == pytest.approx([0.3, 0.25, 0.45])
    # Another order of the classes is another spelling of the same.
    turned = said(
        *[[row["probabilities"][NAMES.index(n)] for n in NAMES[::-1]] for row in ONE],
        names=NAMES[::-1],
    )
    again = run_stage(stage(), {"one": turned, "two": TWO})
    for row, other in zip(run.rows, again.rows, strict=True):
        assert other["choices"] == NAMES[::-1]
        assert other["probabilities"][::-1] == pytest.approx(row["probabilities"])
    assert run.metrics["agree"] == 0
    assert run.metrics["missing"] == {"one": 0, "two": 0}


def test_weights_temperatures_and_the_surest(run_stage: Run) -> None:
    rows = {"one": ONE, "two": TWO}
    weighted = run_stage(stage(weights={"one": 3, "two": 1}), rows)
    assert weighted.rows[0]["probabilities"] == pytest.approx([0.45, 0.45, 0.1])
    alone = run_stage(stage(weights={"one": 3, "two": 0}), rows)
    assert [r["probabilities"] for r in alone.rows] == [
        pytest.approx(r["probabilities"]) for r in ONE
    ]
    surest = run_stage(stage(how="surest"), rows)
    assert [row["label"] for row in surest.rows] == ["rail", "rail", "sport"]
    assert surest.rows[0]["probabilities"] == pytest.approx([0.0, 0.9, 0.1])
    sure = run_stage(stage("one", temperatures={"one": 0.5}), {"one": ONE})
    squares = [0.36, 0.09, 0.01]
    assert sure.rows[0]["probabilities"] == pytest.approx([s / 0.46 for s in squares])
    assert sure.rows[0]["agrees"] is None
    product = run_stage(stage(how="product"), rows)
    roots = [0.0, 0.27**0.5, 0.01**0.5]  # arts: 0.6 · 0, which is smoothed
    assert product.rows[0]["probabilities"] == pytest.approx(
        [p / sum(roots) for p in roots], abs=0.03
    )


def test_the_best_of_validation_and_its_weights(run_stage: Run) -> None:
    rows = {"one": ONE, "two": TWO, "held_1": held(ONE), "held_2": TWO}
    on = {"validation": {"one": "held_1", "two": "held_2"}}
    best = run_stage(stage(how="best", **on), rows)
    assert [row["probabilities"] for row in best.rows[:1]] == [pytest.approx([0.0, 0.9, 0.1])]
    table = own(best, "on validation rows")
    assert table["one", "right"] == pytest.approx(1 / 3)
    assert table["two", "right"] == pytest.approx(2 / 3)
    assert table["(together)", "right"] == pytest.approx(2 / 3)
    assert table["(one of them)", "right"] == 1
    weighted = run_stage(stage(weights="validated", temperatures="validated", **on), rows)
    table = own(weighted, "teachers")
    assert sum(table[name, "weight"] for name in ("one", "two")) == pytest.approx(1)
    assert table["two", "weight"] > 0.6
    mirrored = run_stage(
        stage("two", "one", weights="validated", temperatures="validated", **on),
        {**rows, "held_2": held(TWO)},
    )
    assert own(mirrored, "teachers")["two", "weight"] == pytest.approx(
        table["two", "weight"], abs=1e-3
    )


def test_a_text_that_one_teacher_lacks_is_combined_from_the_others(run_stage: Run) -> None:
    one = said([0.6, 0.3, 0.1], None, [0.2, 0.2, 0.6], None, error="no answer")
    two = said([0.1, 0.8, 0.1], [0.1, 0.8, 0.1])
    extra = [{**two[0], "id": "x1"}]
    run = run_stage(stage(), {"one": one, "two": [*two, *extra]})
    assert [row["id"] for row in run.rows] == ["t0", "t1", "t2"]
    assert run.rows[1]["probabilities"] == pytest.approx([0.1, 0.8, 0.1])
    assert run.rows[2]["probabilities"] == pytest.approx([0.2, 0.2, 0.6])
    assert [row["agrees"] for row in run.rows] == [False, None, None]
    assert {row["error"] for row in run.rows} == {None}
    assert run.dropped == {"no label of a teacher that counts": 1}
    assert run.metrics["missing"] == {"one": 2, "two": 2}
    assert own(run, "teachers")["two", "texts labelled"] == 0.5
    assert run.warnings == [
        "1 row of 'two' not in 'one': left out",
        "2 texts without a label by 'one': combined from the others, or dropped where there are "
        "none",
        "2 texts without a label by 'two': combined from the others, or dropped where there are "
        "none",
    ]


def test_numbers_that_are_no_probabilities_are_not_called_a_missing_label(run_stage: Run) -> None:
    two = said([0.1, 0.8, 0.1], [0.1, -0.8, 0.1])
    run = run_stage(stage(), {"one": said([0.6, 0.3, 0.1], [0.6, 0.3, 0.1]), "two": two})
    assert run.warnings[0] == "rows of 'two' that cannot be read: a probability that is none: 1"
    bad = [{**row, "probabilities": [0.5]} for row in two]
    with pytest.raises(DataError, match="no row of 'two' can be read .as many choices as"):
        run_stage(stage(), {"one": said([0.6, 0.3, 0.1], [0.6, 0.3, 0.1]), "two": bad})


def test_validation_rows_that_cannot_be_used_are_counted(run_stage: Run) -> None:
    rows = {
        "one": ONE,
        "two": TWO,
        "held_1": held(ONE, ["rail", None, "football"]),
        "held_2": TWO[:2],
    }
    on = {"validation": {"one": "held_1", "two": "held_2"}}
    run = run_stage(stage(how="best", **on), rows)
    assert run.warnings == [
        "2 validation rows without a right label, or not labelled by all teachers: not used"
    ]
    with pytest.raises(DataError, match="no validation row has a right label among arts, rail"):
        run_stage(stage(how="best", **on), {**rows, "held_1": held(ONE, [None] * 3)})


def test_other_labels_are_refused_unless_a_list_names_them(run_stage: Run, tmp_path: Path) -> None:
    two = said([0.2, 0.1, 0.7], names=["arts", "rail", "other"])
    with pytest.raises(DataError) as refused:
        run_stage(stage(), {"one": ONE[:1], "two": two})
    assert str(refused.value) == (
        "'one' and 'two' have different labels: only 'one' has sport; only 'two' has other; rename "
        "them, or name those to combine in a file (labels): what lies on others is left out"
    )
    file = tmp_path / "labels.yaml"
    file.write_text("[rail, arts]")
    run = run_stage(stage(labels=str(file)), {"one": ONE[:1], "two": two})
    assert run.rows[0]["choices"] == ["rail", "arts"]
    assert run.rows[0]["probabilities"] == pytest.approx([(1 / 3 + 1 / 3) / 2, (2 / 3 + 2 / 3) / 2])


def test_what_both_teachers_abstain_with_is_no_label(run_stage: Run, tmp_path: Path) -> None:
    names = ["arts", "rail", "other"]
    rows = said([0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.1, 0.2, 0.7], names=names)
    rows[2]["label"] = None
    both = {"one": rows, "two": rows}
    with pytest.raises(DataError, match=r"row t2 of 'one' has no label, and 'other' is .*labels\)"):
        run_stage(stage(), both)
    file = tmp_path / "labels.yaml"
    file.write_text("[arts, rail]")
    run = run_stage(stage(labels=str(file)), both)
    assert [row["label"] for row in run.rows] == ["arts", "rail", "rail"]
    assert run.rows[2]["choices"] == ["arts", "rail"]


def test_labels_alone_can_be_averaged_and_nothing_else(run_stage: Run) -> None:
    rows = {"one": ONE, "two": said("rail", "arts", "sport")}
    run = run_stage(stage(), rows)
    assert run.rows[0]["probabilities"] == pytest.approx([0.3, 0.65, 0.05])
    assert [row["label"] for row in run.rows] == ["rail", "arts", "sport"]
    for settings in ({"how": "product"}, {"how": "surest"}, {"temperatures": {"two": 2}}):
        with pytest.raises(DataError, match="needs probabilities, and row t0 of 'two' has a label"):
            run_stage(stage(**settings), rows)


@pytest.mark.parametrize(
    ("two", "says"),
    [
        ([{**row, "id": f"x{row['id']}"} for row in TWO], "'two' has no id of 'one'"),
        ([{**row, "text": "another"} for row in TWO], "row t0 has the text 'another' in 'two'"),
        (said(None, None, None), "'one' and 'two' have different labels: only 'one' has arts"),
    ],
)
def test_rows_that_do_not_go_together(run_stage: Run, two: list[Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        run_stage(stage(), {"one": ONE, "two": two})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"rows": ["one", "one"]}, "each stage can be named once"),
        ({"weights": {"one": 1}}, "weights: 'two' has none; 0 leaves it out"),
        ({"weights": {"one": 1, "tow": 1}}, "weights: no 'tow' in rows; did you mean 'two'"),
        ({"weights": {"one": 0, "two": 0}}, "all are 0"),
        ({"how": "surest", "weights": {"one": 1, "two": 1}}, "how: surest takes one teacher"),
        ({"how": "best"}, "how: best is chosen on validation rows"),
        ({"weights": "validated"}, "weights: validated is chosen on validation rows"),
        ({"temperatures": "validated"}, "temperatures: validated is chosen on validation rows"),
        ({"how": "best", "validation": {"one": "a"}}, "validation: 'two' has none"),
        ({"temperatures": {"one": 0}}, "greater than or equal to 0.01"),
        ({"labels": "nowhere.yaml"}, "labels: no file 'nowhere.yaml'"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        CombineLabels(**{"stage": "combine_labels", "rows": ["one", "two"], **settings})


def test_columns_before_a_run_are_those_of_a_run(run_stage: Run) -> None:
    on = {"validation": {"one": "v", "two": "w"}}
    assert stage(how="best", **on).required_columns() == {
        "one": {"id", "label"},
        "two": {"id", "label"},
        "v": {"id", "label", "reference_answer"},
        "w": {"id", "label"},
    }
    run = run_stage(stage(), {"one": ONE, "two": TWO})
    inputs = {"one": frozenset(ONE[0]), "two": frozenset(TWO[0])}
    assert stage().output_columns(inputs) == set(run.rows[0])
    # In a repeat, settings name stages without their round.
    in_round = stage("one@2", "two", weights={"one": 1, "two": 3})
    assert in_round.required_columns() == {"one@2": {"id", "label"}, "two": {"id", "label"}}
