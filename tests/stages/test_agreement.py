"""agreement: labels from columns or from an evaluation's rows, figures, and the gate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.evaluation.results import Results
from llm_distill.methods.agreement import krippendorff_alpha, tabulate
from llm_distill.stages.agreement import Agreement

Run = Callable[..., Any]

TEACHER = ["a", "a", "a", "a", "b", "b", "b", "b", "a", "b"]
STUDENT = ["a", "a", "a", "b", "b", "b", "b", "a", None, " "]
COLUMNS = [
    {"id": f"i{i}", "split": "test" if i < 8 else "rest", "teacher": t, "student": s,
     "p": [0.9, 0.1], "q": [0.9, 0.1] if i else [0.1, 0.9]}
    for i, (t, s) in enumerate(zip(TEACHER, STUDENT, strict=True))
]  # fmt: skip
ROWS = [
    {"id": f"i{i}-{model}-{shots}", "parent_id": f"i{i}", "model": model, "shots": shots,
     "answer": "c" if shots else label, "probabilities": [1.0, 0.0]}
    for shots in (0, 1)
    for model, labels in (("student", STUDENT), ("teacher", TEACHER), ("other", STUDENT))
    for i, label in enumerate(labels)
]  # fmt: skip
ANNOTATORS = {"annotators": ["teacher", "student"]}
IN_ROWS = {**ANNOTATORS, "label": "answer", "where": {"shots": 0}}


def stage(**settings: Any) -> Agreement:
    return Agreement(**{"stage": "agreement", "rows": "rows", **ANNOTATORS, **settings})


def values(run: Any) -> dict[str, float]:
    return {figure["figure"]: figure["value"] for figure in run.metrics["agreement"]}


def test_columns_of_labels(run_stage: Run) -> None:
    run = run_stage(stage(), {"rows": COLUMNS})
    assert run.rows[3] == {"id": "i3", "teacher": "a", "student": "b", "agrees": False}
    assert [row["agrees"] for row in run.rows].count(True) == 6
    assert run.rows[8]["agrees"] is None
    found = values(run)
    assert found["agreement"] == pytest.approx(6 / 8)
    assert found["kappa"] == pytest.approx((6 / 8 - 1 / 2) / (1 / 2))  # both: 4 a, 4 b
    assert found["label_loyalty"] == pytest.approx(6 / 10)  # two labels are missing
    assert found["alpha"] == pytest.approx(1 - 15 * (4 / 2) / (8 * 8))  # 4 of 16 values, pairwise
    assert run.metrics["missing"] == {"teacher": 0, "student": 2}
    assert {f["figure"]: f["n"] for f in run.metrics["agreement"]}["label_loyalty"] == 10
    assert all(f["low"] <= f["value"] <= f["high"] for f in run.metrics["agreement"])


def test_rows_of_an_evaluation_give_the_same(run_stage: Run) -> None:
    of_columns = run_stage(stage(), {"rows": COLUMNS})
    of_rows = run_stage(stage(**IN_ROWS), {"rows": ROWS})
    assert values(of_rows) == values(of_columns)
    assert of_rows.rows[3] == {"id": "i3", "teacher": "a", "student": "b", "agrees": False}
    assert len(of_rows.rows) == 10


def test_probabilities_of_columns_and_of_rows(run_stage: Run) -> None:
    run = run_stage(stage(probabilities=["p", "q"]), {"rows": COLUMNS})
    assert 0.9 < values(run)["probability_loyalty"] < 1.0
    one = [{**row, "q": None} for row in COLUMNS[:1]] + COLUMNS[1:]
    run = run_stage(stage(probabilities=["p", "q"]), {"rows": one})
    assert run.metrics["agreement"][-1]["n"] == 9
    assert values(run)["probability_loyalty"] == 1.0
    run = run_stage(stage(**IN_ROWS, probabilities=["probabilities"]), {"rows": ROWS})
    assert values(run)["probability_loyalty"] == 1.0
    bad = [*COLUMNS[:4], {**COLUMNS[4], "q": [0.4, 0.4]}, *COLUMNS[5:]]
    with pytest.raises(DataError, match="item i4, teacher and student: .*add up to 1"):
        run_stage(stage(probabilities=["p", "q"]), {"rows": bad})


def test_three_annotators(run_stage: Run) -> None:
    run = run_stage(
        stage(**{**IN_ROWS, "annotators": ["teacher", "student", "other"]}), {"rows": ROWS}
    )
    of = {(f["figure"], *f["annotators"]): f["value"] for f in run.metrics["agreement"]}
    assert of["kappa", "student", "other"] == 1.0
    assert of["label_loyalty", "teacher", "other"] == pytest.approx(0.6)
    assert ("label_loyalty", "student", "other") not in of
    assert -1 < of["alpha", "teacher", "student", "other"] < 1


def test_a_gate_lets_through_or_fails_with_all_figures(run_stage: Run) -> None:
    assert run_stage(stage(minimum={"kappa": 0.5}), {"rows": COLUMNS}).rows
    with pytest.raises(DataError) as failed:
        run_stage(stage(minimum={"kappa": 0.6, "agreement": 0.7}), {"rows": COLUMNS})
    said = str(failed.value)
    assert said.startswith("kappa of teacher, student is 0.500, below 0.6; the figures are\n")
    for figure in ("agreement", "kappa", "label_loyalty", "alpha"):
        assert f"  {figure} of teacher, student: 0." in said


def test_undefined_figures_are_said_and_do_not_pass_a_gate(run_stage: Run) -> None:
    same = [{**row, "teacher": "a", "student": "a"} for row in COLUMNS]
    run = run_stage(stage(), {"rows": same})
    assert values(run) == {"agreement": 1.0, "kappa": None, "label_loyalty": 1.0, "alpha": None}
    assert run.warnings[0] == "kappa of teacher, student is undefined: all labels are the same"
    with pytest.raises(DataError, match="kappa of teacher, student is undefined, below -1"):
        run_stage(stage(minimum={"kappa": -1.0}), {"rows": same})


def test_level_needs_numbers(run_stage: Run) -> None:
    graded = [{"id": f"i{i}", "teacher": str(i % 5), "student": i % 4} for i in range(10)]
    nominal, interval = (
        values(run_stage(stage(level=level), {"rows": graded})) for level in ("nominal", "interval")
    )
    assert nominal["agreement"] == 0.0  # the text "4" is not the number 4 ...
    assert interval["agreement"] == pytest.approx(0.4)  # ... unless both are read as numbers
    assert interval["alpha"] != nominal["alpha"]
    with pytest.raises(DataError, match="item i0: the label 'a' is not a number, as level"):
        run_stage(stage(level="ordinal"), {"rows": COLUMNS})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"where": {"split": "rest"}}, "0 of 2 items of 'rows' have labels of two annotators"),
        ({"where": {"split": "tset"}}, "no row of 'rows' has {'split': 'tset'}"),
        ({"annotators": ["p", "q"]}, "item i0: a label is text or a number"),
    ],
)
def test_columns_that_cannot_be(run_stage: Run, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        run_stage(stage(**settings), {"rows": COLUMNS})


def test_rows_that_cannot_be(run_stage: Run) -> None:
    with pytest.raises(DataError, match=r"'student' has two rows of item i0 .* where: {shots: 0}"):
        run_stage(stage(**{**IN_ROWS, "where": {}}), {"rows": ROWS})
    with pytest.raises(DataError, match="no row with model: techer; did you mean 'teacher'"):
        run_stage(stage(**{**IN_ROWS, "annotators": ["techer", "student"]}), {"rows": ROWS})


@pytest.mark.parametrize(
    "settings",
    [{"annotators": ["a"]}, {"annotators": ["a", "a"]}, {"annotators": ["a", "id"]},
     {"probabilities": ["p"]}, {"label": "answer", "probabilities": ["p", "q"]},
     {"minimum": {"kapa": 0.6}}, {"minimum": {"probability_loyalty": 0.9}}],
)  # fmt: skip
def test_settings_that_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        stage(**settings)


def test_columns_before_a_run_are_those_of_a_run(run_stage: Run) -> None:
    run = run_stage(stage(), {"rows": COLUMNS})
    assert stage().output_columns({"rows": frozenset(COLUMNS[0])}) == set(run.rows[0])
    assert stage(**IN_ROWS).required_columns() == {
        "rows": {"answer", "model", "parent_id", "shots"}
    }


def sample(teacher: str, *people: str) -> list[dict[str, Any]]:
    """Labels of a letter each."""
    names = ["teacher", *(f"p{number}" for number in range(len(people)))]
    return [
        {"id": f"i{number}", **dict(zip(names, given, strict=True))}
        for number, given in enumerate(zip(teacher, *people, strict=True))
    ]


def with_people(n: int, **settings: Any) -> Agreement:
    people = [f"p{number}" for number in range(n)]
    return stage(annotators=["teacher", *people], people=people, **settings)


def test_a_teacher_is_compared_with_people_and_people_with_each_other(run_stage: Run) -> None:
    given = "aabbccabcaab", "aabbccabcabb", "aabbccabccbb"
    alphas = {
        pair: krippendorff_alpha(tabulate(given[pair[0]], given[pair[1]]))
        for pair in ((0, 1), (0, 2), (1, 2))
    }
    wanted = (alphas[0, 1] + alphas[0, 2]) / 2 - alphas[1, 2]
    rows = sample(*given)
    run = run_stage(with_people(2, minimum={"gap_to_people": -0.2}), {"rows": rows})
    figure = next(f for f in run.metrics["agreement"] if f["figure"] == "gap_to_people")
    assert figure["value"] == pytest.approx(wanted)
    assert figure["low"] <= figure["value"] <= figure["high"]
    with pytest.raises(DataError, match=r"gap_to_people of teacher, p0, p1 is -0.*, below -0.01"):
        run_stage(with_people(2, minimum={"gap_to_people": -0.01}), {"rows": rows})


def test_people_are_compared_on_what_the_teacher_labelled(run_stage: Run) -> None:
    """Else it could leave out all that people do not agree about."""
    people = "aabbccabcaab", "aabbccabcabb"
    given = [*people[0][:8], None, None, None, None]
    run = run_stage(with_people(2), {"rows": sample(given, *people)})
    short = run_stage(with_people(2), {"rows": sample(*(each[:8] for each in (given, *people)))})
    assert values(run)["gap_to_people"] == values(short)["gap_to_people"]
    figure = next(f for f in run.metrics["agreement"] if f["figure"] == "gap_to_people")
    assert figure["n"] == 8
    assert "'teacher' has no label in 4 of 12 items" in run.warnings[0]


def test_labels_in_two_spellings(run_stage: Run) -> None:
    people = "aabbccab", "aabbccab"
    rows = sample(people[0].upper(), *people)
    run = run_stage(with_people(2), {"rows": rows})
    assert "differ in case, space or stops alone" in run.warnings[0]
    assert "'A' and 'a'" in run.warnings[0]
    with pytest.raises(DataError, match="write them alike: with `minimum` this is a gate"):
        run_stage(with_people(2, minimum={"gap_to_people": -2}), {"rows": rows})


def test_one_of_the_people_in_the_teachers_place_agrees_as_they_do(run_stage: Run) -> None:
    people = "aabbccabcaab", "aabbccabcabb"
    run = run_stage(with_people(2), {"rows": sample(people[0], *people)})
    apart = krippendorff_alpha(tabulate(*people))
    assert apart is not None
    assert values(run)["gap_to_people"] == pytest.approx((1 + apart) / 2 - apart)


def test_by_label_it_shows_where_the_teacher_is_alone(run_stage: Run) -> None:
    """It calls each c an a, which people agree on; b is as they have it."""
    run = run_stage(with_people(2), {"rows": sample("aaabbbaaa", "aaabbbccc", "aaabbbccc")})
    (table,) = Results.from_metrics(run.metrics).own
    found = {(f.labels["label"], f.labels["alpha of"]): f.value for f in table.figures}
    assert found["b", "teacher and people"] == found["b", "people"] == 1
    assert found["c", "people"] == 1
    assert found["c", "teacher and people"] < 0
    assert found["a", "teacher and people"] < 0.5


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"people": ["p0"]}, "people: two or more of p0, p1"),
        ({"people": ["teacher", "p0"]}, "people: two or more of p0, p1"),
        ({"people": ["p0", "p0"]}, "people: two or more of p0, p1, each once"),
        ({"minimum": {"gap_to_people": 0}}, "gap_to_people needs `people`"),
    ],
)
def test_people_are_two_of_the_others(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        stage(annotators=["teacher", "p0", "p1"], **settings)
