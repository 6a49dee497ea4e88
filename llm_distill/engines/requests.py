"""From a row to a request, and from requests back to what they were about.

in:  {"id": "q1", "task": "sums", "question": "2 + 2?"} with variables {"task_description": "Add."}
out: Request("q1-0", prompt="Add.\\n\\nQuestion: 2 + 2?", ...), as text or as chat messages
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from llm_distill.engines.base import Completion, Request, SamplingSettings, StructuredOutput
from llm_distill.errors import DataError
from llm_distill.models.sources import PromptFormat
from llm_distill.prompts import Template, as_messages
from llm_distill.rows.messages import Message

About = TypeVar("About")


@dataclass(frozen=True, slots=True)
class Job(Generic[About]):
    """A request and what it is about, or why there can be no request (`error`)."""

    id: str
    about: About
    request: Request | None
    error: str | None = None


def offered_variables(
    columns: frozenset[str] | None, variables: Mapping[str, Any], *more: str
) -> frozenset[str] | None:
    """The names that a template may read: columns, constants and `more`.

    None where the columns are not known yet.
    """
    return None if columns is None else columns.union(variables, more)


def render_prompt(template: Template, values: Mapping[str, Any]) -> str:
    """The prompt, unless a variable that the template reads is null or blank.

    Raises:
        DataError: naming these variables. A prompt with a hole in it would still be answered, and
            nobody would notice.
    """
    empty = sorted(name for name in template.variables if _is_blank(values.get(name, "missing")))
    if empty:
        raise DataError(f"template {template.name}: {', '.join(empty)} is null or empty")
    return template.render(values)


def make_job(
    identity: str,
    about: About,
    template: Template,
    values: Mapping[str, Any],
    prompt_format: PromptFormat,
    sampling: SamplingSettings,
    seed: int,
    structure: StructuredOutput | None = None,
) -> tuple[Job[About], str | None]:
    """The job and its rendered text. A row that cannot be rendered is a job with an error."""
    try:
        text = render_prompt(template, values)
    except DataError as error:
        return Job(identity, about, None, str(error)), None
    prompt = text if prompt_format == "text" else as_messages(text)
    request = Request(identity, prompt, sampling, seed, structure=structure)
    return Job(identity, about, request), text


def example_turns(question: Template, answer: Template, values: Mapping[str, Any]) -> list[Message]:
    """A worked example as a user's turn and the assistant's.

    Raises:
        DataError: as `render_prompt` does.
    """
    return [
        {"role": "user", "content": render_prompt(question, values)},
        {"role": "assistant", "content": render_prompt(answer, values)},
    ]


def make_chat_job(
    identity: str,
    about: About,
    messages: Sequence[Message],
    sampling: SamplingSettings,
    seed: int,
    structure: StructuredOutput | None = None,
    tools: Sequence[dict[str, Any]] = (),
) -> Job[About]:
    """The job of continuing a conversation."""
    request = Request(identity, messages, sampling, seed, structure=structure, tools=tuple(tools))
    return Job(identity, about, request)


def answered(
    jobs: Iterable[Job[About]],
    ask: Callable[[Iterable[Request]], Iterable[tuple[Request, Completion]]],
) -> Iterator[tuple[Job[About], Completion]]:
    """Every job in order with its completion; a job without a request has an `error` completion.

    Args:
        jobs: read no further ahead than `ask` reads requests.
        ask: gives the completions of requests in their order, as `Context.generate` does.
    """
    waiting: deque[Job[About]] = deque()

    def requests() -> Iterator[Request]:
        for job in jobs:
            waiting.append(job)
            if job.request is not None:
                yield job.request

    for request, completion in ask(requests()):
        while waiting[0].request is not request:
            yield _unasked(waiting.popleft())
        yield waiting.popleft(), completion
    while waiting:
        yield _unasked(waiting.popleft())


def _unasked(job: Job[About]) -> tuple[Job[About], Completion]:
    return job, Completion(job.id, "", "error", error=job.error)


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())
