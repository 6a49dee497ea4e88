"""Which text of a conversation is trained: for each turn what the model is given, and what it says.

What is trained is what the row says: a turn that a chat template changes is found out here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llm_distill.methods.chat_format import (
    ChatFormat,
    check_is_whole,
    check_says_turn,
    says_calls,
    takes_parts,
)
from llm_distill.rows.messages import Message
from llm_distill.rows.thoughts import opened_thought
from llm_distill.rows.unusable import EMPTY, AlteredRowError, UnusableRowError

Thoughts = Literal["train", "last", "drop"]
Answers = Literal["all", "last"]
MARK = "\ue000"
THOUGHT_MARK = "\ue001"
"""Characters for private use: they stand for an answer and a thought, to see what a template puts
around them."""
_EMPTY_THOUGHTS = re.compile(r"(<think(?:ing)?>\s*)?</think(?:ing)?>\s*\Z")


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
    try:
        turns = [_turn(chat, kept, index, tools) for index in trained]
        check_is_whole(chat, turns[-1].opening, kept[: trained[-1]], tools)
    except UnusableRowError as error:
        if takes_parts(chat):
            raise UnusableRowError(
                "the chat template takes content as a list of parts, not as text"
            ) from error
        raise
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
            raise UnusableRowError("thoughts without an answer" if thinks else EMPTY)
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
    place = _Place(chat, before, tools, opening)
    body = place.written(turn)
    check_says_turn(body, turn)
    if turn.get("tool_calls") and turn["content"]:
        # Found with a mark: the text may have the words of the call.
        after = place.written({**turn, "content": MARK}).partition(MARK)[2]
        if not says_calls(after, turn):
            raise AlteredRowError("the chat template writes the text of a turn after its call")
    return Turn(opening, body, turn, before)


def followed_by(chat: ChatFormat, turn: Turn, tools: Sequence[dict[str, Any]] = ()) -> str:
    """What a chat template writes between a turn of the assistant and what others say next."""
    reply: Message = {"role": "user", "content": MARK}
    if calls := turn.message.get("tool_calls"):
        reply = {"role": "tool", "content": MARK, "name": calls[0]["function"]["name"]}
        reply |= {"tool_call_id": calls[0]["id"]} if "id" in calls[0] else {}
    last_words = turn.body.rpartition("\n")[2]
    try:
        text = chat.render([*turn.before, turn.message, reply], tools).partition(MARK)[0]
    except UnusableRowError:  # it knows no such turn
        return ""
    return text.rpartition(last_words)[2] if last_words in text else ""


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
        if self._thinks_before_calls(turn):
            raise AlteredRowError(
                "the chat template writes thoughts before a call of a tool, not before an answer"
            )
        # A template that knows thoughts as a part of the text only, or one that takes them out of
        # all turns, as a chat goes on without them: what the model writes has them all the same.
        silent = _silent(turn)
        if self._writes({**silent, "content": tagged_thought(THOUGHT_MARK, turn["content"])}):
            return self._body({**silent, "content": tagged_thought(thought, turn["content"])})
        return tagged_thought(thought, self._body(turn))

    def _writes(self, marked: Message) -> bool:
        """Whether the template writes the thoughts of a turn, and what the turn does after them."""
        _, mark, after = self._body(marked).partition(THOUGHT_MARK)
        return bool(mark) and says_calls(after, marked)

    def _thinks_before_calls(self, turn: Message) -> bool:
        """Whether it has marks of its own for thoughts, which it writes in other turns only.

        Gemma 4's: the tags that other models use would be new to such a model.
        """
        call = {"type": "function", "function": {"name": MARK, "arguments": {}}}
        acts = {**turn, "reasoning_content": THOUGHT_MARK, "tool_calls": [call]}
        try:
            before, mark, _ = self.chat.render([*self.before, acts], self.tools).partition(
                THOUGHT_MARK
            )
        except UnusableRowError:
            return False
        return bool(mark) and not opened_thought(before)

    def _body(self, turn: Message) -> str:
        """What the template writes of a turn."""
        opening = self.opening
        whole = self.chat.render([*self.before, turn], self.tools)
        if whole.startswith(opening):
            return self._after_header(whole[len(opening) :]).rstrip()
        tag = opened_thought(opening)
        start = opening[: opening.rindex(tag)] if tag else opening
        if tag and whole.startswith(start):
            rest = whole[len(start) :].strip()
            if rest.startswith(tag):  # opened without the line feed that the prompt has
                return rest.removeprefix(tag).lstrip()
            # The template opens a thought where an answer is to be written, and keeps none: the
            # model writes what is between.
            thought = (turn.get("reasoning_content") or "").strip()
            closing = tag.replace("<", "</")
            return f"{thought}\n{closing}\n\n{rest}" if thought else f"{closing}\n\n{rest}"
        return self._body_by_header(turn, whole)

    def _body_by_header(self, turn: Message, whole: str) -> str:
        """The same where a prompt is not how the template writes a conversation that goes on."""
        header = _header(self.chat, self.before, self.tools)
        unthinking = _EMPTY_THOUGHTS.search(header)
        if unthinking and turn.get("reasoning_content"):
            raise AlteredRowError(
                "the chat template opens an answer after empty thoughts; set thoughts: drop, or a "
                "chat_template that lets the model think"
            )
        header = header[: unthinking.start()] if unthinking else header
        # What comes before the first word that is said, found with marks in place of all words.
        other = self.chat.render([*self.before, _marked(turn)], self.tools)
        same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(whole, other, strict=False))
        before, found, after = "".join(one for one, _ in same).rpartition(header or MARK)
        last = self.before[-1]["content"].strip() if self.before else ""
        if found and not (last and last in after):  # not the header of an earlier turn
            return whole[len(before) + len(header) :].strip()
        if turn.get("tool_calls") or turn.get("reasoning_content"):
            raise AlteredRowError("the chat template opens a turn in another way than it writes it")
        return str(turn["content"])

    def _after_header(self, body: str) -> str:
        """Without a header that a template writes after a tool's result, but opens no answer with.

        It is given nothing there, so what it writes is the answer.
        """
        if not self.before or self.before[-1]["role"] != "tool":
            return body
        return body.removeprefix(_header(self.chat, [{"role": "user", "content": MARK}], ()))


def _header(chat: ChatFormat, before: Sequence[Message], tools: Sequence[dict[str, Any]]) -> str:
    """What a template writes to open an answer after these messages; empty where nothing."""
    opening = chat.render(before, tools, opens_answer=True)
    unopened = chat.render(before, tools)
    return opening.removeprefix(unopened) if opening.startswith(unopened) else ""


def _marked(turn: Message) -> Message:
    """A turn with marks in place of all its words."""
    marked = {**turn, "content": MARK, "reasoning_content": THOUGHT_MARK}
    marked = {key: value for key, value in marked.items() if turn.get(key)}
    if calls := turn.get("tool_calls"):
        marked["tool_calls"] = [
            {**call, "function": {**call["function"], "name": MARK}} for call in calls
        ]
    return {"content": "", **marked}
