"""From an answer's steps to tokens, and the places at which a step's reward is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from llm_distill.engines.process_reward.format import (
    MARK,
    NextToken,
    RewardFormat,
    TokenClassification,
    conversation,
    fill_marks,
    one_answer,
    plain_text,
)
from llm_distill.errors import DataError, ModelError

if TYPE_CHECKING:
    from llm_distill.models.sources import ModelSource


@dataclass(frozen=True, slots=True)
class Encoded:
    """An answer as a model reads it, up to the last place.

    places: for each step the index of the token whose output tells the step's reward.
    """

    tokens: list[int]
    places: list[int]


class Encoder:
    """Encodes answers for one reward model.

    context: tokens that the model takes at most.
    ids: the token of each text that stands after a step: a verdict, or a separator.

    Raises:
        ModelError: such a text is not a single token, or the tokenizer does not say where one
            stands.
    """

    def __init__(
        self, source: ModelSource, tokenizer: Any, form: RewardFormat, context: int
    ) -> None:
        self._name, self._tokenizer = source.name, tokenizer
        self._form, self._context = form, context
        self._is_chat = source.prompt_format == "chat"
        self.ids: dict[str, int] = {}
        if not tokenizer.is_fast:
            raise ModelError(
                f"model '{source.name}' has a slow tokenizer, which does not say where in a text "
                "its tokens stand; convert it to a tokenizer.json"
            )
        if isinstance(form, NextToken):
            self.ids = {word: self._id(word) for word in (form.good, form.bad)}
            if self.ids[form.good] == self.ids[form.bad]:
                raise self._not_one_token(form.bad)
        elif self._is_chat:
            self.ids = {form.separator: self._id(form.separator)}

    def encode(self, question: str, steps: Sequence[str]) -> Encoded:
        """The tokens of an answer and the places of its steps, of which there is at least one.

        Raises:
            DataError: this answer cannot be scored: it is too long, or holds what marks a place.
            ModelError: the chat template cannot show it.
        """
        encoded = self._encoded(question, steps)
        if len(encoded.tokens) > self._context:
            raise DataError(
                f"question and answer have {len(encoded.tokens)} tokens; reward model "
                f"'{self._name}' has a context of {self._context}"
            )
        return encoded

    def _encoded(self, question: str, steps: Sequence[str]) -> Encoded:
        if isinstance(self._form, NextToken):
            tokens, at = self._located(question, steps, self._form.good)
            # The model is to write the verdict there: the token before it predicts it.
            return Encoded(tokens[: at[-1]], [index - 1 for index in at])
        separator = self._form.separator
        for number, step in enumerate(steps, start=1):
            if separator in step:
                raise DataError(
                    f"step {number} holds the separator {separator!r} itself; cut the answers "
                    "there too (`steps`), or take another separator"
                )
        if self._is_chat:
            tokens, at = self._located(question, steps, separator)
            return Encoded(tokens[: at[-1] + 1], at)
        # As TRL's trainer has it: question, steps and separators, each encoded alone, joined.
        begin = self._tokenizer.bos_token_id
        tokens, at = [] if begin is None else [begin], []
        tokens += self._alone(question)
        for step in steps:
            tokens += self._alone(step) + self._alone(separator)
            at.append(len(tokens) - 1)
        return Encoded(tokens, at)

    def _located(
        self, question: str, steps: Sequence[str], word: str
    ) -> tuple[list[int], list[int]]:
        """The tokens with `word` after each step, and the indices of these `word`s."""
        if any(MARK in text for text in (question, *steps)):
            raise DataError(f"question or answer holds {MARK!r}, which marks places in the text")
        text, ends = fill_marks(self._rendered(question, steps), word)
        if len(ends) != len(steps):
            raise ModelError(
                f"the chat template of model '{self._name}' shows {len(ends)} of {len(steps)} steps"
            )
        read = self._tokenizer(
            text,
            add_special_tokens=not self._is_chat,  # a chat template writes them itself
            return_offsets_mapping=True,
            verbose=False,
        )
        tokens, spans = list(read["input_ids"]), read["offset_mapping"]
        by_end = {end: index for index, (start, end) in enumerate(spans) if start < end}
        at: list[int] = []
        for number, end in enumerate(ends, start=1):
            index = by_end.get(end)
            if (
                index is None
                or not _is_alone(text, spans, index, word)
                or tokens[index] != self.ids.get(word, tokens[index])
            ):
                raise DataError(f"{word!r} after step {number} is not a single token there")
            at.append(index)
        return tokens, at

    def _rendered(self, question: str, steps: Sequence[str]) -> str:
        """The text with a mark after each step."""
        if isinstance(self._form, TokenClassification):
            messages = one_answer(question, steps, MARK, self._form.system)
        elif self._is_chat:
            messages = conversation(question, steps, MARK)
        else:
            return plain_text(question, steps, MARK)
        try:
            text: str = self._tokenizer.apply_chat_template(messages, tokenize=False)
        except TemplateError as error:
            raise ModelError(
                f"the chat template of model '{self._name}' refuses a reward model's messages: "
                f"{error}"
            ) from error
        return text

    def _id(self, word: str) -> int:
        """The token of `word` after a step, looked up in an answer of two steps."""
        try:
            tokens, at = self._located("Question", ["One.", "Two."], word)
        except DataError as error:
            raise self._not_one_token(word) from error
        if tokens[at[0]] != tokens[at[1]] or tokens[at[0]] == self._tokenizer.unk_token_id:
            raise self._not_one_token(word)
        return tokens[at[0]]

    def _not_one_token(self, word: str) -> ModelError:
        setting = "separator" if isinstance(self._form, TokenClassification) else "good, bad"
        return ModelError(
            f"the tokenizer of model '{self._name}' has no single token for {word!r} after a "
            f"step; set {setting} to what the model was trained with"
        )

    def _alone(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _is_alone(text: str, spans: Sequence[tuple[int, int]], index: int, word: str) -> bool:
    """Whether this token is all of `word`, with no more than a space before it.

    Of a letter of several tokens each has the span of the whole letter.
    """
    start, end = spans[index]
    return text[start:end].lstrip(" ") == word and spans[index - 1][1] <= start
