"""Ask a model n times about each row; optionally parse and verify its answers.

in:  {"id": "q1", "question": "What is 2 + 2?"}
out: {"id": "q1-recall-0", "parent_id": "q1", "strategy": "recall", "candidate_index": 0,
      "question": "What is 2 + 2?", "prompt": "…", "completion": "… <ans>4</ans>",
      "reasoning": null, "finish_reason": "stop", "error": null}

in:  {"id": "q1", "messages": [{"role": "user", "content": "2 + 2?"}]} with messages_column
out: {"id": "q1-0", "parent_id": "q1", "candidate_index": 0, "prompt": null, "completion": "4",
      "messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}],
      "tool_calls": null, "reasoning": null, "finish_reason": "stop", "error": null}

with system_column also: {"messages": [{"role": "system", "content": "Think step by step."},
      {"role": "user", "content": "…"}, {"role": "assistant", "content": "… <ans>4</ans>"}]}

with keep_tokens also: {"completion_ids": [41, 7, 2], "rollout_logps": [-0.4, -0.1, -0.02],
      "written_by": "tiny-student 9c1e04b7aa31", "written_with": "5d20c1f3be77"}
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from llm_distill.distillation.sampled import (
    TOKENS,
    drawn_otherwise,
    tokens_of,
    with_tokens,
    writer_of,
)
from llm_distill.engines.asking_stage import AskingStage
from llm_distill.engines.base import Completion, SamplingSettings, StructuredOutput
from llm_distill.engines.dialogues import Talk, all_turns, talk_of
from llm_distill.engines.requests import Job
from llm_distill.engines.template_chats import TemplateChat
from llm_distill.engines.template_requests import (
    ExampleSettings,
    TemplateRequests,
    candidate,
    example_pools,
)
from llm_distill.errors import ConfigError, DataError
from llm_distill.evaluation.step_figures import with_step_figures
from llm_distill.methods.dialogue import Anew
from llm_distill.methods.error_budget import ErrorBudget
from llm_distill.methods.parsed_rows import ParseSettings
from llm_distill.methods.seeds import derive_seed
from llm_distill.methods.verified_rows import VerifySettings
from llm_distill.prompts import load_template
from llm_distill.rows.columns import SEED, Row, features, note_seed, of_seed, renamed
from llm_distill.rows.messages import KEYS, message_type
from llm_distill.stage import Columns, Context, Model, Rows, RowsOutput, later_setting

ADDED = ("id", "parent_id", "prompt", "reasoning", "finish_reason", "candidate_index", "error")


class Generate(AskingStage):
    """Renders a template for each row and keeps what the model answers, one row per candidate.

    A row is returned `n` times (`n` times for each named template), with a new `id` and the old
    one as `parent_id`. A row that cannot be asked about (a variable of the template is null or
    empty) or on which the engine fails is kept, with the reason in `error` and no completion.
    What a model thinks before it answers, in `<think>` tags or in a field of a server's answer,
    goes into `reasoning` and is not a part of the completion.

    With `messages_column` a conversation is continued in place of a template, with the row's
    `tools`, if it has some; the new turn stands at the end of `messages`, thoughts and calls
    included. `regenerate: all` writes every turn of the assistant anew, each seeing the new ones
    before it; then all rows are in memory. A dialogue ends early where a call has no result.

    With `parse`, columns are read out of the model's text; with `verify`, answers are compared with
    references. Both do what the stages of these names do, and what they drop is counted here. If
    rows get another `question`, what was said about the one before (its answer, skills, …) goes on
    as `seed_question`, `seed_reference_answer` and so on.
    Completions are stored, so changing either does not ask the model again.

    With `system_column` each row has its own system message, such as `assign` gives; an empty text
    is none. Its chat goes into `messages`, without examples that were turns, so that a student can
    be trained with the system message; where there was none, `messages` has no such turn.

    With `keep_tokens` a row also has what was sampled, for losses on sampled tokens (`opd` of
    `train_distill`): `completion_ids`, with the end token if the model wrote one, `rollout_logps`,
    the log-probability of each under the model itself (at temperature 1, before top_p and top_k),
    `written_by` and `written_with`. A server has to give token ids as vLLM's does
    (`return_token_ids`); it is asked for one token first.
    """

    rows_may_be_empty = True
    version: ClassVar[int] = 3

    stage: Literal["generate"]
    rows: Rows = Field(description="the stage whose rows are asked about")
    model: Model = Field(description="the model that answers")
    template: str | dict[str, str] | None = Field(
        None, description="a template, or several by name; the name goes into the column `strategy`"
    )
    system_template: str | None = later_setting(
        None, "a template of a system message, which comes first in the chat"
    )
    system_column: str | None = later_setting(
        None, "instead: a column with each row's own; an empty text is none. Gives `messages`"
    )
    messages_column: str | None = later_setting(
        None, "instead of a template: a conversation; a last turn of the assistant is replaced"
    )
    regenerate: Anew = later_setting(
        "last", "of a conversation, its last turn, or all turns of the assistant one by one"
    )
    max_turns: int = later_setting(8, "the most turns of a conversation that are written", ge=1)
    n: int = Field(1, ge=1, description="how many candidates, for each row and template")
    n_column: str | None = later_setting(
        None, "instead of n: a column that says how many, such as n of plan_data; 0: none"
    )
    sampling: SamplingSettings = Field(SamplingSettings(), description="how completions are drawn")
    truncated: Literal["keep", "drop"] = later_setting(
        "keep", "what is done with answers that max_tokens cut (`finish_reason: length`)"
    )
    structured_output: StructuredOutput | None = Field(
        None, description="the form that every completion must have; not with kind: transformers"
    )
    examples: ExampleSettings | None = Field(
        None, description="rows that the template shows as `examples`, drawn anew for each request"
    )
    completion_column: str = Field("completion", description="where the model's text goes")
    parse: ParseSettings | None = later_setting(
        None, "what to read out of the model's text into columns, as the stage `parse` does"
    )
    verify: VerifySettings | None = later_setting(
        None,
        "compare answers with references, as the stage `verify` does; after `parse`",
    )
    keep_tokens: bool = later_setting(
        False,
        "also keep the tokens as they were sampled and their log-probabilities, for losses on "
        "sampled tokens; sample at temperature 1 with top_p 1 and top_k 0 then",
    )

    @field_validator("template")
    @classmethod
    def _named_plainly(cls, value: str | dict[str, str] | None) -> str | dict[str, str] | None:
        if value is not None and not value:
            raise ValueError("name at least one template")
        for name in value if isinstance(value, dict) else ():
            if not re.fullmatch(r"\w+", name):  # it becomes a part of ids
                raise ValueError(f"'{name}': letters, digits and underscores only")
        return value

    @model_validator(mode="after")
    def _one_count(self) -> Self:
        if self.n_column is not None and self.n > 1:
            raise ValueError("n and n_column exclude each other: the column says how many")
        return self

    @field_validator("completion_column")
    @classmethod
    def _not_taken(cls, value: str) -> str:
        if value in (*ADDED, "strategy", "messages"):
            raise ValueError(f"'{value}' holds something else; choose another column")
        return value

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.template is None) == (self.messages_column is None):
            raise ValueError("give one of template and messages_column")
        system = self.system_template or self.system_column
        if self.messages_column is not None and (self.examples or system):
            raise ValueError(
                "examples, system_template and system_column go with a template, not with messages"
            )
        if self.system_template is not None and self.system_column is not None:
            raise ValueError("give one of system_template and system_column")
        return self

    @model_validator(mode="after")
    def _tokens_are_sampled(self) -> Self:
        if not self.keep_tokens:
            return self
        others = {
            "sampling.stop": self.sampling.stop,
            "sampling.thinking_token_budget": self.sampling.thinking_token_budget is not None,
            "structured_output": self.structured_output,
            "regenerate: all": self.regenerate == "all",
        }
        found = [name for name, is_set in others.items() if is_set]
        if found:
            raise ValueError(
                f"keep_tokens and {' and '.join(found)} exclude each other: the text is then not "
                "what was sampled, token by token; leave out one of them"
            )
        if self.completion_column in TOKENS:
            raise ValueError(f"completion_column: keep_tokens fills '{self.completion_column}'")
        return self

    @model_validator(mode="after")
    def _verify_has_its_columns(self) -> Self:
        missing = sorted(self._judged_columns().intersection(self._dropped()))
        if missing:
            raise ValueError(f"parse.drop_columns: verify needs {', '.join(missing)}")
        return self

    def asks(self, place: str) -> Literal["text", "structure"] | None:
        return "text" if self.structured_output is None else "structure"

    def reads_tokenizer(self, place: str) -> bool:
        return self.keep_tokens and place == "model"

    def required_columns(self) -> dict[str, set[str]]:
        judged = self._judged_columns() - {*self._added(), *self._parsed()}
        if self._gives_question():  # what is renamed is needed by its name before
            judged = {name.removeprefix(SEED) for name in judged}
        own = filter(None, [self.messages_column, self.system_column, self.n_column])
        needed = {self.rows: {"id", *judged, *own}}
        if self.parse is not None:
            needed[self.rows] |= self.parse.dropped_columns(self._added())
        if self.examples is not None:
            needed.setdefault(self.examples.rows, set()).add("id")
        return needed

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        columns = inputs[self.rows]
        if columns is None:
            return None
        kept = renamed(dict.fromkeys(columns), self._of_seed(columns))
        answered = {*kept, *self._added(), *self._parsed()}.difference(self._dropped())
        return frozenset(answered.union(self._verdict()))

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        more = ("examples",) if self.examples is not None else ()
        offered = self.offered(inputs[self.rows], *more)
        found: dict[str, Columns] = {}
        if self.template is not None:
            found |= dict.fromkeys(self._templates().values(), offered)
        if self.system_template is not None:
            found[self.system_template] = offered
        if self.examples is not None and self.examples.answer_template is not None:
            found[self.examples.answer_template] = self.offered(inputs[self.examples.rows])
        return found

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        n = rows[self.rows]
        if n is None or self.n_column is not None:
            return None
        return n * self.n * len(self._templates() or [None])

    def most_asked(self, rows: Mapping[str, int | None]) -> Mapping[str, tuple[int, int]] | None:
        n = self.most_rows(rows)
        turns = self.max_turns if self.messages_column and self.regenerate == "all" else 1
        return None if n is None else {self.model: (n * turns, self.sampling.max_tokens)}

    def is_seeded(self) -> bool:
        return self.sampling.temperature > 0 or self.examples is not None

    def run(self, context: Context) -> RowsOutput:
        if self.n > 1 and not self.is_seeded():
            context.warn(f"n is {self.n} at temperature 0: every candidate of a row is the same")
        given = context.rows(self.rows).features
        otherwise = drawn_otherwise(self.sampling) if self.keep_tokens else None
        if otherwise is not None:
            context.warn(otherwise)
        names = self._of_seed(given)
        for name in sorted(self._judged_columns().intersection(names).difference(self._parsed())):
            raise DataError(
                f"verify: '{name}' is about the question before, not about the one that is "
                f"written; read it with the question (parse), or compare with '{names[name]}'"
            )
        note_seed(names)
        rows = self._rows(context, names)
        if self.truncated == "drop":
            rows = _whole(rows, context)
        if self.parse is not None:
            rows = self.parse.read_rows(rows, self.completion_column, context.drop)
        if self.verify is not None:
            judged = self.verify.judged(rows, context.drop, context.warn, context.metrics)
            rows = with_step_figures(judged, context.metrics)
        answered = features((*self._added(), *self._parsed()), like=renamed(given, names))
        if "messages" in self._added():
            answered["messages"] = message_type(KEYS)
            answered["prompt"] = features(["error"])["error"]
        for name in self._dropped():
            answered.pop(name, None)
        return RowsOutput(rows, features(self._verdict(), like=answered))

    def _gives_question(self) -> bool:
        return "question" in (self.completion_column, *self._parsed())

    def _of_seed(self, columns: Iterable[str]) -> dict[str, str]:
        """The columns that are about the question before, if rows get another one."""
        return of_seed(columns, self._dropped()) if self._gives_question() else {}

    def _parsed(self) -> list[str]:
        return self.parse.new_columns() if self.parse is not None else []

    def _dropped(self) -> Sequence[str]:
        return self.parse.drop_columns if self.parse is not None else ()

    def _verdict(self) -> Sequence[str]:
        return self.verify.verdict_columns() if self.verify is not None else ()

    def _judged_columns(self) -> set[str]:
        return self.verify.read_columns() if self.verify is not None else set()

    def _templates(self) -> dict[str, str]:
        """By strategy; a single template has the empty name."""
        return self.template if isinstance(self.template, dict) else {"": self.template or ""}

    def _added(self) -> Sequence[str]:
        strategy = ("strategy",) if isinstance(self.template, dict) else ()
        chat: tuple[str, ...] = ()
        if self.messages_column is not None:
            chat = ("messages", "tool_calls")
        elif self.system_column is not None:
            chat = ("messages",)
        tokens = TOKENS if self.keep_tokens else ()
        return (*ADDED, *strategy, *chat, *tokens, self.completion_column)

    def _rows(self, context: Context, names: Mapping[str, str]) -> Iterator[Row]:
        total = self._n_candidates(context) * len(self._templates())
        budget = self.budget(total)
        writer = writer_of(context.model(self.model)) if self.keep_tokens else {}
        if self.messages_column is not None:
            for row in self._continued(context, names, total, budget):
                yield {**row, **writer}
            context.metrics.update(budget.figures())
            return
        for job, completion in self.ask(context, self.model, self._jobs(context), total, budget):
            row = {**renamed(job.about, names), **self._answer(completion), **writer}
            if self.system_column is not None:
                row["messages"] = self._chat.answered(job.about, row["prompt"], completion)
            yield row
        context.metrics.update(budget.figures())

    def _n_candidates(self, context: Context) -> int:
        if self.n_column is None:
            return len(context.rows(self.rows)) * self.n
        counts = context.rows(self.rows).select_columns(["id", self.n_column])
        return sum(self._times(row) for row in counts)

    def _times(self, row: Row) -> int:
        """How many candidates the row gets."""
        if self.n_column is None:
            return self.n
        n = row[self.n_column]
        if not isinstance(n, int) or n < 0:
            raise DataError(
                f"row {row['id']} of '{self.rows}': {self.n_column} is {n!r}, not a whole number "
                "from 0 on; name the column that says how many candidates (n_column)"
            )
        return n

    def _answer(self, completion: Completion) -> Row:
        return {
            **(tokens_of(completion) if self.keep_tokens else {}),
            self.completion_column: completion.text.strip() if completion.error is None else None,
            "reasoning": completion.reasoning,
            "finish_reason": completion.finish_reason,
            "error": completion.error,
        }

    @property
    def _chat(self) -> TemplateChat:
        answer = self.examples.answer_template if self.examples is not None else None
        return TemplateChat(self.system_template, self.system_column, answer)

    def _continued(
        self, context: Context, names: Mapping[str, str], total: int, budget: ErrorBudget
    ) -> Iterator[Row]:
        """Conversations with their new turns; of `regenerate: all` a turn of each row at a time."""
        if context.model(self.model).prompt_format == "text":
            raise ConfigError(
                f"messages_column: model '{self.model}' has prompt_format: text, which takes no "
                "conversation; leave prompt_format out for one with a chat template"
            )
        talks = self._talks(context, names)

        def ask_all(waiting: Sequence[Talk]) -> Iterator[tuple[Talk, Completion]]:
            return self._asked(context, waiting, len(waiting), budget)

        if self.regenerate == "last":
            for talk, completion in self._asked(context, talks, total, budget):
                yield self._with_turn(talk, completion)
            return
        yield from all_turns(talks, self.max_turns, self._with_turn, ask_all, context)

    def _talks(self, context: Context, names: Mapping[str, str]) -> Iterator[Talk]:
        assert self.messages_column is not None
        for row in context.each_row(self.rows):
            for index in range(self._times(row)):
                about = renamed(candidate(row, "", index), names)
                messages, tools = row[self.messages_column], row.get("tools")
                yield talk_of(about, messages, tools, self.regenerate)

    def _asked(
        self, context: Context, talks: Iterable[Talk], total: int, budget: ErrorBudget
    ) -> Iterator[tuple[Talk, Completion]]:
        def jobs() -> Iterator[Job[Talk]]:
            for talk in talks:
                parts = (talk.row["parent_id"], talk.row["candidate_index"], talk.n_written)
                seed = derive_seed(context.seed, self.model, *parts)
                job = talk.job(self.sampling, seed, self.structured_output)
                yield with_tokens(job) if self.keep_tokens else job

        for job, completion in self.ask(context, self.model, jobs(), total, budget):
            yield job.about, completion

    def _with_turn(self, talk: Talk, completion: Completion) -> Row:
        answer = self._answer(completion)
        return {**talk.row, "prompt": None, **answer, **talk.take(completion)}

    def _jobs(self, context: Context) -> Iterator[Job[Row]]:
        templates = {name: load_template(t) for name, t in self._templates().items()}
        shown = context.rows(self.examples.rows) if self.examples is not None else ()
        form = context.model(self.model).prompt_format
        requests = TemplateRequests(
            self.model, form, context.seed, self.sampling, self.structured_output, self._chat,
            self.examples, example_pools(shown),
        )  # fmt: skip
        for row in context.each_row(self.rows):
            for strategy, template in templates.items():
                for index in range(self._times(row)):
                    job = requests.job(row, self.values(row), strategy, template, index)
                    yield with_tokens(job) if self.keep_tokens else job


def _whole(rows: Iterator[Row], context: Context) -> Iterator[Row]:
    """Those that max_tokens did not cut."""
    for row in rows:
        if row["finish_reason"] == "length":
            context.drop("cut by max_tokens")
        else:
            yield row
