"""A student answers in steps; which questions are difficult for it?

in:  {"id": "v1", "question": "What is 3 + 4 + 2?"}, and a reference_answer if known
out: {"id": "v1", "question": "What is 3 + 4 + 2?", "prompt": "…",
      "completion": "3 + 4 = 7.\\n\\n7 + 2 = 8. <ans>8</ans>",
      "steps": ["3 + 4 = 7.", "7 + 2 = 8. <ans>8</ans>"], "answer": "8",
      "step_scores": [0.97, 0.21], "is_correct": null, "is_difficult": true,
      "difficulty_reason": "last step", "finish_reason": "stop", "error": null}
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from llm_distill.engines.asking_stage import AskingStage
from llm_distill.engines.base import Completion, SamplingSettings
from llm_distill.engines.process_reward.config import ProcessRewardSettings
from llm_distill.engines.requests import Job, make_job
from llm_distill.methods.answers import (
    AnswerKind,
    AnswerPlace,
    answers_equal,
    check_answer_in,
    extract_answer,
)
from llm_distill.methods.difficulty import Verdicts, by_consistency, by_reference, by_rewards
from llm_distill.methods.examples import draw_examples, worked_examples
from llm_distill.methods.parsing import BLANK_LINE, split_steps
from llm_distill.methods.seeds import derive_seed
from llm_distill.prompts import load_template
from llm_distill.rows.columns import Row, check_references
from llm_distill.rows.thoughts import split_thoughts
from llm_distill.stage import Columns, Context, Model, Rows, RowsOutput, later_setting


class Gold(BaseModel):
    """Difficult if the answer is not the reference_answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Literal["gold"] = Field(description="difficult where its answer differs from the reference")


