"""Let models speak with each other about each row, such as a tutor and a pupil.

in:  {"id": "q1", "question": "What is 17 + 5?", "reference_answer": "22", "wrong_solution": "12"}
out: {…, "messages": [{"role": "assistant", "content": "How did you get it?", "name": "tutor"},
      {"role": "user", "content": "12", "name": "student"},
      {"role": "assistant", "content": "What do you carry?", "name": "tutor"},
      {"role": "user", "content": "Oh, 22.", "name": "student"}],
      "speakers": ["tutor", "student", "tutor", "student"],
      "acts": [null, null, "focus", null], "finish_reasons": [null, null, "stop", "stop"],
      "n_turns": 2, "stop_reason": "answered", "error": null}

with before and after also: {"before": "12", "after": "22"}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from statistics import fmean
from typing import Literal, Self

from pydantic import Field, model_validator

from llm_distill.engines.asking_stage import AskingStage
from llm_distill.engines.base import Completion, SamplingSettings
from llm_distill.engines.requests import Job
from llm_distill.engines.speakers import (
    OFFERED,
    Asked,
    Name,
    Opening,
    Question,
    Speaker,
    Stop,
    Talk,
)
from llm_distill.errors import ConfigError, nearest
from llm_distill.evaluation.results import FigureTable, shown
from llm_distill.evaluation.shares import share_table
from llm_distill.methods.error_budget import ErrorBudget
from llm_distill.methods.seeds import derive_seed
from llm_distill.methods.talks import Turn, speaking
from llm_distill.rows.columns import Row, features
from llm_distill.rows.messages import message_type
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Values, models_of

ADDED = ("messages", "speakers", "acts", "finish_reasons", "n_turns", "stop_reason", "error")


class SimulateDialogue(AskingStage):
    """Models speak in turn about each row; every dialogue becomes one row.

    Each speaker sees the columns that its own templates read, so that a misconception that only the
    pupil's template reads is hidden from the tutor. After `opening`, whose turns are given, the one
    after the last speaker begins, or without an opening the first of `speakers`. All dialogues wait
    for the same speaker, who is asked about all of them together: they are in memory.

    A dialogue ends where a rule of `stop` holds (`stop_reason`: answered, ended), where a speaker
    repeats itself (repeated) or says nothing (empty), where a request fails (error), or after
    `max_turns` (turns). The metrics say how many ended how. In `messages` the first of `speakers`
    is the assistant, and `name` says who speaks.

    A turn's seed is of the pipeline's, the row's id and the turn's number, and not of the models:
    two stages with other tutors and the same pupil are compared on equal terms. Turns are kept as
    they are written, so that a run that was interrupted goes on in the middle of its dialogues.
    """

    rows_may_be_empty = True

    stage: Literal["simulate_dialogue"]
    rows: Rows = Field(description="the stage whose rows are spoken about")
    speakers: dict[Name, Speaker] = Field(
        min_length=2, description="by name those who speak, in their order"
    )
    opening: list[Opening] = Field([], description="turns that are given before anyone is asked")
    max_turns: int = Field(
        10, ge=1, le=1000, description="the most turns that are written, of all speakers together"
    )
    stop: list[Stop] = Field([], description="what ends a dialogue before that")
    before: Question | None = Field(
        None, description="asked before the dialogue; the reply goes into the column `before`"
    )
    after: Question | None = Field(
        None, description="asked after it; the reply goes into the column `after`"
    )

    @model_validator(mode="after")
    def _speakers_are_there(self) -> Self:
        named = [(f"opening[{i}].speaker", each.speaker) for i, each in enumerate(self.opening)]
        named += [(f"stop[{i}].speaker", each.speaker) for i, each in enumerate(self.stop)]
        named += [(f"{name}.speaker", each.speaker) for name, each in self._questions()]
        for place, name in named:
            if name not in self.speakers:
                raise ValueError(f"{place}: no speaker '{name}'; {nearest(name, self.speakers)}")
        first, speaker = next(iter(self.speakers.items()))
        for place, name in [(f"{name}.speaker", each.speaker) for name, each in self._questions()]:
            if self.speakers[name].model is None:
                raise ValueError(f"{place}: '{name}' has no model that could be asked")
        if all(each.model is None for each in self.speakers.values()):
            raise ValueError("speakers: none of them has a model")
        if not self.opening and speaker.template is None and speaker.says is None:
            raise ValueError(
                f"speakers.{first}: it begins, and there is nothing that it could answer; give it "
                "a template, or give an opening"
            )
        return self

    def required_columns(self) -> dict[str, set[str]]:
        read = [*(each.column for each in self.opening), *(each.answers for each in self.stop)]
        return {self.rows: {"id", *filter(None, read)}}

    def read_as_text(self) -> dict[str, set[str]]:
        return {self.rows: {each.column for each in self.opening if each.column is not None}}

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        columns = inputs[self.rows]
        return None if columns is None else columns.union(self._added())

    def output_values(self, inputs: Mapping[str, Values]) -> Values:
        return {"speakers": frozenset(self.speakers)}

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        offered = self.offered(inputs[self.rows], *OFFERED)
        return dict.fromkeys(self._templates(), offered)

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        return rows[self.rows]

    def most_asked(self, rows: Mapping[str, int | None]) -> Mapping[str, tuple[int, int]] | None:
        n = rows[self.rows]
        if n is None:
            return None
        asked: list[tuple[Speaker, SamplingSettings | None]]
        asked = [(self.speakers[name], None) for name in self._order()]
        asked += [(self.speakers[each.speaker], each.sampling) for _, each in self._questions()]
        found: dict[str, tuple[int, int]] = {}
        for speaker, sampling in asked:
            if speaker.model is None:
                continue
            count, tokens = found.get(speaker.model, (0, 0))
            most = (sampling or speaker.sampling).max_tokens
            found[speaker.model] = count + n, max(tokens, most)
        return found

    def is_seeded(self) -> bool:
        models = [each for each in self.speakers.values() if each.model is not None]
        own = [speaker.sampling for speaker in models]
        own += [each.sampling for _, each in self._questions() if each.sampling is not None]
        return any(sampling.temperature > 0 for sampling in own)

    def run(self, context: Context) -> RowsOutput:
        for name, speaker in self.speakers.items():
            if speaker.model is None:
                continue
            is_text = context.model(speaker.model).prompt_format == "text"
            if is_text and (speaker.chat or speaker.system_template):
                raise ConfigError(
                    f"speakers.{name}: model '{speaker.model}' has prompt_format: text, which has "
                    "no turns; leave chat and system_template out, and show `turns` in its template"
                )
        found = features(self._added(), like=context.rows(self.rows).features)
        found["messages"] = message_type(["name"])
        return RowsOutput(self._rows(context), found)

    def _rows(self, context: Context) -> Iterator[Row]:
        context.ask_in_turn(models_of(self))
        talks = [self._begun(row) for row in context.each_row(self.rows)]
        # A dialogue fails once at most, so the share that may fail is of dialogues.
        budget = self.budget(len(talks))
        for talk in talks:
            if talk.error is not None:
                budget.count(str(talk.row["id"]), talk.error)
        n_asked = 0
        if self.before is not None:
            n_asked += self._ask_alone(context, "before", self.before, talks, budget)
        for number, name in enumerate(self._order()):
            waiting = [talk for talk in talks if talk.stop_reason is None]
            speaker = self.speakers[name]
            n_asked += len(waiting) if speaker.model is not None else 0
            asked = Asked(name, speaker, number, speaker.template, speaker.sampling, speaker.chat)
            rules = [rule for rule in self.stop if rule.speaker == name]
            for talk, completion in self._asked(context, asked, waiting, budget):
                talk.take(name, speaker, completion, rules)
        for talk in talks:
            talk.stop_reason = talk.stop_reason or "turns"
        if self.after is not None:
            n_asked += self._ask_alone(context, "after", self.after, talks, budget)
        context.metrics.update({**budget.figures(), "requests": n_asked})
        if talks:
            context.metrics["mean_turns"] = fmean(talk.n_written for talk in talks)
            context.metrics.update(shown(_how_they_end(talks)))
        yield from map(self._row, talks)

    def _order(self) -> list[str]:
        """Who writes each of the turns."""
        last = self.opening[-1].speaker if self.opening else None
        return list(islice(speaking(list(self.speakers), last), self.max_turns))

    def _questions(self) -> list[tuple[Literal["before", "after"], Question]]:
        given: list[tuple[Literal["before", "after"], Question | None]]
        given = [("before", self.before), ("after", self.after)]
        return [(name, question) for name, question in given if question is not None]

    def _templates(self) -> list[str]:
        own = [
            name
            for each in self.speakers.values()
            for name in (each.system_template, each.template, each.says)
        ]
        return [*filter(None, own), *(each.template for _, each in self._questions())]

    def _added(self) -> tuple[str, ...]:
        return (*ADDED, *(name for name, _ in self._questions()))

    def _begun(self, row: Row) -> Talk:
        talk = Talk(row)
        columns = [*(each.column for each in self.opening), *(each.answers for each in self.stop)]
        for column in dict.fromkeys(filter(None, columns)):
            if not str(row[column] if row[column] is not None else "").strip():
                talk.fails(f"{column} is null or empty")
                return talk
        for each in self.opening:
            text = each.text if each.column is None else str(row[each.column])
            talk.turns.append(Turn(each.speaker, str(text).strip()))
        return talk

    def _ask_alone(
        self,
        context: Context,
        name: str,
        question: Question,
        talks: list[Talk],
        budget: ErrorBudget,
    ) -> int:
        """Put a question to one speaker; returns to how many it was put."""
        speaker = self.speakers[question.speaker]
        sampling = question.sampling or speaker.sampling
        asked = Asked(question.speaker, speaker, name, question.template, sampling)
        whole = [talk for talk in talks if talk.error is None]
        for talk, completion in self._asked(context, asked, whole, budget):
            if completion.error is None:
                talk.answers[name] = completion.text.strip()
            elif name == "before":
                talk.fails(f"before: {completion.error}")
            else:  # the dialogue itself is whole
                talk.error = f"after: {completion.error}"
        return len(whole)

    def _asked(
        self, context: Context, asked: Asked, talks: list[Talk], budget: ErrorBudget
    ) -> Iterator[tuple[Talk, Completion]]:
        model = asked.speaker.model
        if model is None:
            for talk in talks:
                said = asked.said(talk, talk.turns, self.values(talk.row))
                if said.error is not None:
                    budget.count(str(talk.row["id"]), said.error)
                yield talk, said
            return
        form = context.model(model).prompt_format

        def jobs() -> Iterator[Job[Talk]]:
            for talk in talks:
                heard = [] if asked.number == "before" else talk.turns
                seed = derive_seed(context.seed, talk.row["id"], asked.number)
                yield asked.job(talk, heard, self.values(talk.row), seed, form, len(self.speakers))

        for job, completion in self.ask(context, model, jobs(), len(talks), budget):
            yield job.about, completion

    def _row(self, talk: Talk) -> Row:
        first = next(iter(self.speakers))
        return {
            **talk.row,
            "messages": [
                {
                    "role": "assistant" if turn.speaker == first else "user",
                    "content": turn.text,
                    "name": turn.speaker,
                }
                for turn in talk.turns
            ],
            "speakers": [turn.speaker for turn in talk.turns],
            "acts": [turn.act for turn in talk.turns],
            "finish_reasons": [turn.finish_reason for turn in talk.turns],
            "n_turns": talk.n_written,
            "stop_reason": talk.stop_reason,
            "error": talk.error,
            **{name: talk.answers.get(name) for name, _ in self._questions()},
        }


def _how_they_end(talks: list[Talk]) -> FigureTable:
    counts = Counter(str(talk.stop_reason) for talk in talks)
    names = [name for name, _ in counts.most_common()]
    return share_table("how the dialogues end", "stop_reason", counts, names, len(talks))
