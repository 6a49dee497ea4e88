"""Conversations and documents as tokens, with the bytes of what is in the loss.

Teacher and student are given the same turns and each renders them in its own format. What they
have in common are the bytes of what the assistant says, so each token is told by where in these
bytes it ends. Text of a template is never among them.

chat, "Ann is 21.":  [<user>, How, …, <assistant>] [Ann, ␣is, ␣2, 1, .] [<end>]    ends 3 6 8 9 10
text, the same:      [How, …, Answer, :]           [␣Ann, ␣is, ␣21, .]  [<end>]    ends 3 6 9 10
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_distill.distillation.alignment.vocabularies import vocabulary_digest
from llm_distill.errors import ModelError
from llm_distill.methods.chat_format import ChatFormat
from llm_distill.methods.token_bytes import TokenBytes, token_bytes
from llm_distill.methods.turns import Turn, around
from llm_distill.models.sources import ModelSource
from llm_distill.rows.columns import Row
from llm_distill.rows.messages import Message
from llm_distill.rows.unusable import EMPTY, UnusableRowError
from llm_distill.training.encoder import PairEncoder, as_read, checked_text, pair_encoder

NO_LIMIT = 10**9


@dataclass(frozen=True)
class Content:
    """A text that is in the loss, as tokens [start, end) of a row.

    text: the content's bytes, without the outer white space that the format (a template, plain
        text, a tokenizer's dummy prefix) puts around it.
    ends: int64 [end - start], the byte offset in `text` after each token, clamped to 0..len(text).
    is_closed: the token at `end` ends the turn, and is in the loss as well.
    begin: the byte of `text` with which the token at `start` begins. It is above 0 where the token
        before is not part of this: it also holds text of the template, or nothing predicts it.
    """

    start: int
    end: int
    text: bytes
    ends: NDArray[np.int64]
    is_closed: bool
    begin: int = 0


@dataclass(frozen=True)
class EncodedRow:
    """ids: int32, the whole row. contents: what of it is in the loss, in order.

    is_sampled: the last content's tokens are those that a model sampled, not of a text read again.
    n_given: of a row with an answer, how many tokens the model is given before the last one.
    """

    ids: NDArray[np.int32]
    contents: tuple[Content, ...]
    is_sampled: bool = False
    n_given: int = 0


def in_loss(row: EncodedRow) -> NDArray[np.int64]:
    """The index of every token that is in the loss, content by content with its end token."""
    spans = [np.arange(c.start, c.end + c.is_closed) for c in row.contents]
    return np.concatenate([np.zeros(0, np.int64), *spans])


@dataclass(frozen=True)
class RowEncoder:
    """Turns to token ids for one model, exactly as it is trained and asked elsewhere.

    pairs: encodes one answer. table: the bytes of the tokens.
    """

    pairs: PairEncoder
    table: TokenBytes

    @property
    def tokenizer(self) -> Any:
        return self.pairs.tokenizer

    @cached_property
    def vocabulary(self) -> str:
        """See `vocabulary_digest`."""
        return vocabulary_digest(self.tokenizer)

    def boundary_tokens(self, size: int) -> NDArray[np.bool_]:
        """[size], over a model's vocabulary: `TokenBytes.boundary_tokens`, and what ends a turn."""
        found = self.table.boundary_tokens(size)
        found[[end for end in self.pairs.ends if end < size]] = True
        return found

    def encode(
        self,
        turns: Sequence[Message] | str,
        tools: Sequence[dict[str, Any]] = (),
        *,
        is_open: bool = False,
        sampled: Sequence[int] | None = None,
    ) -> EncodedRow:
        """Chat messages, whose assistant turns are in the loss, or a document, which all is.

        A row ends with its last assistant turn. The ids of one question and one answer are those
        of `PairEncoder`. A document has the special tokens that the tokenizer gives any text.

        is_open: the last turn goes on, so nothing is there after its text.
        sampled: the tokens of the last turn as this model's tokenizer has them, in place of the
            text's own, if they say the same; there is an end token after them only if they have it.

        Raises:
            UnusableRowError: with the reason under which the row is counted.
        """
        if isinstance(turns, str):
            return self._document(turns)
        ids: list[int] = []
        contents = []
        n_given = 0
        for head, tail, turn in self.pairs.conversation(turns, tools):
            # A model is given what it wrote before. A template that then renders it in another way
            # (without its thoughts, say) would need scores for each turn.
            if head[: len(ids)] != ids:
                raise UnusableRowError(
                    "the chat template changes earlier turns; set answers: last, or thoughts: drop"
                )
            ids, n_given = head + tail, len(head)
            lead, trail = self._around(turn, tools)
            contents.append(self._content(tail[:-1], len(head), lead, trail, is_closed=True))
        if sampled:
            found = self._as_sampled(head, sampled, contents[-1].text)
            if found is not None:
                contents[-1] = found
                whole = np.asarray([*head, *sampled], dtype=np.int32)
                return EncodedRow(whole, tuple(contents), True, len(head))
        if is_open:
            ids = ids[: contents[-1].end]
            contents[-1] = replace(contents[-1], is_closed=False)
        return EncodedRow(np.asarray(ids, dtype=np.int32), tuple(contents), n_given=n_given)

    def written(self, given: Sequence[int], tokens: Sequence[int]) -> EncodedRow:
        """What a model wrote after the tokens that it was given: the tokens as they are.

        It is closed if the last token ends a turn. Unlike the text of a row it may be empty, or end
        within a character.

        Raises:
            UnusableRowError: the tokenizer has no such token.
        """
        is_closed = bool(tokens) and tokens[-1] in self.pairs.ends
        said = np.asarray(tokens[: len(tokens) - is_closed], dtype=np.int64)
        if (said >= len(self.table.lengths)).any():
            raise UnusableRowError("a token that the tokenizer does not have")
        data = self.table.text(said)
        text = data.strip()
        ends = np.cumsum(self.table.lengths[said]) - (len(data) - len(data.lstrip()))
        n = len(given)
        content = Content(n, n + len(said), text, np.clip(ends, 0, len(text)), is_closed)
        whole = np.asarray([*given, *tokens], dtype=np.int32)
        return EncodedRow(whole, (content,), is_sampled=True, n_given=n)

    def _as_sampled(
        self, head: Sequence[int], sampled: Sequence[int], text: bytes
    ) -> Content | None:
        """Their content after a prompt of the tokens `head`; None if they do not say the text."""
        if not 0 <= min(sampled) <= max(sampled) < len(self.table.lengths):
            raise UnusableRowError("completion_ids holds a token that the vocabulary does not have")
        if len(head) + len(sampled) > self.pairs.max_length:
            raise UnusableRowError(self.pairs.too_long)
        is_closed = sampled[-1] in self.pairs.ends
        own = sampled[:-1] if is_closed else sampled
        if self.table.text(own).strip() != text:
            return None
        return self._content(own, len(head), b"", b"", is_closed)

    def _around(self, turn: Turn, tools: Sequence[dict[str, Any]]) -> tuple[bytes, bytes]:
        """What the chat template writes before and after what is said, up to the end token."""
        if self.pairs.prompt_format == "text":
            return b"", b""
        chat = self.pairs.chat or ChatFormat(self.tokenizer)
        lead, trail = around(chat, turn, tools)
        after = trail.encode()
        n_tokens = len(self.table.lengths)
        ends = (self.table.text([end]) for end in self.pairs.ends if end < n_tokens)
        places = (after.find(end) for end in ends if end)
        cut = min((place for place in places if place >= 0), default=len(after))
        return lead.strip().encode(), after[:cut].strip()

    def _document(self, text: str) -> EncodedRow:
        if not text.strip():
            raise UnusableRowError("empty text")
        ids = list(self.tokenizer(text, verbose=False)["input_ids"])
        if len(ids) > self.pairs.max_length:
            raise UnusableRowError(self.pairs.too_long)
        own = list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        places = range(len(ids) - len(own) + 1)
        start = next((i for i in places if ids[i : i + len(own)] == own), None)
        if start is None:
            raise UnusableRowError("special tokens change the text's own")
        if self.pairs.ends.intersection(own):
            raise UnusableRowError("end token inside the text")
        after = ids[start + len(own) :]
        is_closed = bool(after) and after[0] in self.pairs.ends
        content = self._content(own, start, b"", b"", is_closed)
        return EncodedRow(np.asarray(ids, dtype=np.int32), (content,))

    def _content(
        self, tokens: Sequence[int], at: int, lead: bytes, trail: bytes, is_closed: bool
    ) -> Content:
        """The content between a template's `lead` and `trail`.

        tokens: all that is written before the end token; the first is token `at` of the row.
        """
        data = self.table.text(tokens)
        padding = len(data) - len(data.lstrip())  # such as a dummy prefix
        if not (data[padding:].startswith(lead) and data.rstrip().endswith(trail)):
            raise UnusableRowError("the tokenizer rewrites the chat template")
        opened = padding + len(lead) if lead else 0
        closed = len(data.rstrip()) - len(trail) if trail else len(data)
        inner = data[opened:closed]
        text = inner.strip()
        if not text:
            raise UnusableRowError(EMPTY)
        first = opened + len(inner) - len(inner.lstrip())
        lengths = self.table.lengths[np.asarray(tokens, dtype=np.int64)]
        ends = np.cumsum(lengths)
        starts = ends - lengths
        # White space around the text goes with it; a token that reaches into `lead` or `trail`
        # is left out, and so is a row's very first, since nothing is there to predict it.
        low = max(int(np.searchsorted(starts, opened)), 1 - at)
        high = int(np.searchsorted(ends, closed, side="right"))
        if low >= high:
            raise UnusableRowError("no token that is predicted")
        return Content(
            start=at + low,
            end=at + high,
            text=text,
            ends=np.clip(ends[low:high] - first, 0, len(text)),
            is_closed=is_closed and high == len(tokens),
            begin=max(int(starts[low]) - first, 0),
        )


