"""Where in a row its text stands: the settings that scoring and training must agree on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llm_distill.engines.requests import offered_variables, render_prompt
from llm_distill.errors import DataError
from llm_distill.prompts import load_template
from llm_distill.rows.columns import Row
from llm_distill.rows.messages import Message
from llm_distill.rows.unusable import UnusableRowError
from llm_distill.stage import Columns, later_setting
from llm_distill.training.settings import TurnSettings

if TYPE_CHECKING:
    from llm_distill.training.encoder import EncodedTurn, PairEncoder

ANSWER_ONLY = ("prompt_template", "variables", "completion_column")


class PromptedRow(BaseModel):
    """A prompt (a column, or a template) with a completion."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    former_settings: ClassVar[Mapping[str, Any]] = {"by_task": {}}

    prompt_template: str | None = Field(
        None, description="makes the prompt; null takes the column `prompt`"
    )
    variables: dict[str, Any] = Field({}, description="constants for the template")
    completion_column: str = Field("completion", description="what answers the prompt")

    def text_columns(self) -> set[str]:
        """The columns that are read."""
        return {self.completion_column} | (set() if self.prompt_template else {"prompt"})

    def offered(self, columns: Columns) -> dict[str, Columns]:
        """The template with the variables that it is offered, for `Stage.template_variables`."""
        if self.prompt_template is None:
            return {}
        offered = offered_variables(columns, self.variables, "examples")
        return {self.prompt_template: offered}

    def prompt(self) -> Callable[[Row], Any]:
        """From a row to its prompt; None where a variable of the template is null or empty.

        The column `prompt` may also hold a conversation.
        """
        if self.prompt_template is None:
            return lambda row: row["prompt"]
        template = load_template(self.prompt_template)

        def rendered(row: Row) -> str | None:
            try:
                return render_prompt(template, {"examples": [], **row, **self.variables})
            except DataError:
                return None

        return rendered


class AnsweredRow(PromptedRow, TurnSettings):
    """A prompt with a completion, or a conversation, as `train_sft` reads them."""

    messages_column: str | None = later_setting(
        None, "instead: a conversation, whose assistant turns are trained"
    )
    reasoning_column: str | None = later_setting(
        None, "thoughts before the completion, which are trained with it"
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        asked = [n for n in (*ANSWER_ONLY, "reasoning_column") if n in self.model_fields_set]
        if self.messages_column is not None and asked:
            raise ValueError(f"messages_column and {', '.join(asked)} exclude each other")
        return self

    def text_columns(self) -> set[str]:
        if self.messages_column is not None:
            return {self.messages_column}
        return super().text_columns() | {*filter(None, [self.reasoning_column])}

    def remedy(self, column: str) -> str | None:
        """See `Stage.remedy`."""
        is_default = column == "prompt" and self.messages_column is None
        return "for conversations set messages_column: messages" if is_default else None

    def encoded(self, encoder: PairEncoder) -> Callable[[Row], list[EncodedTurn]]:
        """From a row to its turns as tokens.

        The function raises UnusableRowError, with the reason under which the row is counted.
        """
        from llm_distill.rows.messages import is_conversation
        from llm_distill.training.encoder import as_read, tools_of

        if self.messages_column is not None:
            column = self.messages_column
            return lambda row: encoder.conversation(as_read(row[column]), tools_of(row))
        prompt, completion, reasoning = self.prompt(), self.completion_column, self.reasoning_column

        def turns(row: Row) -> list[EncodedTurn]:
            asked, answer = prompt(row), row[completion]
            if is_conversation(asked) and is_conversation(answer):
                return encoder.continued(as_read(asked), as_read(answer), tools_of(row))
            return [encoder.answered(asked, answer, row[reasoning] if reasoning else None)]

        return turns


class RowText(PromptedRow, TurnSettings):
    """A prompt with a completion; or a conversation; or a document."""

    messages_column: str | None = Field(
        None, description="instead: a conversation, whose assistant turns count"
    )
    text_column: str | None = Field(None, description="instead: a plain text, all of which counts")
    truncated: Literal["close", "open", "drop"] = later_setting(
        "close",
        "a text that max_tokens cut (finish_reason: length) is given the end that nobody wrote, or "
        "is left without one, or is left out",
    )

    @model_validator(mode="after")
    def _one_form(self) -> RowText:
        if self.truncated != "close" and self.text_column is not None:
            raise ValueError("truncated is about what a model wrote, not about text_column")
        others = [n for n in ("messages_column", "text_column") if getattr(self, n) is not None]
        answer = [name for name in ANSWER_ONLY if name in self.model_fields_set]
        if len(others) == 2 or (others and answer):
            given = ", ".join([*others, *answer])
            raise ValueError(
                f"{given} exclude each other: a row's text is messages_column, or text_column, or "
                "a completion after a prompt"
            )
        return self

    def text_columns(self) -> set[str]:
        other = self.messages_column or self.text_column
        found = {other} if other is not None else super().text_columns()
        return found if self.truncated == "close" else found | {"finish_reason"}

    def turns(self) -> Callable[[Row], Sequence[Message] | str]:
        """From a row to what `RowEncoder.encode` takes.

        The function raises UnusableRowError, with the reason under which the row is counted.
        """
        from llm_distill.distillation.alignment.encoding import document_of, messages_of, turns_of

        messages, text = self.messages_column, self.text_column
        if messages is not None:
            return lambda row: messages_of(row, messages)
        if text is not None:
            return lambda row: document_of(row, text)
        prompt = self.prompt()
        return lambda row: turns_of(row, self.completion_column, prompt)

    def with_text(self, row: Row, text: str) -> Row:
        """The row with another text as its completion, or as its conversation's last answer.

        A conversation that waits for an answer gets it.

        Raises:
            UnusableRowError: there is no conversation.
        """
        if self.messages_column is None:
            return {**row, self.completion_column: text}
        from llm_distill.distillation.alignment.encoding import messages_of

        messages = messages_of(row, self.messages_column)
        answer: Message = {"role": "assistant", "content": text}
        said = messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages
        return {**row, self.messages_column: [*said, answer]}

    def is_open(self, row: Row) -> bool:
        """Whether the row's last text goes on: its end is not in the loss.

        Raises:
            UnusableRowError: it does, and such rows are left out.
        """
        if self.truncated == "close" or row["finish_reason"] != "length":
            return False
        if self.truncated == "drop":
            raise UnusableRowError("cut by max_tokens")
        return True

    def ends_what_was_cut(self, row: Row) -> bool:
        """Whether it gives the row's last text an end that nobody wrote."""
        return self.truncated == "close" and row.get("finish_reason") == "length"

    def tools(self) -> Callable[[Row], list[dict[str, Any]]]:
        """From a row to the tools that its conversation may call."""
        from llm_distill.training.encoder import tools_of

        return tools_of if self.messages_column is not None else lambda row: []
