"""split: stages of one seed give parts that fit together; what does not fit is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.stages.split import Split

Run = Callable[..., Any]
PARTS = {"train": 0.8, "validation": 0.1, "test": 0.1}


def rows(n: int = 50) -> list[dict[str, Any]]:
    return [{"id": f"r{i}", "skill": "ab"[i % 2], "source_id": f"s{i // 3}"} for i in range(n)]


def stage(**settings: Any) -> Split:
    return Split(**{"stage": "split", "rows": "rows", "parts": PARTS, "part": "train", **settings})


def test_the_parts_are_all_rows_and_none_twice(run_stage: Run) -> None:
    found = {part: run_stage(stage(part=part), {"rows": rows()}) for part in PARTS}
    assert [len(found[part].rows) for part in PARTS] == [40, 5, 5]
    assert found["test"].dropped == {"in another part": 45}
    ids = [row["id"] for run in found.values() for row in run.rows]
    assert sorted(ids) == sorted(row["id"] for row in rows())
    assert [row["id"] for row in found["train"].rows] != [f"r{i}" for i in range(40)]


def test_groups_stay_together_and_strata_are_even(run_stage: Run) -> None:
    grouped = [
        {
            row["source_id"]
            for row in run_stage(stage(part=p, group_by="source_id"), {"rows": rows()}).rows
        }
        for p in PARTS
    ]
    assert sum(map(len, grouped)) == len(set.union(*grouped))
    test = run_stage(
        stage(part="test", parts={"test": 20, "train": None}, stratify_by="skill"), {"rows": rows()}
    )
    assert sum(row["skill"] == "a" for row in test.rows) == 10


def test_a_value_that_is_in_no_row_of_the_part_is_said(run_stage: Run) -> None:
    rare = [*rows(), {"id": "x", "skill": "c", "source_id": "x"}]
    said = [
        run_stage(stage(part=part, stratify_by="skill"), {"rows": rare}).warnings for part in PARTS
    ]
    assert sorted(map(len, said)) == [0, 1, 1]
    (warning,) = next(filter(None, said))
    assert "has no row with skill 'c' (1): too few rows to be in each part" in warning


def test_what_cannot_be_met_is_said(run_stage: Run) -> None:
    with pytest.raises(DataError, match="60 rows are wanted and there are 50; lower them"):
        run_stage(stage(parts={"train": 60, "test": None}), {"rows": rows()})
    with pytest.raises(DataError, match="part 'test' gets none of 3 rows"):
        run_stage(stage(part="test"), {"rows": rows(3)})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"part": "tets"}, "no 'tets' in parts; did you mean 'test'"),
        ({"parts": {"train": 0.8, "test": 0.3}}, "the shares add up to 1.1"),
        ({"parts": {"train": None, "test": None}}, "only one part can have null"),
        ({"parts": {"train": -1, "test": None}}, "a share is above 0"),
        ({"parts": {"train": 2.5, "test": None}}, "a number of rows is whole"),
        ({"parts": {"train": 0.8}}, "at least 2"),
    ],
)
def test_parts_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        stage(**settings)
