"""A request to a server and how its answer is read: what `server.Server` knows of either."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from llm_distill.engines.base import Completion, Request, Score, ScoreRequest
from llm_distill.engines.openai.answers import read_answer
from llm_distill.engines.openai.request import endpoint, most_prompt_tokens, request_body

if TYPE_CHECKING:
    from llm_distill.engines.openai.settings import OpenAISettings

Answer = TypeVar("Answer", bound=Completion | Score)
Given_co = TypeVar("Given_co", bound=Completion | Score, covariant=True)
Usage = tuple[int, int]
"""Prompt tokens and completion tokens, as the server counts them."""


class Exchange(Protocol[Given_co]):
    """A request as this protocol has it.

    Attributes:
        asked: what it was made of.
        at: the one address at which it is asked; None: at any.
        endpoint: where it goes, below the address.
        most_prompt_tokens: an upper bound.
        max_tokens: the most that is written for it.
        has_structure: whether the answer is held to a form.
    """

    @property
    def asked(self) -> Request | ScoreRequest: ...
    @property
    def at(self) -> str | None: ...
    @property
    def endpoint(self) -> str: ...
    @property
    def most_prompt_tokens(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def has_structure(self) -> bool: ...

    def body(self, model: str, settings: OpenAISettings) -> dict[str, Any]:
        """As JSON."""
        ...

    def fields(self) -> Collection[str] | None:
        """Of the body, without those that `extra_body` adds; None: none of them can be left out."""
        ...

    def read(self, content: bytes) -> tuple[Given_co, Usage | None]:
        """What an answer with status 200 holds, without its cost; and the usage, if it is known.

        Raises:
            BadAnswerError: it is not JSON.
            PassingError: it says that something failed.
            UnfitServerError: no answer of this server will be of use.
        """
        ...

    def failed(self, why: str, *, is_passing: bool = False) -> Given_co:
        """A bad row."""
        ...


class Writing:
    """A text that is to be written."""

    def __init__(self, request: Request, at: str | None = None) -> None:
        self.asked, self.at = request, at
        self.endpoint = endpoint(request)
        self.most_prompt_tokens = most_prompt_tokens(request)
        self.max_tokens = request.sampling.max_tokens
        self.has_structure = request.structure is not None

    def body(self, model: str, settings: OpenAISettings) -> dict[str, Any]:
        own = settings
        return request_body(self.asked, model, own.leave_out, own.max_tokens_name, own.extra_body)

    def fields(self) -> Collection[str]:
        return request_body(self.asked, "").keys()

    def read(self, content: bytes) -> tuple[Completion, Usage | None]:
        completion, is_known = read_answer(self.asked, content)
        counts = completion.n_prompt_tokens, completion.n_completion_tokens
        return completion, counts if is_known else None

    def failed(self, why: str, *, is_passing: bool = False) -> Completion:
        return Completion(self.asked.id, "", "error", error=why, is_passing=is_passing)
