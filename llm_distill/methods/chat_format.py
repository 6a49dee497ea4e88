"""Messages as the text that a model is given, through its own chat template. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from llm_distill.models.sources import ASKS_FOR_DATE, ModelSource
from llm_distill.rows.messages import REASONING, Message
from llm_distill.rows.unusable import OF_THE_TEMPLATE, AlteredRowError, UnusableRowError

KEYS = ("role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name")
"""What a template is given of a message."""
PROBE = "\ue002"


@dataclass(frozen=True)
class ChatFormat:
    """How one model is spoken to.

    Attributes:
        tokenizer: whose chat template renders.
        folds_system: a system message goes before the first question, for a template that has no
            system role.
        today: what a template takes for the present date.
    """

    tokenizer: Any
    folds_system: bool = False
    today: date | None = None

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[dict[str, Any]] = (),
        *,
        opens_answer: bool = False,
    ) -> str:
        """The messages as one text, special tokens and all.

        Args:
            messages: in the form of `rows.messages`.
            tools: schemas of what may be called.
            opens_answer: end with what comes before an answer of the assistant.

        Raises:
            UnusableRowError: the template refuses them, with its reason.
        """
        from jinja2 import TemplateError

        given = [_given(m) for m in self._folded(messages)]
        try:
            try:
                return self._written(given, tools, opens_answer)
            except TypeError:  # DeepSeek's takes arguments as the JSON text that its server had
                if not any("tool_calls" in m for m in given):
                    raise
                return self._written(list(map(_with_json_calls, given)), tools, opens_answer)
        # What a template may compute on messages: a missing key, text + a list.
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            said = " ".join(str(error).split())[:120]
            raise UnusableRowError(f"{OF_THE_TEMPLATE}: {said}") from error

    def _written(
        self, given: list[Message], tools: Sequence[dict[str, Any]], opens_answer: bool
    ) -> str:
        more = {} if self.today is None else {ASKS_FOR_DATE: self.today.strftime}
        text: str = self.tokenizer.apply_chat_template(
            given,
            tools=list(tools) or None,
            tokenize=False,
            add_generation_prompt=opens_answer,
            **more,
        )
        return text

    def _folded(self, messages: Sequence[Message]) -> Sequence[Message]:
        return folded(messages) if self.folds_system else messages


def _given(message: Message) -> Message:
    """What a template is given of a message; thoughts under each name that templates read."""
    given = {key: message[key] for key in KEYS if key in message}
    thought = given.get("reasoning_content")
    return given if thought is None else {**given, **dict.fromkeys(REASONING, thought)}


def _with_json_calls(message: Message) -> Message:
    """A message with the arguments of its calls as JSON text."""
    if "tool_calls" not in message:
        return message
    calls = []
    for call in message["tool_calls"]:
        arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
        calls.append({**call, "function": {**call["function"], "arguments": arguments}})
    return {**message, "tool_calls": calls}


def chat_format(source: ModelSource, tokenizer: Any) -> ChatFormat:
    """How a model is spoken to, with its tokenizer."""
    return ChatFormat(tokenizer, source.system_role == "fold", source.today)


def folded(messages: Sequence[Message]) -> Sequence[Message]:
    """Messages whose system messages stand before the first question, in one with it."""
    system = [m["content"].strip() for m in messages if m["role"] == "system"]
    others = [m for m in messages if m["role"] != "system"]
    if not system or not others or others[0]["role"] != "user":
        return messages
    first = {**others[0], "content": "\n\n".join([*system, others[0]["content"]])}
    return [first, *others[1:]]


def check_is_whole(
    chat: ChatFormat, text: str, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()
) -> None:
    """That a rendered prompt says what its messages say; thoughts of earlier turns may be gone.

    Raises:
        AlteredRowError: the template leaves something out.
    """
    if tools and chat.render(messages, opens_answer=True) == text:
        raise AlteredRowError("the chat template leaves out the tools")
    for message in messages:
        if not _says(text, message["content"]):
            what = {"system": "the system message", "tool": "the result of a tool"}
            left_out = what.get(message["role"], "an earlier turn")
            raise AlteredRowError(f"the chat template leaves out {left_out}")
        if message["role"] == "assistant":
            check_says_calls(text, message)


def check_says_turn(text: str, message: Message) -> None:
    """That a rendered turn of the assistant has its thoughts, its answer and its calls.

    Raises:
        AlteredRowError: the template leaves something out.
    """
    if not _says(text, message.get("reasoning_content") or ""):
        raise AlteredRowError("the chat template leaves out the thoughts")
    if not _says(text, message["content"]):
        if message.get("tool_calls"):
            raise AlteredRowError("the chat template leaves out the text beside a call of a tool")
        raise AlteredRowError("the chat template changes the answer")
    check_says_calls(text, message)


def takes_parts(chat: ChatFormat) -> bool:
    """Whether a template takes content as a list of parts only, as those of some vision models."""
    return not _shows(chat, PROBE) and _shows(chat, [{"type": "text", "text": PROBE}])


def _shows(chat: ChatFormat, content: Any) -> bool:
    try:
        return PROBE in chat.render([{"role": "user", "content": content}])
    except UnusableRowError:
        return False


def says_calls(text: str, message: Message) -> bool:
    """Whether the calls of a message are in a text, each with its name and every argument."""
    try:
        check_says_calls(text, message)
    except AlteredRowError:
        return False
    return True


def check_says_calls(text: str, message: Message) -> None:
    """That the calls of a message are in a text, each with its name and every argument.

    Raises:
        AlteredRowError: one is not.
    """
    for call in message.get("tool_calls") or ():
        function = call["function"]
        said = [function["name"], *_leaves(function["arguments"])]
        if not all(_says(text, each) for each in said):
            raise AlteredRowError("the chat template leaves out a call of a tool")


def _leaves(value: Any) -> list[str]:
    """The keys and the plain values of arguments, as text."""
    if isinstance(value, dict):
        return [*value, *(leaf for item in value.values() for leaf in _leaves(item))]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    if isinstance(value, str):
        return [value]
    return [json.dumps(value)] if isinstance(value, int | float) else []


def _says(text: str, part: str) -> bool:
    """Whether a text has the part, as it is or as it is written in JSON."""
    part = part.strip()
    return (
        part in text
        or json.dumps(part)[1:-1] in text
        or json.dumps(part, ensure_ascii=False)[1:-1] in text
    )
