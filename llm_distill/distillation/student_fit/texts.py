"""Rows as the tokens that a student is asked about: those that training puts in the loss.

answer to a question:  [<user>, 2, +, 2, ?, <assistant>] [4, <end>]
the answer alone:      [<assistant>]                     [4, <end>]
"""

from __future__ import annotations

from dataclasses import dataclass

from llm_distill.methods.chat_format import ChatFormat
from llm_distill.methods.turns import MARK
from llm_distill.rows.unusable import UnusableRowError
from llm_distill.training.data import NO_LOSS, sft_examples
from llm_distill.training.encoder import EncodedTurn, PairEncoder


@dataclass(frozen=True)
class ScoredText:
    """A text of which some tokens are scored.

    Attributes:
        prompt: the token ids before the first that is scored.
        completion: the others.
        places: which tokens of `completion` are scored.
    """

    prompt: list[int]
    completion: list[int]
    places: list[int]


def scored_texts(turns: list[EncodedTurn]) -> list[ScoredText]:
    """A row's turns as `train_sft` trains them: one text, or more where a template rewrites."""
    found = []
    for example in sft_examples(turns):
        ids, labels = example["input_ids"], example["labels"]
        places = [index for index, label in enumerate(labels) if label != NO_LOSS]
        first = places[0]
        text = ScoredText(ids[:first], ids[first:], [place - first for place in places])
        found.append(text)
    return found


def with_and_without(turns: list[EncodedTurn], opening: list[int]) -> list[ScoredText]:
    """A row's only answer after its question, and the same tokens after `opening`."""
    head, tail = one_answer(turns)
    return [ScoredText(start, tail, [*range(len(tail))]) for start in (head, opening)]


def one_answer(turns: list[EncodedTurn]) -> tuple[list[int], list[int]]:
    """The tokens before a row's only answer, and its own.

    Raises:
        UnusableRowError: it has several.
    """
    if len(turns) > 1:
        raise UnusableRowError("more than one answer; set answers: last")
    head, tail, _ = turns[0]
    return head, tail


@dataclass(frozen=True)
class BareOpening:
    """What a model is given before an answer to nothing, as token ids.

    Attributes:
        start: the token that begins a text, if the model has one.
        header: what a chat template writes between the last question and an answer to it.
    """

    start: list[int]
    header: list[int]

    @property
    def ids(self) -> list[int]:
        return self.start + self.header


def bare_opening(encoder: PairEncoder) -> BareOpening:
    """The opening of an answer without a question: never empty, since a token needs one before."""
    tokenizer = encoder.tokenizer
    header: list[int] = []
    if encoder.prompt_format == "text":
        first = list(tokenizer("a")["input_ids"])[:1]
    else:
        chat = encoder.chat or ChatFormat(tokenizer)
        header = list(tokenizer(_header(chat), add_special_tokens=False)["input_ids"])
        whole = _render(chat, opens_answer=True)
        first = list(tokenizer(whole, add_special_tokens=False)["input_ids"])[:1]
    start = first if first == [tokenizer.bos_token_id] and first != header[:1] else []
    if not start and not header:  # as texts stand one after another in pre-training
        end = tokenizer.eos_token_id
        start = [end if end is not None else min(encoder.ends)]
    return BareOpening(start, header)


def _header(chat: ChatFormat) -> str:
    closed, opened = _render(chat), _render(chat, opens_answer=True)
    if opened.startswith(closed):
        return opened[len(closed) :]
    return opened.rpartition(MARK)[2]


def _render(chat: ChatFormat, *, opens_answer: bool = False) -> str:
    return chat.render([{"role": "user", "content": MARK}], opens_answer=opens_answer)
