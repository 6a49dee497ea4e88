"""Which text of a conversation is trained: for each turn what the model is given, and what it says.

What is trained is what the row says: a turn that a chat template changes is found out here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llm_distill.methods.chat_format import ChatFormat, check_is_whole, check_says_turn
from llm_distill.rows.messages import Message
from llm_distill.rows.thoughts import opened_thought
from llm_distill.rows.unusable import AlteredRowError, UnusableRowError

Thoughts = Literal["train", "last", "drop"]
Answers = Literal["all", "last"]
MARK = "\ue000"
THOUGHT_MARK = "\ue001"
"""Characters for private use: they stand for an answer and a thought, to see what a template puts
around them."""


@dataclass(frozen=True)
class Turn:
    """A turn of the assistant that is trained.

    Attributes:
        opening: all that the model is given before it.
        body: what the model writes, with the template's own marks, but for white space at the end.
        message: what the row says.
        before: the messages before it.
    """

    opening: str
    body: str
    message: Message
    before: Sequence[Message] = ()


def trained_turns(
    chat: ChatFormat,
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]] = (),
    *,
    answers: Answers = "all",
    thoughts: Thoughts = "train",
) -> list[Turn]:
    """The turns of the assistant that are trained, in order.

    Args:
        chat: How the model is spoken to.
        messages: A conversation in the form of `rows.messages`.
        tools: Schemas of what may be called.
        answers: All of the assistant's turns or the last; one whose weight is 0 never.
        thoughts: Trained where a turn has some; those of the last turn only; or none.

    Raises:
        UnusableRowError: the conversation is none that can be trained on, or the template refuses.
        AlteredRowError: the template leaves out a part of what the row says.
    """
    check_conversation(messages, tools)
    trained = [i for i, turn in enumerate(messages) if turn["role"] == "assistant"]
    trained = [i for i in (trained if answers == "all" else trained[-1:]) if _counts(messages[i])]
    if not trained:
        raise UnusableRowError("no assistant turn that counts")
    kept = [_stripped(turn) for turn in messages[: trained[-1] + 1]]
    kept = [
        turn if thoughts == "train" or (thoughts == "last" and i == trained[-1]) else _silent(turn)
        for i, turn in enumerate(kept)
    ]
    turns = [_turn(chat, kept, index, tools) for index in trained]
    check_is_whole(chat, turns[-1].opening, kept[: trained[-1]], tools)
    return turns


def check_conversation(messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> None:
    """That a conversation is whole in itself, whatever the model.

    Raises:
        UnusableRowError: with the reason.
    """
    if not any(turn["role"] == "assistant" for turn in messages):
        raise UnusableRowError("no assistant turn")
    names = {tool["function"]["name"] for tool in tools}
    open_calls, before = 0, ""
    for turn in messages:
        calls = turn.get("tool_calls") or ()
        if turn["role"] == "tool":
            if open_calls == 0:
                raise UnusableRowError("a tool's result without its call")
            open_calls -= 1
        elif turn["role"] == "assistant":
            open_calls = len(calls) + (open_calls if before == "assistant" else 0)
        before = turn["role"]
        if turn["role"] == "user" and not turn["content"].strip():
            raise UnusableRowError("empty prompt")
        if turn["role"] == "assistant" and not calls and not turn["content"].strip():
            thinks = turn.get("reasoning_content")
            raise UnusableRowError("thoughts without an answer" if thinks else "empty completion")
        for call in calls:
            if not isinstance(call["function"]["arguments"], dict):
                raise UnusableRowError("arguments of a call that are not a JSON object")
            if names and call["function"]["name"] not in names:
                raise UnusableRowError("a call of a tool that is not among the tools")


def _counts(turn: Message) -> bool:
    return turn.get("weight") is None or turn["weight"] > 0


def _stripped(turn: Message) -> Message:
    """Without white space around an answer, which a template or a tokenizer may take off or keep.

    A model cannot know how many line feeds a row happens to end with.
    """
    return {**turn, "content": turn["content"].strip()} if turn["role"] == "assistant" else turn


def _silent(turn: Message) -> Message:
    return {k: v for k, v in turn.items() if k != "reasoning_content"}


def around(chat: ChatFormat, turn: Turn, tools: Sequence[dict[str, Any]] = ()) -> tuple[str, str]:
    """What a chat template writes before and after what is said, in a turn's body.

    What is said begins with the thoughts, if there are any, and ends with the answer, or with the
    calls. Found with a mark in its place: the words of an answer may be the template's too.
    """
    message = turn.message
    answer, thought = message["content"].strip(), message.get("reasoning_content")
    if not answer and not thought:
        return "", ""
    marked = {**message, "content": MARK if answer else ""}
    if thought:
        marked["reasoning_content"] = THOUGHT_MARK
    written = _Place(chat, turn.before, tools, turn.opening).written(marked)
    lead, _, _ = written.partition(THOUGHT_MARK if thought else MARK)
    trail = "" if message.get("tool_calls") or not answer else written.rpartition(MARK)[2]
    if not thought and not turn.body.startswith(lead) and turn.body.endswith(answer + trail):
        # It is put only before some answers: empty thoughts before one that has none.
        lead = turn.body.removesuffix(answer + trail)
    return lead, trail


def _turn(
    chat: ChatFormat, messages: Sequence[Message], index: int, tools: Sequence[dict[str, Any]]
) -> Turn:
    before, turn = messages[:index], messages[index]
    opening = chat.render(before, tools, opens_answer=True)
    body = _Place(chat, before, tools, opening).written(turn)
    check_says_turn(body, turn)
    return Turn(opening, body, turn, before)


def tagged_thought(thought: str, answer: str) -> str:
    """A thought and an answer as one text, in the tags that most models use."""
    return f"<think>\n{thought.strip()}\n</think>\n\n{answer}"


@dataclass(frozen=True)
class _Place:
    """Where in a conversation a turn is written.

    opening: all that the model is given there.
    """

    chat: ChatFormat
    before: Sequence[Message]
    tools: Sequence[dict[str, Any]]
    opening: str

    def written(self, turn: Message) -> str:
        """The body of a turn, with its thoughts."""
        thought = turn.get("reasoning_content")
        # Found with a mark: a thought may stand in the answer as well.
        if not thought or self._writes({**turn, "reasoning_content": THOUGHT_MARK}):
            return self._body(turn)
        # A template that knows thoughts as a part of the text only, or one that takes them out of
        # all turns, as a chat goes on without them: what the model writes has them all the same.
        silent = _silent(turn)
        if self._writes({**silent, "content": tagged_thought(THOUGHT_MARK, turn["content"])}):
            return self._body({**silent, "content": tagged_thought(thought, turn["content"])})
        return tagged_thought(thought, self._body(turn))

    def _writes(self, marked: Message) -> bool:
        return THOUGHT_MARK in self._body(marked)

    def _body(self, turn: Message) -> str:
        """What the template writes of a turn."""
        opening = self.opening
        whole = self.chat.render([*self.before, turn], self.tools)
        if whole.startswith(opening):
            return whole[len(opening) :].rstrip()
        tag = opened_thought(opening)
        start = opening[: opening.rindex(tag)] if tag else opening
        if tag and whole.startswith(start):
            # The template opens a thought where an answer is to be written, and keeps none: the
            # model writes what is between.
            thought = (turn.get("reasoning_content") or "").strip()
            closing = tag.replace("<", "</")
            rest = whole[len(start) :].strip()
            return f"{thought}\n{closing}\n\n{rest}" if thought else f"{closing}\n\n{rest}"
        if turn.get("tool_calls") or turn.get("reasoning_content"):
            raise AlteredRowError("the chat template opens a turn in another way than it writes it")
        # A template that opens a turn differently when it is to be written gives no common
        # beginning; the answer alone is then what follows.
        return str(turn["content"]).strip()
