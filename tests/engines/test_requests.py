"""Rows become requests, and every job comes back in order, asked or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from llm_distill.engines.base import Completion, Request, SamplingSettings
from llm_distill.engines.requests import (
    Job,
    answered,
    make_job,
    offered_variables,
)
from llm_distill.prompts import Template, load_template

SAMPLING = SamplingSettings()


@pytest.fixture
def template(tmp_path: Path) -> Template:
    path = tmp_path / "ask.jinja"
    path.write_text("{{ task_description }} {{ question }}\n")
    return load_template(str(path))


def test_what_is_offered_is_what_can_be_given() -> None:
    columns = frozenset({"question"})
    offered = offered_variables(columns, {"a": 1}, "examples")
    assert offered == {"question", "a", "examples"}
    assert offered_variables(None, {"a": 1}) is None


@pytest.mark.parametrize("question", [None, "", "  \n"])
def test_a_null_or_blank_variable_is_not_asked(template: Template, question: str | None) -> None:
    values = {"task_description": "Add.", "question": question}
    job, text = make_job("a", None, template, values, "text", SAMPLING, 1)
    assert job.request is None
    assert text is None
    assert job.error is not None
    assert "question is null or empty" in job.error


def test_a_missing_variable_is_not_asked_either(template: Template) -> None:
    job, _ = make_job("a", None, template, {"question": "2 + 2?"}, "text", SAMPLING, 1)
    assert job.request is None
    assert "task_description" in str(job.error)


def test_a_prompt_does_not_end_in_white_space(template: Template) -> None:
    values = {"task_description": "Add.", "question": "2 + 2? "}
    job, text = make_job("a", None, template, values, "text", SAMPLING, 7)
    assert text == "Add. 2 + 2?"
    assert job.request == Request("a", "Add. 2 + 2?", SAMPLING, 7)
    chat, _ = make_job("a", None, template, values, "chat", SAMPLING, 7)
    assert chat.request is not None
    assert chat.request.prompt == [{"role": "user", "content": "Add. 2 + 2?"}]


@pytest.mark.parametrize("bad", [{0}, {2}, {4}, {0, 1, 2, 3, 4}, {1, 2, 4}, set()])
def test_unasked_jobs_keep_their_place(bad: set[int]) -> None:
    jobs = [
        Job(str(i), i, None if i in bad else Request(str(i), "", SAMPLING), f"bad {i}")
        for i in range(5)
    ]

    def ask(requests: Iterable[Request]) -> Iterator[tuple[Request, Completion]]:
        for request in list(requests):
            yield request, Completion(request.id, f"answer {request.id}", "stop")

    came = list(answered(jobs, ask))
    assert [job.about for job, _ in came] == [0, 1, 2, 3, 4]
    for job, completion in came:
        expected = ("", f"bad {job.about}") if job.about in bad else (f"answer {job.about}", None)
        assert (completion.text, completion.error) == expected


def test_jobs_are_read_no_further_ahead_than_requests_are() -> None:
    read: list[int] = []

    def jobs() -> Iterator[Job[int]]:
        for index in range(100):
            read.append(index)
            yield Job(str(index), index, Request(str(index), "", SAMPLING))

    def ask(requests: Iterable[Request]) -> Iterator[tuple[Request, Completion]]:
        for request in requests:
            yield request, Completion(request.id, "", "stop")

    next(answered(jobs(), ask))
    assert len(read) == 1
