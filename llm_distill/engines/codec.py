"""From requests to tokens and back, for engines that run a model in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llm_distill.engines.base import Completion, FinishReason, Request, Score, ScoreRequest
from llm_distill.errors import ModelError
from llm_distill.methods.chat_format import ChatFormat
from llm_distill.rows.messages import Message
from llm_distill.rows.thoughts import opened_thought
from llm_distill.rows.unusable import UnusableRowError

if TYPE_CHECKING:
    from llm_distill.engines.settings import LongPrompt


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request as token ids, and how many tokens may be written for it.

    opened: the tag with which a chat template begins the answer, such as `<think>`; the model
        writes what follows.
    """

    request: Request
    tokens: list[int]
    limit: int
    opened: str = ""


@dataclass(frozen=True, slots=True)
class ScoredTokens:
    """A completion to score: the tokens of the prompt, then one or more from index `start`."""

    request: ScoreRequest
    tokens: list[int]
    start: int


class Codec:
    """Encodes requests for a model and decodes what it writes."""

    def __init__(
        self,
        name: str,
        tokenizer: Any,
        ends: frozenset[int],
        context: int,
        long_prompt: LongPrompt,
        chat: ChatFormat | None = None,
    ) -> None:
        """ends: ids that end a completion. context: most tokens of prompt and completion.

        chat: how the model is spoken to; None stands for its tokenizer's own chat template.
        """
        self._chat = chat or ChatFormat(tokenizer)
        self._name, self._tokenizer, self._ends = name, tokenizer, ends
        self._context, self._long_prompt = context, long_prompt
        self._anchor: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"]

    def read(self, request: Request) -> Prompt | Completion:
        """The request's tokens, or a completion that says why it cannot be answered.

        Raises:
            ModelError: messages without a chat template; the prompt is too long, and that fails.
        """
        wanted = min(request.sampling.max_tokens, self._context // 2)
        tokens, error = self._prompt(request, 1, wanted)
        if error is not None:
            return Completion(request.id, "", "error", len(tokens), error=error)
        limit = min(request.sampling.max_tokens, self._context - len(tokens))
        return Prompt(request, tokens, limit, self._opened(tokens))

    def read_scored(self, request: ScoreRequest) -> ScoredTokens | Score:
        """The tokens of prompt and completion, or a score that needs no model: none, or an error.

        Raises:
            ModelError: as `read` does.
        """
        completion = self._ids(request.completion)
        tokens, error = self._prompt(request, len(completion), len(completion))
        if error is not None or not completion:
            return Score(request.id, n_prompt_tokens=len(tokens), error=error)
        return ScoredTokens(request, tokens + completion, len(tokens))

    def completion(
        self, prompt: Prompt, tokens: list[int], stopped: bool, logprobs: tuple[float, ...] | None
    ) -> Completion:
        """What the model wrote, up to the first stop string.

        Args:
            prompt: what it was written for.
            tokens: all that was written, end token and stop string included.
            stopped: whether it ended by itself rather than at the limit.
            logprobs: one a token, where they were asked for.
        """
        text = self.text(tokens[:-1] if tokens and tokens[-1] in self._ends else tokens)
        reason: FinishReason = "stop" if stopped else "length"
        starts = [text.find(stop) for stop in prompt.request.sampling.stop if stop in text]
        if starts:
            text, reason = text[: min(starts)], "stop"
        return Completion(
            prompt.request.id,
            prompt.opened + text,
            reason,
            len(prompt.tokens),
            len(tokens),
            logprobs=logprobs,
            token_ids=tuple(tokens) if prompt.request.tokens else None,
        )

    def text(self, tokens: list[int]) -> str:
        """The text of completion tokens, decoded after a letter.

        Some tokenizers (Llama 2's, Mistral's) drop the space before a text's first word.
        """
        whole: str = self._tokenizer.decode(
            self._anchor + tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return whole.removeprefix("a")

    def _prompt(
        self, request: Request | ScoreRequest, needed: int, wanted: int
    ) -> tuple[list[int], str | None]:
        """The prompt's tokens, and why the request cannot be answered, or None.

        Args:
            request: whose prompt is read.
            needed: tokens that the completion must have room for.
            wanted: tokens of room that truncation leaves it.
        """
        tools = request.tools if isinstance(request, Request) else ()
        try:
            tokens = self._tokens(request.prompt, tools)
        except UnusableRowError as error:
            return [], f"model '{self._name}': {error}"
        if not tokens:
            return tokens, "the prompt is empty: the model needs a token to continue from"
        if len(tokens) + needed <= self._context:
            return tokens, None
        if self._long_prompt == "truncate" and wanted < self._context:
            return tokens[wanted - self._context :], None
        count = "at least one" if needed == 1 else str(needed)
        message = (
            f"the prompt has {len(tokens)} tokens; model '{self._name}' has a context of "
            f"{self._context}, and the completion needs {count} of them"
        )
        if self._long_prompt == "fail":
            raise ModelError(
                f"request '{request.id}': {message}; engine.long_prompt: skip leaves such rows "
                "out, truncate keeps the end of the prompt"
            )
        return tokens, message

    def _tokens(
        self,
        prompt: str | Sequence[Message] | Sequence[int],
        tools: Sequence[dict[str, Any]],
    ) -> list[int]:
        if isinstance(prompt, str):
            return list(self._tokenizer(prompt, verbose=False)["input_ids"])
        tokens = [item for item in prompt if isinstance(item, int)]
        if tokens:
            return tokens
        if not self._tokenizer.chat_template:
            raise ModelError(
                f"model '{self._name}' has no chat template, but was given messages; "
                "set prompt_format: text for it under models:"
            )
        messages: Any = prompt
        text = self._chat.render(messages, tools, opens_answer=True)
        if tools and self._chat.render(messages, opens_answer=True) == text:
            raise UnusableRowError("the chat template leaves out the tools")
        return self._ids(text)  # the template writes the special tokens itself

    def _opened(self, tokens: list[int]) -> str:
        return opened_thought(self._tokenizer.decode(tokens[-8:]))

    def _ids(self, text: str | Sequence[int]) -> list[int]:
        """Token ids of a text, without special tokens of the tokenizer's own."""
        if not isinstance(text, str):
            return list(text)
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
