"""Rows to tokens for training, exactly as the tokens are at inference.

text, prompt "2 + 2 =", completion "4":   [2, +, 2, =]               [ 4, <end>]
chat, the same:                           [<user>, 2, …, <assistant>] [4, <end>]

The prompt's tokens are always those of the prompt alone, because that is what the model is given.
Tokenizing both as one text can merge them at their border into a token that it is never asked for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llm_distill.errors import DataError
from llm_distill.models.sources import (
    ModelSource,
    PromptFormat,
    context_length,
    end_tokens,
    load_tokenizer,
)
from llm_distill.prompts import as_messages, continuation
from llm_distill.rows.columns import Row

if TYPE_CHECKING:
    from datasets import Dataset

NO_LOSS = -100
"""The label that torch's cross entropy leaves out."""


class UnusableRowError(Exception):
    """A row that cannot be trained on. The message is the reason that it is counted under."""


@dataclass(frozen=True)
class PairEncoder:
    """Prompt and completion to token ids, for one model.

    ends: the tokens that end a completion at inference.
    max_length: of prompt and completion together, in tokens. too_long: said of longer ones.
    """

    tokenizer: Any
    ends: frozenset[int]
    prompt_format: PromptFormat
    max_length: int
    too_long: str = "longer than max_length"

    def encode(self, prompt: str | None, completion: str | None) -> tuple[list[int], list[int]]:
        """The prompt's token ids, and the completion's with one end token after them.

        Raises:
            UnusableRowError: a side is empty, both are too long, or the end stands in the middle.
        """
        if not checked_text(prompt, "prompt") or not prompt:
            raise UnusableRowError("empty prompt")
        checked_text(completion, "completion")
        before = prompt if self.prompt_format == "text" else as_messages(prompt)
        return self.tokens(*self.texts(before, completion), special=isinstance(before, str))

    def texts(self, before: str | Sequence[dict[str, str]], answer: str | None) -> tuple[str, str]:
        """What the model is given, and what it writes: the answer with what the format puts around.

        before: a text, or the messages of a chat up to the assistant's turn.

        Raises:
            UnusableRowError: there is no answer, or the chat template refuses the messages.
        """
        from jinja2 import TemplateError

        if not answer or not answer.strip():
            raise UnusableRowError("empty completion")
        if isinstance(before, str):
            return before.rstrip(), continuation(answer)
        answer = answer.strip()
        answered = [*before, {"role": "assistant", "content": answer}]
        try:
            opening: str = self.tokenizer.apply_chat_template(
                list(before), tokenize=False, add_generation_prompt=True
            )
            whole: str = self.tokenizer.apply_chat_template(answered, tokenize=False)
        except TemplateError as error:
            raise UnusableRowError("refused by the chat template") from error
        # A template that opens a turn differently when it is to be written (with a think tag, say)
        # gives no common beginning; the answer alone is then what follows.
        body = whole.removeprefix(opening).rstrip() if whole.startswith(opening) else answer
        return opening, body

    def tokens(self, opening: str, body: str, *, special: bool) -> tuple[list[int], list[int]]:
        """Both as token ids, the body with one end token after it.

        special: the tokenizer adds its special tokens; a chat template has written them already.

        Raises:
            UnusableRowError: both are too long, or the end stands in the middle.
        """
        head, tail = self._apart(opening, body, special)
        tail = self._ended_once(tail)
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
        first, last = ends[0], ends[-1]
        after = self.tokenizer.decode(tail[last + 1 :]).strip()
        if last - first >= len(ends) or after:  # something stands between two, or after the last
            raise UnusableRowError("end token inside the completion")
        if first <= 1 and not self.tokenizer.decode(tail[:first]).strip():
            raise UnusableRowError("empty completion")
        return tail[: first + 1]


def pair_encoder(source: ModelSource, max_length: int) -> PairEncoder:
    """The encoder for a model; reads its tokenizer and settings, not its weights.

    max_length: of a row, where the model's context is not shorter.

    Raises:
        ModelError: there is no tokenizer, or nothing says how a completion ends.
    """
    tokenizer = load_tokenizer(source)
    ends = end_tokens(source, tokenizer)
    context = context_length(source)
    if context < max_length:
        why = "longer than the model's context"
        return PairEncoder(tokenizer, ends, source.prompt_format, context, why)
    return PairEncoder(tokenizer, ends, source.prompt_format, max_length)


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


def sft_example(head: Sequence[int], tail: Sequence[int]) -> dict[str, list[int]]:
    """Token ids, and labels with no loss over the prompt."""
    return {"input_ids": [*head, *tail], "labels": [NO_LOSS] * len(head) + [*tail]}


def checked_weight(value: object) -> float:
    """How much a row counts in the loss.

    Raises:
        UnusableRowError: it is not a finite number above 0; with 0 the row does not count.
    """
    if value is None or isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UnusableRowError("no weight")
    if not math.isfinite(value):
        raise UnusableRowError("weight is not finite")
    if value < 0:
        raise UnusableRowError("weight is below 0")
    if value == 0:
        raise UnusableRowError("weight is 0")
    return float(value)


def dpo_example(encoder: PairEncoder, row: Row) -> dict[str, list[int]]:
    """Token ids of the prompt and of both answers to it.

    Raises:
        UnusableRowError: a side cannot be encoded, or both answers are the same.
    """
    prompt, chosen = encoder.encode(row["prompt"], row["chosen"])
    _, rejected = encoder.encode(row["prompt"], row["rejected"])
    if chosen == rejected:
        raise UnusableRowError("chosen and rejected are the same")
    return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}


def token_dataset(
    rows: Iterable[Row],
    encode: Callable[[Row], Mapping[str, Any]],
    drop: Callable[[str], None],
    name: str,
) -> Dataset:
    """What `encode` makes of each row; rows that it refuses are counted.

    encode: gives integers, a number, or an array, which keeps its type, by column.

    Raises:
        DataError: no row is left; says how many were refused for what.
    """
    import numpy as np
    from datasets import Dataset

    columns: dict[str, list[Any]] = {}
    refused: Counter[str] = Counter()
    for row in rows:
        try:
            example = encode(row)
        except UnusableRowError as error:
            refused[str(error)] += 1
            drop(str(error))
            continue
        for column, value in example.items():
            # As arrays: a list of Python's integers takes up to nine times the memory.
            is_kept = isinstance(value, (float, np.ndarray))
            kept = value if is_kept else np.asarray(value, dtype=np.int32)
            columns.setdefault(column, []).append(kept)
    if not columns:
        why = ", ".join(f"{count} {reason}" for reason, count in refused.items()) or "it is empty"
        raise DataError(f"no row of '{name}' can be trained on: {why}")
    return Dataset.from_dict(columns)
