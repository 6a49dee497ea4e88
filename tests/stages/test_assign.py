"""assign: a row's variant is its own, empty texts stay, and conditions hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.evaluation.results import Results
from llm_distill.stages.assign import Assign

Run = Callable[..., Any]
VARIANTS: dict[str, Any] = {
    "none": {"text": ""},
    "steps": {"text": "Think step by step.", "weight": 2},
    "letter": {"text": "Name the letter.", "when": {"present": "choices"}},
    "open": {"text": "Answer freely.", "when": {"absent": "choices"}},
}


def stage(**settings: Any) -> Assign:
    return Assign.model_validate(
        {"stage": "assign", "rows": "rows", "variants": VARIANTS, **settings}
    )


def rows(n: int = 400) -> list[dict[str, Any]]:
    choices = [["a", "b"], None, []]
    return [{"id": f"q{number}", "choices": choices[number % 3]} for number in range(n)]


def by_id(run: Any) -> dict[str, str]:
    return {row["id"]: row["variant"] for row in run.rows}


def test_a_row_has_its_variant_whatever_others_there_are(run_stage: Run) -> None:
    whole = by_id(run_stage(stage(), {"rows": rows()}))
    assert by_id(run_stage(stage(), {"rows": rows()[::-1]})) == whole
    part = by_id(run_stage(stage(), {"rows": rows()[50:90]}))
    assert part == {name: whole[name] for name in part}
    assert by_id(run_stage(stage(), {"rows": rows()}, seed=1)) != whole
    assert by_id(run_stage(stage(column="other"), {"rows": rows()})) != whole


def test_texts_and_conditions(run_stage: Run) -> None:
    run = run_stage(stage(), {"rows": rows()})
    for row in run.rows:
        assert row["system_message"] == VARIANTS[row["variant"]]["text"]
        assert row["variant"] != ("open" if row["choices"] else "letter")
    (table,) = Results.from_metrics(run.metrics).own
    assert {figure.n for figure in table.figures} == {400}
    counts = {figure.labels["variant"]: round(400 * figure.value) for figure in table.figures}
    assert sum(counts.values()) == 400
    assert counts["none"] == pytest.approx(100, abs=40)
    assert counts["steps"] == pytest.approx(200, abs=40)
    assert "" in [row["system_message"] for row in run.rows]
    assert sum(figure.value for figure in table.figures) == pytest.approx(1)
    assert set(run.features) == stage().output_columns({"rows": frozenset(rows()[0])})


def test_rows_that_no_variant_fits(run_stage: Run) -> None:
    only = stage(variants={"letter": VARIANTS["letter"]})
    run = run_stage(only, {"rows": rows(6)})
    assert list(by_id(run)) == ["q0", "q3"]
    assert run.dropped == {"no variant fits": 4}
    with pytest.raises(DataError, match="no row of 'rows' fits a variant"):
        run_stage(only, {"rows": rows(6)[1:2]})
    run = run_stage(stage(), {"rows": rows(6)[:1]})
    assert "no row has the variant" in run.warnings[0]


def test_settings() -> None:
    assert stage().required_columns() == {"rows": {"id", "choices"}}
    for wrong, said in (
        ({"column": "id"}, "holds something else"),
        ({"variants": {"a": {"text": "", "weight": 0}}}, "greater than 0"),
        ({"variants": {"a": {"text": "", "when": {}}}}, "give one of present and absent"),
    ):
        with pytest.raises(ValidationError, match=said):
            stage(**wrong)


@pytest.mark.parametrize("column", ["score", "messages"])
def test_a_column_of_text_is_written(column: str) -> None:
    with pytest.raises(ValidationError, match=f"'{column}' holds .*, and a"):
        Assign(stage="assign", rows="rows", column=column, variants={"a": {"text": "x"}})