class Consistency(BaseModel):
    """Difficult if the most common of several answers is given too rarely."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Literal["consistency"] = Field(
        description="difficult where its answers differ from each other"
    )
    samples: int = Field(5, ge=2, description="answers drawn for each question")
    least_votes: int = Field(2, ge=2, description="how many equal answers are enough")

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if self.least_votes > self.samples:
            raise ValueError(f"least_votes: {self.least_votes} of {self.samples} samples")
        return self


class ProcessReward(ProcessRewardSettings):
    """Difficult if a process reward model doubts the answer or one of its steps."""

    by: Literal["process_reward"] = Field(
        description="difficult where a process reward model doubts it"
    )
    answer_threshold: float = Field(
        0.85, ge=0, le=1, description="the last step's reward, or the mean: difficult up to this"
    )
    step_threshold: float = Field(
        0.7, ge=0, le=1, description="any other step's reward: difficult up to this"
    )


Difficulty = Annotated[Gold | Consistency | ProcessReward, Field(discriminator="by")]


class Assess(AskingStage):
    """The student's answers with their steps, and which questions are difficult for it.

    The first `<ans>…</ans>` of a completion is the answer; a question without one is difficult,
    whatever the rule. With `by: consistency` the row has the first sample, and "no answer" means
    that none of them has one.

    If the request fails, or the reward model cannot take the answer, `is_difficult` is null and
    the reason is in `error`; `max_error_rate` limits both kinds. The figures are over the others.
    """

    added_columns = (
        "prompt", "completion", "steps", "answer", "step_scores", "is_correct", "is_difficult",
        "difficulty_reason", "finish_reason", "error",
    )  # fmt: skip
    version: ClassVar[int] = 2

    stage: Literal["assess"]
    rows: Rows = Field(description="the questions")
    model: Model = Field(description="the student")
    difficulty: Difficulty = Field(
        description="what makes a question difficult; by: gold, consistency or process_reward"
    )
    template: str = Field(description="the prompt: reads `question`, and `examples` if any")
    shots: int = Field(0, ge=0, description="worked examples in the prompt")
    examples: Rows | None = Field(
        None, description="worked examples (question, rationale); needed for shots above 0"
    )
    sampling: SamplingSettings = Field(
        SamplingSettings(temperature=0.1, max_tokens=256, stop=("\nQuestion:", "Question:")),
        description="how answers are drawn; the stops keep a model from asking itself more",
    )
    steps: str = Field(
        BLANK_LINE,
        description=r"regular expression that separates steps; (?<=\.)(?= \d+\. ) for numbered "
        "ones on one line",
    )
    answer_kind: AnswerKind = Field(
        "exact", description="how answers are compared, with references and with each other"
    )
    answer_in: AnswerPlace = later_setting(
        "tag",
        "where an answer is read: tag: `<ans>`, and `\\boxed` of choices and mathematics; any: in "
        "whatever form it stands, see docs/answers.md",
    )

    @field_validator("steps")
    @classmethod
    def _is_a_pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        if not value:
            raise ValueError("an empty pattern would make every letter a step")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_answer_in(self.answer_in, self.answer_kind)
        if self.shots > 0 and self.examples is None:
            raise ValueError("shots above 0 need `examples`: a stage with question and rationale")
        if self.difficulty.by == "consistency" and self.sampling.temperature == 0:
            raise ValueError(
                "difficulty.by: consistency at temperature 0 would see the same answer every time; "
                "set sampling: {temperature: …}"
            )
        return self

    def loads(self, place: str) -> bool:
        return place == "difficulty.model"

    def most_asked(self, rows: Mapping[str, int | None]) -> Mapping[str, tuple[int, int]] | None:
        n = rows[self.rows]
        times = self.difficulty.samples if isinstance(self.difficulty, Consistency) else 1
        return None if n is None else {self.model: (n * times, self.sampling.max_tokens)}

    def required_columns(self) -> dict[str, set[str]]:
        needed = {self.rows: {"id", "question"}}
        if self.difficulty.by == "gold":
            needed[self.rows].add("reference_answer")
        if self.examples is not None:
            needed.setdefault(self.examples, set()).update({"id", "question", "rationale"})
        return needed

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        return {self.template: self.offered(inputs[self.rows], "examples")}

    def is_seeded(self) -> bool:
        return self.sampling.temperature > 0 or self.shots > 0

    def run(self, context: Context) -> RowsOutput:
        rows = context.rows(self.rows)
        if self.difficulty.by == "gold":
            check_references(rows, self.rows)
        return RowsOutput(self._rows(context), self.output_features(context))

    def _rows(self, context: Context) -> Iterator[Row]:
        verdicts = Verdicts()
        errors = truncated = 0
        for row, reason in self._judged(context):
            truncated += row["finish_reason"] == "length"
            if row["error"] is None:
                row.update(is_difficult=reason is not None, difficulty_reason=reason)
                verdicts.add(reason, row["is_correct"])
            else:
                errors += 1
            yield row
        context.metrics.update(verdicts.figures(), errors=errors, truncated=truncated)

    def _judged(self, context: Context) -> Iterator[tuple[Row, str | None]]:
        """Each row, and the reason why its question is difficult, for rows without an error."""
        how = self.difficulty
        if isinstance(how, ProcessReward):
            rows = [self._answer(group) for group in self._groups(context, 1)]
            context.close_engines()  # one model in memory at a time
            self._add_rewards(context, rows, how)
            limits = how.answer_threshold, how.step_threshold
            for row in rows:
                yield row, by_rewards(row["answer"], row["step_scores"] or [], *limits)
            return
        for group in self._groups(context, how.samples if isinstance(how, Consistency) else 1):
            row = self._answer(group)
            if isinstance(how, Consistency):
                answers = [self._answer_of(completion) for _, completion in group]
                yield row, by_consistency(answers, self.answer_kind, how.least_votes)
            else:
                yield row, by_reference(row["answer"], row["is_correct"])

    def _add_rewards(self, context: Context, rows: list[Row], settings: ProcessReward) -> None:
        """Adds the steps' rewards to rows; one without an answer does not need any."""
        asked = [r for r in rows if r["error"] is None and r["answer"] is not None and r["steps"]]
        if not asked:
            return  # without loading the model
        from llm_distill.engines.process_reward.scoring import ProcessRewardModel

        source = context.model(settings.model)
        with context.progress(f"score steps ({settings.model})", len(asked)) as bar:
            model = ProcessRewardModel(source, settings.form, settings.batch_size, settings.device)
            try:
                pairs = [(row["question"], row["steps"]) for row in asked]
                found = model.score(pairs, bar.advance)
            finally:
                model.close()
        budget = self.budget(len(rows))
        for row, rewards in zip(asked, found, strict=True):
            budget.count(row["id"], rewards.error)
            row["error"] = rewards.error
            row["step_scores"] = list(rewards.steps) if rewards.error is None else None

    def _groups(
        self, context: Context, samples: int
    ) -> Iterator[list[tuple[Job[Row], Completion]]]:
        """The samples of each question, in the order of the questions."""
        total = len(context.rows(self.rows)) * samples
        budget = self.budget(total)
        answers = self.ask(context, self.model, self._jobs(context, samples), total, budget)
        while group := list(islice(answers, samples)):
            yield group

    def _answer(self, group: Sequence[tuple[Job[Row], Completion]]) -> Row:
        """The row of the first sample, without a verdict; with the error of any sample."""
        job, completion = group[0]
        row = job.about
        text = completion.text.strip() if completion.error is None else None
        answer = None if text is None else self._answer_of(completion)
        error = next((c.error for _, c in group if c.error is not None), None)
        reference = str(row.get("reference_answer") or "").strip()
        known = error is None and reference
        return {
            **row,
            "completion": text,
            "steps": split_steps(split_thoughts(text)[1], self.steps) if text is not None else None,
            "answer": answer,
            "step_scores": None,
            "is_correct": answers_equal(answer, reference, self.answer_kind) if known else None,
            "is_difficult": None,
            "difficulty_reason": None,
            "finish_reason": completion.finish_reason,
            "error": error,
        }

    def _answer_of(self, completion: Completion) -> str | None:
        ended = completion.finish_reason == "stop"
        return extract_answer(completion.text, self.answer_kind, ended, self.answer_in)

    def _jobs(self, context: Context, samples: int) -> Iterator[Job[Row]]:
        template = load_template(self.template)
        prompt_format = context.model(self.model).prompt_format
        shown = self.examples if self.shots else None
        pools = worked_examples(context.rows(shown), context.warn) if shown else {}
        for row in context.each_row(self.rows) if self.shots else ():  # before anything is paid for
            draw_examples(row, pools, self.shots, 0)
        for row in context.each_row(self.rows):
            values = self.values(row)
            drawn_by = derive_seed(context.seed, row["id"], "examples")
            values["examples"] = draw_examples(row, pools, self.shots, drawn_by)
            for index in range(samples):
                about = dict(row)
                seed = derive_seed(context.seed, self.model, row["id"], index)
                name = f"{row['id']}-{index}"
                job, about["prompt"] = make_job(
                    name, about, template, values, prompt_format, self.sampling, seed
                )
                yield job
