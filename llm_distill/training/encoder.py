"""Prompts, completions and conversations to token ids, exactly as they are at inference.

text, prompt "2 + 2 =", completion "4":   [2, +, 2, =]               [ 4, <end>]
chat, the same:                           [<user>, 2, …, <assistant>] [4, <end>]

The prompt's tokens are always those of the prompt alone, because that is what the model is given.
Tokenizing both as one text can merge them at their border into a token that it is never asked for.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llm_distill.errors import DataError
from llm_distill.methods.chat_format import ChatFormat, chat_format
from llm_distill.methods.turns import (
    Answers,
    Thoughts,
    Turn,
    check_conversation,
    followed_by,
    tagged_thought,
    trained_turns,
)
from llm_distill.models.sources import (
    ModelSource,
    PromptFormat,
    context_length,
    end_tokens,
    load_tokenizer,
)
from llm_distill.prompts import as_messages, continuation
from llm_distill.rows.columns import Row
from llm_distill.rows.messages import Message, read_messages, read_tools
from llm_distill.rows.unusable import EMPTY, AlteredRowError, UnusableRowError

EncodedTurn = tuple[list[int], list[int], Turn]
"""The tokens that the model is given, those that it writes, its end included, and the turn."""


@dataclass(frozen=True)
class PairEncoder:
    """Prompt and completion, or a conversation, to token ids, for one model.

    ends: the tokens that end a completion at inference.
    max_length: of prompt and completion together, in tokens. too_long: said of longer ones.
    chat: how the model is spoken to; None stands for its tokenizer's own chat template.
    answers, thoughts: see `methods.turns.trained_turns`.
    """

    tokenizer: Any
    ends: frozenset[int]
    prompt_format: PromptFormat
    max_length: int
    chat: ChatFormat | None = None
    answers: Answers = "all"
    thoughts: Thoughts = "train"
    too_long: str = "longer than max_length"

    def encode(self, prompt: str | None, completion: str | None) -> tuple[list[int], list[int]]:
        """The prompt's token ids, and the completion's with one end token after them.

        Raises:
            UnusableRowError: a side is empty, both are too long, or the end stands in the middle.
        """
        head, tail, _ = self.answered(prompt, completion)
        return head, tail

    def answered(
        self, prompt: str | None, completion: str | None, reasoning: str | None = None
    ) -> EncodedTurn:
        """As `encode`, with the thoughts that come before the completion."""
        if not checked_text(prompt, "prompt") or not prompt:
            raise UnusableRowError("empty prompt")
        if not checked_text(completion, "completion") or not completion:
            raise UnusableRowError(EMPTY)
        answer: Message = {"role": "assistant", "content": completion}
        if reasoning and reasoning.strip():
            answer["reasoning_content"] = reasoning
        if self.prompt_format == "chat":
            # Thoughts may stand in the text, in tags that a chat template would take out.
            (answer,) = read_messages([answer], "the completion")
        (turn,) = self.conversation([*as_messages(prompt), answer])
        return turn

    def continued(
        self,
        prompt: Sequence[Message],
        completion: Sequence[Message],
        tools: Sequence[dict[str, Any]] = (),
    ) -> list[EncodedTurn]:
        """As `conversation`, of a prompt whose turns do not count."""
        given = [{**turn, "weight": 0.0} for turn in prompt]
        return self.conversation([*given, *completion], tools)

    def conversation(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()
    ) -> list[EncodedTurn]:
        """Each turn of the assistant that is trained, with all that the model is given before it.

        Raises:
            UnusableRowError: it cannot be trained on, or is not what the row says.
        """
        if self.prompt_format == "text":
            return [self._plain(messages)]
        chat = self.chat or ChatFormat(self.tokenizer)
        turns = trained_turns(chat, messages, tools, answers=self.answers, thoughts=self.thoughts)
        bodies = [self._ended(chat, turn, tools) for turn in turns]
        return [
            (*self.tokens(turn.opening, body, special=False), turn)
            for turn, body in zip(turns, bodies, strict=True)
        ]

    def _ended(self, chat: ChatFormat, turn: Turn, tools: Sequence[dict[str, Any]]) -> str:
        """The turn's body; where that has no end, with the one that the next turn begins with.

        GLM 4.5 ends an answer by naming who is next: the user, or the tools.
        """
        ends = self._end_texts()
        if any(end in turn.body for end in ends):
            return turn.body
        after = followed_by(chat, turn, tools).lstrip()
        return turn.body + next((end for end in ends if after.startswith(end)), "")

    def _end_texts(self) -> list[str]:
        return [
            text for text in (self.tokenizer.decode([end]) for end in sorted(self.ends)) if text
        ]

    def _plain(self, messages: Sequence[Message]) -> EncodedTurn:
        check_conversation(messages)
        if [turn["role"] for turn in messages] != ["user", "assistant"]:
            raise UnusableRowError(
                "plain text takes one question and one answer; set prompt_format: chat"
            )
        question, answer = messages
        said = answer["content"]
        if answer.get("reasoning_content") and self.thoughts != "drop":
            said = tagged_thought(answer["reasoning_content"], said)
        turn = Turn(question["content"].rstrip(), continuation(said), answer)
        return (*self.tokens(turn.opening, turn.body, special=True), turn)

    def tokens(self, opening: str, body: str, *, special: bool) -> tuple[list[int], list[int]]:
        """Both as token ids, the body with one end token after it.

        special: the tokenizer adds its special tokens; a chat template has written them already.

        Raises:
            UnusableRowError: both are too long, or the end stands in the middle.
            AlteredRowError: the tokens are not what the text says.
        """
        head, tail = self._apart(opening, body, special)
        tail = self._ended_once(tail)
        self._check(body, tail)
        if len(head) + len(tail) > self.max_length:
            raise UnusableRowError(self.too_long)
        return head, tail

    def _apart(self, opening: str, body: str, special: bool) -> tuple[list[int], list[int]]:
        """Both as tokens: of one text where that leaves the prompt's alone, else apart.

        Apart only then, as some tokenizers put a space of their own before whatever they are given.
        """
        head = self._ids(opening, special)
        whole = self._ids(opening + body, special)
        if whole[: len(head)] == head and len(whole) > len(head):
            return head, whole[len(head) :]
        return head, self._ids(body, False)

    def _ids(self, text: str, special: bool) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])

    def _ended_once(self, tail: list[int]) -> list[int]:
        """`tail` up to its end token; with one where it has none."""
        ends = [index for index, token in enumerate(tail) if token in self.ends]
        if not ends:
            own = self.tokenizer.eos_token_id
            return [*tail, own if own is not None else min(self.ends)]
        first = ends[0]
        after = [token for token in tail[first + 1 :] if token not in self.ends]
        if self.tokenizer.decode(after).strip():  # more than white space between two, or after
            raise UnusableRowError("end token inside the completion")
        if first <= 1 and not self.tokenizer.decode(tail[:first]).strip():
            raise UnusableRowError(EMPTY)
        return tail[: first + 1]

    def _check(self, body: str, tail: Sequence[int]) -> None:
        """That the tokens say the text, but for white space and what is after its end.

        Some tokenizers compose characters (NFC, NFKC), which says the same.

        Raises:
            AlteredRowError: the tokenizer writes it in another way, or has no tokens for it.
        """
        written = self.tokenizer.decode(tail[:-1], clean_up_tokenization_spaces=False)
        said = body
        for end in self._end_texts():
            said = said.partition(end)[0]
        if _plain(written) != _plain(said):
            raise AlteredRowError("the tokenizer changes the text")


def _plain(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())


def pair_encoder(source: ModelSource, max_length: int, **turns: Any) -> PairEncoder:
    """The encoder for a model; reads its tokenizer and settings, not its weights.

    source: it may be on a server.
    max_length: of a row, where the model's context is not shorter.
    turns: `answers` and `thoughts`, as `PairEncoder` has them.

    Raises:
        ModelError: there is no tokenizer, or nothing says how a completion ends.
    """
    source, is_alone = source.readable, source.tokenizer is not None
    tokenizer = load_tokenizer(source, is_alone=is_alone)
    ends = end_tokens(source, tokenizer)
    chat = chat_format(source, tokenizer)
    context = context_length(source)
    if context < max_length:
        turns["too_long"] = "longer than the model's context"
    length = min(context, max_length)
    return PairEncoder(tokenizer, ends, source.prompt_format, length, chat, **turns)


def checked_text(value: object, what: str) -> str:
    """A text without white space around it; empty where there is none.

    Raises:
        UnusableRowError: it is a number, a list or the like.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UnusableRowError(f"{what} holds {type(value).__name__}, not text")
    return value.strip()


def as_read(value: Any) -> list[Message]:
    """A conversation of a row, in our form.

    Raises:
        UnusableRowError: it is none.
    """
    if not value:
        raise UnusableRowError("no messages")
    try:
        return read_messages(value, "the row")
    except DataError as error:
        raise UnusableRowError(str(error).partition(": ")[2][:120]) from error


def tools_of(row: Row) -> list[dict[str, Any]]:
    """The tools that a row's conversation may call.

    Raises:
        UnusableRowError: what stands there are no tools.
    """
    try:
        return read_tools(row.get("tools"), "the row")
    except DataError as error:
        raise UnusableRowError(str(error).partition(": ")[2][:120]) from error
