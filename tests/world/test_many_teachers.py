"""The three teachers of data/notices together: what is planted shows, label by label."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from llm_distill.methods.label_combination import Combination, chosen
from llm_distill.methods.labels import likeliest
from llm_distill.methods.opinion_pools import at_temperature
from llm_distill.methods.teacher_labels import Held, TeacherLabels, held_out, same_labels
from llm_distill.pipeline.load import load_pipeline

DATA = Path(__file__).parents[2] / "data" / "notices"
TEACHERS = {"first": DATA, "second": DATA / "second", "third": DATA / "third"}


@cache
def rows(name: str, split: str) -> list[dict[str, Any]]:
    lines = (TEACHERS[name] / f"{split}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@cache
def held(*names: str, split: str = "validation") -> Held:
    of = {name: TeacherLabels.read(name, rows(name, split)) for name in names}
    right = {row["id"]: row["reference_answer"] for row in rows("first", split)}
    return held_out(of, right, same_labels([*of.values()]))


def right(how: Combination, on: Held) -> float:
    names = [str(place) for place in range(on.p.shape[-1])]
    said = [likeliest(p, names)[0] for p in how.of_held(on).tolist()]
    return sum(int(label) == of for label, of in zip(said, on.right, strict=True)) / len(said)


def equal(*names: str, how: Any = "mean") -> Combination:
    return chosen(how, names, "equal", {}, None)


def test_the_mean_is_better_than_each_teacher_and_the_surest_is_not() -> None:
    on = held(*TEACHERS)
    single = [right(equal(name), held(name)) for name in TEACHERS]
    assert right(equal(*TEACHERS), on) > max(single) + 0.02
    assert right(equal(*TEACHERS, how="surest"), on) < max(single)
    oracle = (on.p.argmax(-1) == on.right).any(0).mean()
    assert oracle > right(equal(*TEACHERS), on)


def test_copies_have_the_last_word_until_weights_are_chosen() -> None:
    on = held(*TEACHERS)
    names = ("first", "copy", "again", "second", "third")
    copied = Held(names, on.p[[0, 0, 0, 1, 2]], on.right, 0)
    alone = right(equal("first"), held("first"))
    assert right(equal(*names), copied) == pytest.approx(alone, abs=0.02)
    weights = chosen("mean", names, "validated", {}, copied).weights
    apart = chosen("mean", on.teachers, "validated", {}, on).weights
    assert sum(weights[name] for name in names[:3]) == pytest.approx(apart["first"], abs=1e-3)


def test_one_that_is_far_too_sure_outvotes_a_better_one_until_temperatures_are_chosen() -> None:
    on = held("first", "third")
    sure = Held(on.teachers, on.p.copy(), on.right, 0)
    sure.p[1] = at_temperature(on.p[1], 0.1)
    better, worse = (right(equal(name), held(name)) for name in on.teachers)
    assert right(equal(*on.teachers), sure) < (better + worse) / 2
    how = chosen("mean", on.teachers, "equal", "validated", sure)
    assert how.temperatures["third"] == pytest.approx(10, rel=0.2)
    assert right(how, sure) > better - 0.02


def test_students_of_the_shipped_file_differ_in_what_they_learn_from_only() -> None:
    stages: dict[str, Any] = dict(load_pipeline("pipelines/many_teachers.yaml").stages)
    students = {n: s for n, s in stages.items() if s.stage == "train_classifier"}
    assert len(students) == len({s.rows for s in students.values()}) + 1  # gold: of the first's
    own = {"rows", "targets", "label_column"}
    settings = [student.model_dump(exclude=own) for student in students.values()]
    assert all(each == settings[0] for each in settings)
    assert {n for n, s in students.items() if s.targets == "hard"} == {"gold"}
    asked = [s for s in stages.values() if s.stage == "classify"]
    assert {s.model for s in asked} == set(students)
    assert len(stages["exam"].rows) == 1 + len(students)
    assert stages["loyalty"].teacher == stages["exam"].rows[0]
