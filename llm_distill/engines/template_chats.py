"""Chats around a template: a system message before what it asks, worked examples as turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_distill.engines.base import Completion
from llm_distill.engines.requests import example_turns, render_prompt
from llm_distill.errors import DataError
from llm_distill.prompts import Template, load_template
from llm_distill.rows.columns import Row
from llm_distill.rows.messages import Message


@dataclass(frozen=True)
class TemplateChat:
    """What stands before a template's prompt.

    Attributes:
        system_template: A template of the system message.
        system_column: Or the column with each row's own; an empty text is none.
        answer_template: What the assistant says in an example; None: there are no such turns.
    """

    system_template: str | None = None
    system_column: str | None = None
    answer_template: str | None = None

    @property
    def has_turns(self) -> bool:
        """Whether the template's prompt is not all of the chat."""
        return any((self.system_template, self.system_column, self.answer_template))

    def messages(
        self, template: Template, row: Row, values: Mapping[str, Any]
    ) -> tuple[list[Message], str]:
        """The turns, the last of which is what the template asks, and that by itself.

        Args:
            values: What templates read; with `answer_template` its `examples` become turns.

        Raises:
            DataError: a template has nothing to render, or the system message is null: only an
                empty text says that there is to be none.
        """
        shown: Sequence[Row] = ()
        if self.answer_template is not None:
            shown, values = values["examples"], {**values, "examples": ()}
        said: list[Message] = []
        system = self._system(row, values)
        if system is not None:
            said.append({"role": "system", "content": system})
        for example in shown:
            assert self.answer_template is not None
            answer = load_template(self.answer_template)
            said += example_turns(template, answer, {**values, **example})
        prompt = render_prompt(template, values)
        return [*said, {"role": "user", "content": prompt}], prompt

    def answered(self, row: Row, prompt: str, completion: Completion) -> list[Message] | None:
        """System message, question and answer, without examples; None where there is no answer."""
        if completion.error is not None:
            return None
        assert self.system_column is not None
        system = _text(row[self.system_column])
        said: list[Message] = [{"role": "system", "content": system}] if system else []
        answer: Message = {"role": "assistant", "content": completion.text.strip()}
        if completion.reasoning is not None:
            answer["reasoning_content"] = completion.reasoning
        return [*said, {"role": "user", "content": prompt}, answer]

    def _system(self, row: Row, values: Mapping[str, Any]) -> str | None:
        """None for no such turn."""
        if self.system_template is not None:
            return render_prompt(load_template(self.system_template), values)
        if self.system_column is None:
            return None
        if row[self.system_column] is None:
            raise DataError(f"{self.system_column} is null; an empty text is no system message")
        return _text(row[self.system_column])


def _text(value: Any) -> str | None:
    """A text as it is; None where it is blank."""
    text = str(value if value is not None else "")
    return text if text.strip() else None
