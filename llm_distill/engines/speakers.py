"""Who speaks in a dialogue of models, and from a dialogue to the request for its next turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from llm_distill.engines.base import Completion, Request, SamplingSettings
from llm_distill.engines.requests import Job, render_prompt
from llm_distill.errors import DataError
from llm_distill.methods.talks import Turn, as_chat, as_values, merged, read_act, times_said
from llm_distill.methods.tutoring import says_answer
from llm_distill.models.sources import PromptFormat
from llm_distill.prompts import load_template
from llm_distill.rows.columns import Row
from llm_distill.rows.messages import Message
from llm_distill.stage import Model

OFFERED = ("turns", "speaker")
"""What a template is given beside the row: the dialogue so far, and the speaker's own name."""
Name = Annotated[str, StringConstraints(pattern=r"^\w+$")]


class Speaker(BaseModel):
    """Who takes part in the dialogue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Model | None = Field(None, description="the model that speaks")
    says: str | None = Field(
        None,
        description="instead of a model: a template of what it says, such as a tutor that always "
        "tells the answer, as a control",
    )
    template: str | None = Field(
        None,
        description="what it is asked for its next turn: reads the row, `turns` (speaker, text and "
        "act of each) and `speaker`, its own name; with `chat` the first message, before the turns",
    )
    system_template: str | None = Field(
        None, description="a template of a system message, which comes first in a chat"
    )
    chat: bool = Field(
        False,
        description="the dialogue follows as messages: its own turns as the assistant's, those of "
        "others as the user's",
    )
    sampling: SamplingSettings = Field(SamplingSettings(), description="how its turns are drawn")
    act_tag: Name | None = Field(
        None,
        description="the tag in which it says what kind of turn this is, such as act for "
        "<act>focus</act>; the others do not see it",
    )
    max_repeats: int | None = Field(
        None,
        ge=1,
        description="the dialogue ends where it says something that it has said this often before; "
        "null: it may repeat itself",
    )

    @model_validator(mode="after")
    def _is_asked_something(self) -> Self:
        if (self.model is None) == (self.says is None):
            raise ValueError("give one of model and says")
        if self.says is not None:
            idle = ("template", "system_template", "chat", "sampling")
            given = [name for name in idle if name in self.model_fields_set]
            if given:
                raise ValueError(f"{' and '.join(given)}: says needs no model, so nobody is asked")
            return self
        if self.template is None and not self.chat:
            raise ValueError("template is missing: what it is asked (or set chat: true)")
        if self.template is None and self.system_template is None:
            raise ValueError(
                "chat: without template and system_template it knows no role and no row"
            )
        return self


class Opening(BaseModel):
    """A turn that is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    speaker: str = Field(description="who says it")
    text: str | None = Field(None, description="what, the same in each dialogue")
    column: str | None = Field(None, description="or the column with what is said")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.text is None) == (self.column is None):
            raise ValueError("give one of text and column")
        if self.text is not None and not self.text.strip():
            raise ValueError("text is blank: nothing is said")
        return self


class Stop(BaseModel):
    """What ends a dialogue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    speaker: str = Field(description="whose turn ends it")
    answers: str | None = Field(
        None, description="a column: the turn's final answer equals it, as `verify` compares"
    )
    answer_kind: Literal["exact", "choice", "math"] = Field(
        "exact", description="how they are compared"
    )
    says: str | None = Field(None, min_length=1, description="or a text: the turn contains it")

    @model_validator(mode="after")
    def _one_sign(self) -> Self:
        if (self.answers is None) == (self.says is None):
            raise ValueError("give one of answers and says")
        return self

    def is_answered(self, said: Turn, row: Row) -> bool:
        """Whether the turn has the answer of the row."""
        if self.answers is None:
            return False
        ended = said.finish_reason == "stop"
        return says_answer(said.text, str(row[self.answers]), self.answer_kind, ended=ended)


class Question(BaseModel):
    """What one speaker is asked alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    speaker: str = Field(description="who is asked, after its system message if it has one")
    template: str = Field(
        description="reads the row, `speaker`, and `turns`, of which there are none before"
    )
    sampling: SamplingSettings | None = Field(None, description="null: the speaker's own")


