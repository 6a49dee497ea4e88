"""What an engine takes and gives, in this process or on a server."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, Self, cast

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from llm_distill.rows.messages import Message
from llm_distill.stage import later_setting

if TYPE_CHECKING:
    from llm_distill.models.sources import ModelSource

FinishReason = Literal["stop", "length", "error"]


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
    thinking_token_budget: int | None = later_setting(
        None,
        "tokens that may be written inside thoughts (<think>); then the thought is closed, and the "
        "answer follows; null: no limit but max_tokens, which holds for both",
        ge=0,
    )

    @model_validator(mode="after")
    def _leaves_room_for_an_answer(self) -> Self:
        budget = self.thinking_token_budget
        if budget is not None and budget >= self.max_tokens:
            raise ValueError(
                f"thinking_token_budget: {budget} leaves no token of max_tokens: "
                f"{self.max_tokens} for the answer; lower it, or raise max_tokens"
            )
        return self


class StructuredOutput(BaseModel):
    """The form that a completion must have: exactly one of the three."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    json_schema: dict[str, Any] | None = Field(None, description="a JSON Schema of the answer")
    choice: tuple[str, ...] | None = Field(
        None, min_length=1, description="the answer is one of these texts"
    )
    regex: str | None = Field(None, description="a regular expression of the whole answer")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"set one of json_schema, choice and regex; found {found}")
        if self.regex is not None:
            try:
                re.compile(self.regex)
            except re.error as error:
                raise ValueError(f"regex: {error}") from error
        return self


@dataclass(frozen=True, slots=True)
class Request:
    """One completion that is wanted.

    Attributes:
        prompt: text or token ids to be continued, or chat messages for the model's chat template.
        seed: this request's own; the same request gives the same text in any batch.
        logprobs: whether to return each completion token's log-probability.
        structure: the form that the text must have; engines that cannot enforce it raise a
            ModelError.
        tools: schemas of what the model may call, as `rows.messages.read_tools` gives them.
        tokens: whether to return the completion's token ids too, each with its log-probability.
    """

    id: str
    prompt: str | Sequence[Message] | Sequence[int]
    sampling: SamplingSettings
    seed: int = 0
    logprobs: bool = False
    structure: StructuredOutput | None = None
    tools: tuple[dict[str, Any], ...] = ()
    tokens: bool = False

    @property
    def wants_logprobs(self) -> bool:
        return self.logprobs or self.tokens

    @property
    def messages(self) -> Sequence[Message]:
        """The prompt of a chat."""
        return cast("Sequence[Message]", self.prompt)

    @property
    def is_chat(self) -> bool:
        """Whether messages are answered, rather than a text or tokens continued."""
        if isinstance(self.prompt, str):
            return False
        return not self.prompt or not isinstance(self.prompt[0], int)


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back for the request with the same id.

    Attributes:
        text: without the prompt, special tokens or the stop string, otherwise as the model wrote it
            (a plain-text continuation usually begins with a space).
        finish_reason: `stop` (end token or stop string), `length` (max_tokens), `error`.
        logprobs: one a token, in nats, under the model's own distribution (temperature 1).
        cost: what a server charges for it, in the currency of its `price`; 0 for local models.
        error: why there is no text; such a completion is a bad row, not an exception.
        is_passing: with an error: the request was not at fault, and may be answered another time.
        reasoning: what the model thought before it answered, which is not a part of `text`.
        tool_calls: the calls that it asks for, in the form of `rows.messages`.
        thought_cut: whether `thinking_token_budget` closed a thought; None: there was no budget, or
            the engine does not know.
        token_ids: what was written, the end token included if the model wrote one; None where
            `Request.tokens` did not ask for it.
    """

    id: str
    text: str
    finish_reason: FinishReason
    n_prompt_tokens: int = 0
    n_completion_tokens: int = 0
    logprobs: tuple[float, ...] | None = None
    cost: float = 0.0
    error: str | None = None
    is_passing: bool = False
    reasoning: str | None = None
    tool_calls: tuple[dict[str, Any], ...] | None = None
    thought_cut: bool | None = None
    token_ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A completion whose likelihood is wanted. Token ids are taken as they are.

    Attributes:
        ranks: also tell how many tokens are likelier than each, up to this rank; 0: do not.
        top_k: also tell this many of the likeliest tokens at the place of each; 0: do not.
    """

    id: str
    prompt: str | Sequence[Message] | Sequence[int]
    completion: str | Sequence[int]
    ranks: int = 0
    top_k: int = 0


@dataclass(frozen=True, slots=True)
class Score:
    """How likely the completion of the request with the same id is.

    Attributes:
        token_ids: the completion's tokens after the prompt's; no end token is added.
        logprobs: one a token, in nats, under the model's own distribution.
        error: why there are none; a bad row, not an exception.
        ranks: one a token where they were asked for: 1 + the number of tokens strictly likelier, so
            that ties share the better rank; at most the request's `ranks`.
        top_ids: the likeliest tokens at the place of each, the likeliest first; `top_k` a token.
        top_logprobs: theirs, in the same order.
        cost: what a server charges for it, in the currency of its `price`.
        is_passing: with an error: the request was not at fault, and may be answered another time.
    """

    id: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    n_prompt_tokens: int = 0
    error: str | None = None
    ranks: tuple[int, ...] = ()
    top_ids: tuple[int, ...] = ()
    top_logprobs: tuple[float, ...] = ()
    cost: float = 0.0
    is_passing: bool = False


class Engine(Protocol):
    """Streams requests in and completions out, in any order; ids tie them together.

    `requests` is read lazily and no further ahead than the engine can use, so memory stays flat.
    """

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]: ...

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Score]: ...

    def close(self) -> None: ...


class AdapterEngine(Engine, Protocol):
    """Of settings whose `takes_adapters_alone`: it goes on serving as adapters come and go."""

    def change_adapters(self, source: ModelSource) -> None:
        """Answer with the adapters of `source` from now on, over the weights that are there.

        Raises:
            ModelError: they cannot be loaded.
        """
