"""Requests about rows by templates: with worked examples, and as a chat where there are turns.

in:  {"id": "q1", "question": "2 + 2?"}, the template of strategy `recall`, candidate 0
out: a job about {"id": "q1-recall-0", "parent_id": "q1", "candidate_index": 0, "strategy":
     "recall", "question": "2 + 2?", "prompt": "…"}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from llm_distill.engines.base import SamplingSettings, StructuredOutput
from llm_distill.engines.requests import Job, make_chat_job, make_job
from llm_distill.engines.template_chats import TemplateChat
from llm_distill.errors import ConfigError, DataError
from llm_distill.methods.examples import draw_examples, usable
from llm_distill.methods.seeds import derive_seed
from llm_distill.models.sources import PromptFormat
from llm_distill.prompts import Template
from llm_distill.rows.columns import Row, by_task
from llm_distill.stage import Rows, later_setting

EXAMPLE_TEXTS = ("question", "reference_answer", "rationale")


class ExampleSettings(BaseModel):
    """Rows that are shown to the model, as the template's `examples`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: Rows = Field(description="the stage whose rows are examples")
    answer_template: str | None = later_setting(
        None,
        "shows each as two turns of a chat: what the stage's template asks about the row, and what "
        "this template answers; instead of the template's `examples`",
    )
    n: int = Field(ge=1, description="how many are drawn for each request, all of the row's task")
    may_be_itself: bool = Field(
        False, description="a row can be its own example, if the prompt asks for something else"
    )


def example_pools(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """By task, the rows that can be examples."""
    return by_task(row for row in rows if usable(row, EXAMPLE_TEXTS))


def candidate(row: Row, strategy: str, index: int) -> Row:
    """The row as the `index`th answer to it is passed on; the strategy's name may be empty."""
    name = f"-{strategy}" if strategy else ""
    of_row = {"id": f"{row['id']}{name}-{index}", "parent_id": row["id"], "candidate_index": index}
    return {**row, **of_row, **({"strategy": strategy} if strategy else {})}


@dataclass(frozen=True)
class TemplateRequests:
    """What all requests of a stage have in common.

    Attributes:
        model: Its name, which is a part of each seed: two models that are asked the same should
            write independently.
        seed: The stage's.
        examples, pools: What is shown, and of which rows, by task.
    """

    model: str
    prompt_format: PromptFormat
    seed: int
    sampling: SamplingSettings
    structure: StructuredOutput | None
    chat: TemplateChat
    examples: ExampleSettings | None
    pools: Mapping[str, Sequence[Row]]

    def job(
        self, row: Row, values: dict[str, Any], strategy: str, template: Template, index: int
    ) -> Job[Row]:
        """Ask about a row. values: what templates read, but for `examples`.

        A row that cannot be asked about is a job with an error.

        Raises:
            ConfigError: there are turns, and the model takes none.
        """
        about = candidate(row, strategy, index)
        seed = derive_seed(self.seed, self.model, row["id"], strategy, index)
        if self.examples is not None:
            n, itself = self.examples.n, self.examples.may_be_itself
            drawn_by = derive_seed(seed, "examples")
            try:
                shown = draw_examples(row, self.pools, n, drawn_by, may_be_itself=itself)
            except DataError as error:
                return Job(about["id"], {**about, "prompt": None}, None, str(error))
            values = {**values, "examples": shown}
        if self.chat.has_turns:
            return self._chat_job(about, template, values, seed)
        job, about["prompt"] = make_job(
            about["id"], about, template, values, self.prompt_format, self.sampling, seed,
            self.structure,
        )  # fmt: skip
        return job

    def _chat_job(
        self, about: Row, template: Template, values: Mapping[str, Any], seed: int
    ) -> Job[Row]:
        """A system message, examples as turns, and then what the template asks."""
        if self.prompt_format == "text":
            raise ConfigError(
                "system_template, system_column and examples.answer_template: model "
                f"'{self.model}' has prompt_format: text, which has no turns; leave it out for one "
                "with a chat template"
            )
        about["prompt"] = None
        try:
            messages, about["prompt"] = self.chat.messages(template, about, values)
        except DataError as error:
            return Job(about["id"], about, None, str(error))
        return make_chat_job(about["id"], about, messages, self.sampling, seed, self.structure)
