"""data/notices_people: as the program makes it; people tell which teacher is to be trusted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import notices_people
import pytest

from llm_distill.errors import DataError
from llm_distill.evaluation.results import Results
from llm_distill.stages.agreement import Agreement

DATA = Path(__file__).parents[2] / "data" / "notices_people"
PIPELINE = "pipelines/classify_trusted.yaml"


def lines(split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / f"{split}.jsonl").open()]


def test_the_files_are_what_the_program_makes() -> None:
    texts = Counter()
    for split, n in notices_people.SPLITS.items():
        there = lines(split)
        assert len(there) == n
        assert there[:5] == list(notices_people.labelled(split, 5))
        texts.update(row["text"] for row in there)
    assert set(texts.values()) == {1}


def test_two_teachers_are_wrong_about_as_often_and_one_with_a_system() -> None:
    rows = lines("train")
    right = {
        name: sum(row[name] == row["reference_answer"] for row in rows) / len(rows)
        for name in ("careful", "systematic", "random")
    }
    assert right["careful"] > 0.9
    assert right["systematic"] == pytest.approx(right["random"], abs=0.02)
    further = {name: [row for row in rows if row[name] != row["careful"]] for name in right}
    assert {(row["careful"], row["systematic"]) for row in further["systematic"]} == {
        ("gardens", "weather")
    }
    others = Counter((row["careful"], row["random"]) for row in further["random"])
    assert max(others.values()) < len(further["random"]) / 8
    sample = lines("sample")
    for person in notices_people.PEOPLE:
        wrong = sum(row[person] != row["reference_answer"] for row in sample)
        assert wrong / len(sample) == pytest.approx(notices_people.PEOPLE_WRONG, abs=0.05)


def people(teacher: str) -> Agreement:
    names = notices_people.PEOPLE
    return Agreement(
        stage="agreement",
        rows="sample",
        annotators=(teacher, *names),
        people=names,
        minimum={"gap_to_people": -0.05},
    )


def test_people_stop_what_a_student_would_repeat(run_stage: Callable[..., Any]) -> None:
    """A student that has learned the rule agrees with its teacher wholly; people do not."""
    sample = lines("sample")
    for row in sample:
        row["label"] = "weather" if row["careful"] == "gardens" else row["careful"]
    loyal = Agreement(
        stage="agreement",
        rows="sample",
        annotators=("systematic", "label"),
        minimum={"kappa": 0.7},
    )
    assert all(row["agrees"] for row in run_stage(loyal, {"sample": sample}).rows)
    with pytest.raises(
        DataError, match=r"gap_to_people of systematic, .* is -0\.1.*, below -0\.05"
    ):
        run_stage(people("systematic"), {"sample": sample})
    run = run_stage(people("careful"), {"sample": sample})
    own = {table.title: table for table in Results.from_metrics(run.metrics).own}
    assert "agreement by label" in own


def test_the_table_by_label_names_what_is_mixed_up(run_stage: Callable[..., Any]) -> None:
    """The gap is as wide for a teacher without a system, whose student can still be right."""
    lowest = {}
    for teacher in ("systematic", "random"):
        measured = people(teacher).model_copy(update={"minimum": {}})
        run = run_stage(measured, {"sample": lines("sample")})
        (table,) = [t for t in Results.from_metrics(run.metrics).own if "by label" in t.title]
        alphas = {
            figure.labels["label"]: figure.value
            for figure in table.figures
            if figure.labels["alpha of"] != "people"
        }
        lowest[teacher] = sorted((value, label) for label, value in alphas.items())[:2]
    assert [label for _, label in lowest["systematic"]] == ["gardens", "weather"]
    assert lowest["systematic"][0][0] < 0.1
    assert lowest["random"][0][0] > 0.5
