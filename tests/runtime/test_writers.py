"""A warning where a student would learn the words of one teacher and the likelihoods of another."""

from __future__ import annotations

import pytest

from llm_distill.pipeline.load import load_pipeline
from llm_distill.runtime.writers import of_another_teacher
from tests.pipeline.test_shipped import FILES

OTHER = "models.other={model_name_or_path: data/models/tiny-stat-teacher}"


def said(*assignments: str) -> list[str]:
    pipeline = load_pipeline("pipelines/alm.yaml", assignments=assignments)
    return list(of_another_teacher(pipeline, list(pipeline.stages)))


@pytest.mark.parametrize(
    "changed",
    [
        ("stages.written.model=other",),
        ("stages.scored.model=other", "stages.alm_student.teacher=other"),
        (
            "stages.scored.model=null",
            "stages.scored.teachers={a: teacher, b: other}",
            "stages.scored.teacher_column=question",
            "stages.alm_student.teacher=null",
            "stages.alm_student.teachers={a: teacher, b: other}",
        ),
        ("stages.written.model=other", "stages.alm_student.online=true"),
    ],
    ids=["writer", "scorer", "one of several", "in memory"],
)
def test_words_and_likelihoods_of_different_teachers(changed: tuple[str, ...]) -> None:
    (warning,) = said(OTHER, *changed)
    writer, scorer = ("other", "teacher") if "written" in changed[0] else ("teacher", "other")
    assert "stages.alm_student.losses" in warning
    assert f"sft learns the words of '{writer}', and '{scorer}' scored them" in warning


@pytest.mark.parametrize(
    "changed",
    [
        (),
        ("stages.written.model=other", "stages.alm_student.losses.sft=null"),
        ("stages.written.model=student",),  # its own words, on which a teacher's likelihoods act
        ("stages.written.model=other", "stages.alm_student.completion_column=reference_answer"),
    ],
    ids=["one teacher", "no sft", "the student's own", "not what it wrote"],
)
def test_nothing_is_said_of(changed: tuple[str, ...]) -> None:
    assert said(OTHER, *changed) == []


def test_no_shipped_pipeline_mixes_teachers() -> None:
    for file in FILES:
        pipeline = load_pipeline(file)
        assert list(of_another_teacher(pipeline, list(pipeline.stages))) == [], file
