"""Have models take an exam, with or without worked examples in the prompt.

in:  {"id": "t1", "question": "What is 2 + 2?", "reference_answer": "4"}
out: {"id": "t1-student-3-0", "parent_id": "t1", "model": "student", "shots": 3,
      "candidate_index": 0, "question": "What is 2 + 2?", "reference_answer": "4", "prompt": "…",
      "completion": "… <ans>4</ans>", "answer": "4", "is_correct": true,
      "n_completion_tokens": 9, "finish_reason": "stop", "error": null}
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llm_distill.engines.asking_stage import AskingStage
from llm_distill.engines.base import Completion, SamplingSettings
from llm_distill.engines.requests import Job, make_chat_job, make_job
from llm_distill.errors import ConfigError, DataError, nearest
from llm_distill.evaluation.contamination import ContaminationSettings, look_for_items
from llm_distill.evaluation.exam_figures import ExamFigures
from llm_distill.evaluation.result_rows import Contamination, ExamRow
from llm_distill.evaluation.results import Results
from llm_distill.judging.exam import COLUMNS, ExamJudge, exam_judge
from llm_distill.judging.settings import PAIR, JudgeSettings
from llm_distill.methods.answers import (
    AnswerKind,
    AnswerPlace,
    check_answer_in,
    extract_answer,
    found_answer,
)
from llm_distill.methods.answers import judge as is_right
from llm_distill.methods.dialogue import begun
from llm_distill.methods.examples import draw_examples, worked_examples
from llm_distill.methods.final_answer import why_mostly_unreadable
from llm_distill.methods.seeds import derive_seed
from llm_distill.methods.text_measures import TextMeasure, measured_text, missing_packages
from llm_distill.prompts import load_template
from llm_distill.rows.columns import Row, check_references, features, task_of
from llm_distill.rows.messages import json_text, read_messages, read_tools
from llm_distill.stage import Columns, Context, Model, Rows, RowsOutput, Values, later_setting


class Evaluate(AskingStage):
    """Accuracy of models on the same items, with 95 % intervals, and every prediction as a row.

    The first `<ans>…</ans>` of a completion is the answer; a completion without one is wrong, and
    also counted. Worked examples are drawn for each item from its task, never the item itself; all
    models see the same ones, and fewer shots see the first of what more shots see. Every model
    after the first is compared with the first, item by item (bootstrap interval, McNemar's test).

    With `samples: k` every item is answered k times: the accuracy is avg@k, and pass@k and the
    majority's accuracy are shown as well. Free answers are measured by the words that they share
    with the reference (`measures`), or graded or compared by a model (`judge`). What the models
    were trained on in this pipeline, and the worked examples, are searched for the items.
    """

    version: ClassVar[int] = 4

    added_columns = (
        "id", "parent_id", "model", "shots", "candidate_index", "prompt", "completion", "answer",
        "is_correct", "n_completion_tokens", "finish_reason", "error",
    )  # fmt: skip
    stage: Literal["evaluate"]
    rows: Rows = Field(description="the items: question and reference_answer")
    models: list[Model] = Field(min_length=1, description="the models that take the exam")
    shots: list[Annotated[int, Field(ge=0)]] = Field(
        [0], min_length=1, description="numbers of worked examples in the prompt"
    )
    examples: Rows | None = Field(
        None, description="worked examples (question, rationale); needed for shots above 0"
    )
    template: str | None = Field(None, description="the exam: reads `examples` and `question`")
    messages_column: str | None = later_setting(
        None,
        "instead of a template: a conversation that the models continue, with the item's `tools`; "
        "its last turn, if it is the assistant's, is left out",
    )
    sampling: SamplingSettings = Field(
        SamplingSettings(temperature=0, max_tokens=256, stop=("\nQuestion:", "Question:")),
        description="how answers are drawn; the stops keep a model from asking itself more",
    )
    samples: int = Field(1, ge=1, description="answers drawn for each item, at a temperature")
    answer_kind: AnswerKind = Field(
        "exact", description="how an answer is compared with the reference_answer"
    )
    answer_in: AnswerPlace = later_setting(
        "tag",
        "where an answer is read: tag: `<ans>`, and `\\boxed` of choices and mathematics; any: in "
        "whatever form it stands, see docs/answers.md",
    )
    measures: list[TextMeasure] = later_setting(
        [],
        "for free answers: how near each comes to its reference, 0 to 1; see docs/judging.md",
    )
    judge: JudgeSettings | None = later_setting(
        None, "for free answers: a model that judges them; see docs/judging.md"
    )
    by: list[str] = Field(
        [], description="columns to break the accuracy down by, such as task or skills"
    )
    contamination: ContaminationSettings = Field(
        ContaminationSettings(), description="items in the training data or worked examples"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_answer_in(self.answer_in, self.answer_kind)
        if (self.template is None) == (self.messages_column is None):
            raise ValueError("give one of template and messages_column")
        if self.messages_column is not None and max(self.shots) > 0:
            raise ValueError("shots go with a template; a conversation shows what it shows")
        if max(self.shots) > 0 and self.examples is None:
            raise ValueError("shots above 0 need `examples`: a stage with question and rationale")
        if self.samples > 1 and self.sampling.temperature == 0:
            raise ValueError(
                f"samples: {self.samples} at temperature 0 would be the same answer every time; "
                "set sampling: {temperature: …}"
            )
        if self.measures and self.answer_kind == "tool_call":
            raise ValueError("measures are of texts, and answer_kind: tool_call has none; remove")
        if self.judge is not None:
            self._check_judge(self.judge)
        lists = (("models", self.models), ("shots", self.shots), ("measures", self.measures))
        for name, values in lists:
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: each can be named once")
        return self

    def _check_judge(self, judge: JudgeSettings) -> None:
        if judge.is_pairwise and len(self.models) < 2:
            raise ValueError("judge: mode: pairwise compares models; name two or more")
        if judge.baseline is not None and judge.baseline not in self.models:
            raise ValueError(
                f"judge.baseline: '{judge.baseline}' does not take the exam; "
                f"{nearest(judge.baseline, self.models)}"
            )

    def missing(self) -> Iterator[tuple[str, str]]:
        for name, package in missing_packages(self.measures):
            yield (
                "measures",
                f"{name} needs {package}, which is not installed: pip install 'llm-distill[text]'",
            )

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        columns = inputs[self.rows]
        return None if columns is None else columns.union(self._added())

    def output_values(self, inputs: Mapping[str, Values]) -> Values:
        return {"model": frozenset(self.models)}

    def required_columns(self) -> dict[str, set[str]]:
        asked = self.messages_column or "question"
        needed = {self.rows: {"id", asked, *self.by}}
        if self.judge is None or self.measures:
            needed[self.rows].add("reference_answer")
        if self.judge is not None and self.judge.labelled is not None:
            labelled = self.judge.labelled
            answers = PAIR if self.judge.is_pairwise else ("answer",)
            needed.setdefault(labelled.rows, set()).update({"id", labelled.column, *answers})
        if self.examples is not None:
            needed.setdefault(self.examples, set()).update({"id", "question", "rationale"})
        return needed

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        offered: dict[str, Columns] = {}
        if self.judge is not None:
            own = self.judge.own_variables
            offered[self.judge.rubric] = self.offered(inputs[self.rows], *own)
        if self.template is not None:
            offered[self.template] = self.offered(inputs[self.rows], "examples")
        return offered

    def most_asked(self, rows: Mapping[str, int | None]) -> Mapping[str, tuple[int, int]] | None:
        n = rows[self.rows]
        if n is None:
            return None
        each = n * len(self.shots) * self.samples, self.sampling.max_tokens
        asked = dict.fromkeys(self.models, each)
        if self.judge is None:
            return asked
        labelled = self.judge.labelled
        sample = rows[labelled.rows] if labelled is not None else 0
        if sample is None:
            return None
        before = asked.get(self.judge.model, (0, 0))  # where it is one of the models
        judged = before[0] + self._judge_requests(n, sample)
        longest = max(before[1], self.judge.sampling.max_tokens)
        return {**asked, self.judge.model: (judged, longest)}

    def is_seeded(self) -> bool:
        judge_draws = self.judge is not None and self.judge.sampling.temperature > 0
        return self.sampling.temperature > 0 or max(self.shots) > 0 or judge_draws

    def run(self, context: Context) -> RowsOutput:
        rows = context.rows(self.rows)
        if self._has_references(context):
            check_references(rows, self.rows)
        if len(rows) < 2:
            raise DataError(f"'{self.rows}' has 1 item; an interval needs at least 2")
        like = rows.features
        return RowsOutput(self._rows(context), features(self._added(), like=like))

    def _added(self) -> list[str]:
        """With the form of each answer where more than one is read, measures and a verdict."""
        form = ["answer_form"] if self.answer_in == "any" else []
        judged = COLUMNS[self.judge.mode] if self.judge is not None else ()
        return [*self.added_columns, *form, *self.measures, *judged]

    def _rows(self, context: Context) -> Iterator[Row]:
        shown = self.examples if max(self.shots) else None
        pools = worked_examples(context.rows(shown), context.warn) if shown else {}
        for row in context.each_row(self.rows) if pools else ():  # before anything is paid for
            draw_examples(row, pools, max(self.shots), 0)
        looked_for = Results(contamination=self._contamination(context, pools))
        context.metrics.update(looked_for.to_metrics())
        a_model = len(context.rows(self.rows)) * len(self.shots) * self.samples
        budget = self.budget(a_model * len(self.models))
        figures = ExamFigures(
            self.by, self.answer_kind, self.measures, self._has_references(context)
        )
        judge = self._exam_judge(context)
        seconds, answered = {}, []
        for model in self.models:  # one at a time in memory
            began = time.monotonic()
            for job, completion in self.ask(
                context, model, self._jobs(context, model, pools), a_model, budget
            ):
                row = self._judged(job.about, completion)
                figures.add(row)
                if judge is None:
                    yield row
                else:
                    answered.append(row)
            seconds[model] = round(time.monotonic() - began, 3)
        measured = figures.measured(is_judged=judge is not None)
        if judge is not None:
            yield from judge.judged(answered)
            measured = replace(measured, own=(*measured.own, *judge.tables(context.warn)))
        context.metrics.update(measured.to_metrics(), seconds=seconds)
        for note in measured.notes:
            context.warn(note)
        if not measured.notes:
            self._warn_of_unreadable(context, measured.exam)

    def _has_references(self, context: Context) -> bool:
        """Not with a judge where no item has one: it looks at the answers alone."""
        rows = context.rows(self.rows)
        if self.judge is None or self.measures:
            return True
        column = rows["reference_answer"] if "reference_answer" in rows.column_names else ()
        return any(str(reference or "").strip() for reference in column)

    def _exam_judge(self, context: Context) -> ExamJudge | None:
        if self.judge is None:
            return None
        name, labelled = self.judge.model, self.judge.labelled
        sample = len(context.rows(labelled.rows)) if labelled is not None else 0
        budget = self.budget(self._judge_requests(len(context.rows(self.rows)), sample))
        items = {row["id"]: self._item(row) for row in context.each_row(self.rows)}
        return exam_judge(
            self.judge,
            context,
            lambda jobs, total: self.ask(context, name, jobs, total, budget),
            items,
            self.variables,
            self.rows,
            self.models,
        )

    def _item(self, row: Row) -> dict[str, Any]:
        """What the judge is shown of an item."""
        reference = str(row.get("reference_answer") or "").strip()
        references = [reference] if reference else []
        return {**row, "question": self._question(row), "references": references}

    def _judge_requests(self, items: int, labelled: int) -> int:
        """How many at most, of an exam and the labelled rows."""
        assert self.judge is not None
        answers = items * len(self.shots) * self.samples
        if self.judge.is_pairwise:
            return 2 * (answers * (len(self.models) - 1) + labelled)
        return answers * len(self.models) + labelled

    def _warn_of_unreadable(self, context: Context, exam: Sequence[ExamRow]) -> None:
        for row in exam:
            form = why_mostly_unreadable(
                row.parse_failures or 0, (row.n or 0) * self.samples, self.answer_in == "any"
            )
            if form is not None:
                context.warn(f"model '{row.model}' ({row.shots}-shot): {form}")

    def _contamination(self, context: Context, pools: Mapping[str, Sequence[Row]]) -> Contamination:
        seen: dict[str, Iterable[Row]] = {**context.training_rows(self.models)}
        if self.examples is not None and pools:
            shown = (row for pool in pools.values() for row in pool)
            seen.setdefault(self.examples, shown)
        items, tasks = {}, {}
        for row in context.each_row(self.rows):
            items[row["id"]] = self._question(row)
            tasks[row["id"]] = task_of(row) or self.rows
        return look_for_items(items, tasks, self.rows, seen, self.contamination, context.warn)

    def _question(self, row: Row) -> str:
        """The item in words; of a conversation, all that is not the assistant's."""
        if self.messages_column is None:
            return row["question"] or ""
        try:
            turns = read_messages(row[self.messages_column], "the item")
        except DataError:
            return ""  # it is asked, and fails then with its reason
        return "\n".join(turn["content"] for turn in turns if turn["role"] != "assistant")

    def _judged(self, row: Row, completion: Completion) -> Row:
        text = completion.text.strip() if completion.error is None else None
        ended = completion.finish_reason == "stop"
        answer, form = None, None
        if completion.tool_calls and self.answer_kind == "tool_call":
            answer = json_text(list(completion.tool_calls))
        elif text is not None:
            answer, form = found_answer(text, self.answer_kind, ended, self.answer_in)
        failed = completion.error is not None  # which is no decision to call nothing
        reference = row.get("reference_answer")
        is_unread = failed or reference is None
        verdict = None if is_unread else is_right(answer, reference or "", self.answer_kind)
        judged = {
            **row,
            "completion": text,
            "answer": None if verdict is None and reference is not None else answer,
            "is_correct": None if reference is None else verdict is True,
            "n_completion_tokens": completion.n_completion_tokens,
            "finish_reason": completion.finish_reason,
            "error": completion.error,
        }
        if self.answer_in == "any":
            judged["answer_form"] = None if verdict is None else form
        if self.measures:
            shown = extract_answer(text or "", "text", ended) or ""
            values = measured_text(self.measures, shown, reference or "")
            judged |= zip(self.measures, values, strict=True)
        return judged

    def _jobs(
        self, context: Context, model: str, pools: Mapping[str, Sequence[Row]]
    ) -> Iterator[Job[Row]]:
        template = load_template(self.template) if self.template is not None else None
        prompt_format = context.model(model).prompt_format
        for shots in self.shots:
            for row in context.each_row(self.rows):
                values = self.values(row)
                drawn_by = derive_seed(context.seed, row["id"], "examples")
                values["examples"] = draw_examples(row, pools, shots, drawn_by) if shots else []
                for index in range(self.samples):
                    name = f"{row['id']}-{model}-{shots}-{index}"
                    about = {
                        **row,
                        "id": name,
                        "parent_id": row["id"],
                        "model": model,
                        "shots": shots,
                        "candidate_index": index,
                    }
                    seed = derive_seed(context.seed, row["id"], shots, index)
                    if template is None:
                        yield self._chat_job(about, prompt_format, seed)
                        continue
                    job, text = make_job(
                        name, about, template, values, prompt_format, self.sampling, seed
                    )
                    about["prompt"] = text
                    yield job

    def _chat_job(self, about: Row, prompt_format: str, seed: int) -> Job[Row]:
        """The item's conversation, up to the turn that is the model's."""
        assert self.messages_column is not None
        if prompt_format == "text":
            raise ConfigError(
                f"messages_column: model '{about['model']}' has prompt_format: text, which takes "
                "no conversation"
            )
        about["prompt"] = None
        try:
            messages = read_messages(about[self.messages_column], "the item")
            tools = read_tools(about.get("tools"), "the item")
        except DataError as error:
            return Job(about["id"], about, None, str(error))
        said = begun(messages, "last").said
        return make_chat_job(about["id"], about, said, self.sampling, seed, None, tools)