@dataclass
class Talk:
    """A dialogue that is being written.

    Attributes:
        row: What it is about, and is passed on with it.
        stop_reason: None while it goes on.
        answers: The replies to what was asked before and after it.
    """

    row: Row
    turns: list[Turn] = field(default_factory=list)
    stop_reason: str | None = None
    error: str | None = None
    answers: dict[str, str] = field(default_factory=dict)

    @property
    def n_written(self) -> int:
        return sum(not turn.is_given for turn in self.turns)

    def fails(self, error: str) -> None:
        self.stop_reason, self.error = "error", error

    def take(
        self, name: str, speaker: Speaker, completion: Completion, rules: Sequence[Stop]
    ) -> None:
        """Add a turn, and end the dialogue if it is over. rules: those of the speaker."""
        if completion.error is not None:
            self.fails(completion.error)
            return
        text, act = read_act(completion.text, speaker.act_tag)
        if not text:
            self.stop_reason = "empty"
            return
        said = Turn(name, text, act, completion.finish_reason)
        n_before = times_said(self.turns, said)
        self.turns.append(said)
        if any(rule.is_answered(said, self.row) for rule in rules):
            self.stop_reason = "answered"
        elif any(rule.says is not None and rule.says in text for rule in rules):
            self.stop_reason = "ended"
        elif speaker.max_repeats is not None and n_before >= speaker.max_repeats:
            self.stop_reason = "repeated"


@dataclass(frozen=True)
class Asked:
    """What one speaker is asked: for its next turn, or alone.

    Attributes:
        number: The turn's, or `before` or `after`; a part of the request's id and seed.
        template: As the speaker's, or the question's; None where the dialogue follows by itself.
        chat: Whether the dialogue follows as messages.
    """

    name: str
    speaker: Speaker
    number: int | str
    template: str | None
    sampling: SamplingSettings
    chat: bool = False

    def job(
        self,
        talk: Talk,
        turns: Sequence[Turn],
        row: Mapping[str, Any],
        seed: int,
        prompt_format: PromptFormat,
        n_speakers: int,
    ) -> Job[Talk]:
        """The request, or why there can be none.

        turns: what the speaker has heard. row: what the templates read, turns and name apart.
        """
        values = self._values(turns, row)
        identity = f"{talk.row['id']}-{self.number}"
        messages: list[Message] = []
        try:
            for role, template in ("system", self.speaker.system_template), ("user", self.template):
                if template is not None:
                    text = render_prompt(load_template(template), values)
                    messages.append({"role": role, "content": text})
        except DataError as error:
            return Job(identity, talk, None, str(error))
        if prompt_format == "text":
            return Job(
                identity, talk, Request(identity, messages[0]["content"], self.sampling, seed)
            )
        if self.chat:
            act_tag = self.speaker.act_tag
            messages = merged([*messages, *as_chat(turns, self.name, act_tag, n_speakers)])
        return Job(identity, talk, Request(identity, messages, self.sampling, seed))

    def said(self, talk: Talk, turns: Sequence[Turn], row: Mapping[str, Any]) -> Completion:
        """What a speaker without a model says; it costs nothing."""
        identity = f"{talk.row['id']}-{self.number}"
        assert self.speaker.says is not None
        try:
            text = render_prompt(load_template(self.speaker.says), self._values(turns, row))
        except DataError as error:
            return Completion(identity, "", "error", error=str(error))
        return Completion(identity, text, "stop")

    def _values(self, turns: Sequence[Turn], row: Mapping[str, Any]) -> dict[str, Any]:
        return {**row, "turns": as_values(turns, self.name), "speaker": self.name}