def row_encoder(source: ModelSource, max_length: int | None, **turns: Any) -> RowEncoder:
    """The encoder for a model; reads its tokenizer and settings, not its weights.

    max_length: rows with more tokens are unusable; None takes what the model's context does.
    turns: `answers` and `thoughts`, as `PairEncoder` has them.

    Raises:
        ModelError: there is no tokenizer, its tokens have no bytes, or nothing says how a
            completion ends.
    """
    pairs = pair_encoder(source, NO_LIMIT if max_length is None else max_length, **turns)
    return RowEncoder(pairs, bytes_of_tokens(source, pairs.tokenizer))


def bytes_of_tokens(source: ModelSource, tokenizer: Any) -> TokenBytes:
    """The table of a model's tokenizer.

    Raises:
        ModelError: its tokens do not say which bytes they are.
    """
    try:
        return token_bytes(tokenizer)
    except ValueError as error:
        raise ModelError(f"model '{source.name}' ({source.path}): {error}") from error


def turns_of(row: Row, column: str, prompt: Callable[[Row], str | None]) -> Sequence[Message]:
    """What `RowEncoder.encode` takes, out of a row with a question and an answer.

    column: the answer. prompt: gives what it answers.

    Raises:
        UnusableRowError: either is missing.
    """
    asked, answer = prompt(row), row[column]
    if not checked_text(asked, "prompt"):
        raise UnusableRowError("empty prompt")
    if not checked_text(answer, "completion"):
        raise UnusableRowError(EMPTY)
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


def messages_of(row: Row, column: str) -> Sequence[Message]:
    """What `RowEncoder.encode` takes, out of a row with a conversation.

    Raises:
        UnusableRowError: there is none, or a text in its place, which would be encoded as a
            document; or what is no conversation.
    """
    value = row[column]
    if not value:
        raise UnusableRowError(f"empty {column}")
    if isinstance(value, str):
        raise UnusableRowError(f"{column} holds text, not messages (text_column reads text)")
    return as_read(value)


def document_of(row: Row, column: str) -> str:
    """What `RowEncoder.encode` takes, out of a row with a plain text.

    Raises:
        UnusableRowError: there is none, or no text in its place.
    """
    value = row[column]
    if value is None or value == "":
        raise UnusableRowError(f"empty {column}")
    if isinstance(value, list):
        raise UnusableRowError(f"{column} holds a list, not text (messages_column reads messages)")
    if not isinstance(value, str):
        raise UnusableRowError(f"{column} holds {type(value).__name__}, not text")
    return value
