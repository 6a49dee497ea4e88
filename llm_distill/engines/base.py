"""What an engine takes and gives. Every engine fits this, offline or behind a server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

FinishReason = Literal["stop", "length", "error"]
Message = dict[str, str]


class SamplingSettings(BaseModel):
    """How a completion is drawn. Names are vLLM's and transformers'."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(1.0, ge=0, description="0 is greedy decoding")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus: the smallest set of this mass")
    top_k: int = Field(0, ge=0, description="only the k likeliest tokens; 0 keeps all")
    max_tokens: int = Field(256, ge=1, description="the completion is cut after this many tokens")
    stop: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = Field(
        (), description="texts that end a completion; they are not kept"
    )


@dataclass(frozen=True, slots=True)
class Request:
    """One completion that is wanted.

    prompt: text to be continued as it stands, or chat messages for the model's chat template.
    seed: this request's own; the same request gives the same text again in any batch.
    logprobs: also return each completion token's log-probability.
    """

    id: str
    prompt: str | Sequence[Message]
    sampling: SamplingSettings
    seed: int = 0
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back for the request with the same id.

    text: without the prompt, special tokens or the stop string, otherwise as the model wrote it
        (a plain-text continuation usually begins with a space).
    finish_reason: `stop` (end token or stop string), `length` (max_tokens), `error`.
    logprobs: natural logarithms under the model's own distribution (temperature 1), one a token.
    error: why there is no text; such a completion is a bad row, not an exception.
    """

    id: str
    text: str
    finish_reason: FinishReason
    n_prompt_tokens: int = 0
    n_completion_tokens: int = 0
    logprobs: tuple[float, ...] | None = None
    error: str | None = None


class Engine(Protocol):
    """Streams requests in and completions out, in any order; ids tie them together.

    `requests` is read lazily and no further ahead than the engine can use, so memory stays flat.
    """

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]: ...

    def close(self) -> None: ...
