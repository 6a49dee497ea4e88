"""Let a model name the skills that a task's questions need.

in:  {"id": "train-0001", "task": "word_problems", "question": "Paul has 6 eggs and …"}
out: {"id": "word_problems/subtraction", "task": "word_problems", "skill": "subtraction",
      "count": 5}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice, zip_longest
from typing import Literal

from pydantic import Field

from llm_distill.engines.asking_stage import AskingStage
from llm_distill.engines.base import SamplingSettings
from llm_distill.engines.requests import Job, make_job
from llm_distill.errors import DataError
from llm_distill.methods.examples import usable
from llm_distill.methods.seeds import derive_seed
from llm_distill.methods.similar_skills import merge_similar
from llm_distill.methods.skill_list import write_skill_list
from llm_distill.methods.skills import read_labels, skill_id, what_is_wrong
from llm_distill.prompts import load_template
from llm_distill.rows.columns import features, task_of
from llm_distill.stage import Columns, Context, Model, Rows, RowsOutput

COLUMNS = ("id", "task", "skill", "count")
FILE = "skills.yaml"


class DiscoverSkills(AskingStage):
    """Shows a model several questions of a task at a time, and keeps the skills that it names.

    Names that are nearly the same are merged into the more frequent one; `count` is the number of
    answers that name a skill. The list is also written beside the rows as `skills.yaml`: a copy of
    it can be edited and given to `load_skills`.
    """

    always_seeded = True
    stage: Literal["discover_skills"]
    rows: Rows = Field(description="the stage whose rows are the questions")
    model: Model = Field(description="the teacher")
    template: str = Field(description="reads `questions`, a list of texts; asks for <skill>s")
    n_questions: int = Field(
        800, ge=1, description="how many are shown in total: random ones, equally many per task"
    )
    questions_per_request: int = Field(8, ge=1, description="how many are shown at a time")
    min_count: int = Field(1, ge=1, description="skills named in fewer answers are left out")
    max_skills: int | None = Field(
        None, ge=1, description="for each task, only the most frequent are kept"
    )
    sampling: SamplingSettings = Field(
        SamplingSettings(temperature=0), description="how the model answers"
    )

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id", "question"}}

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset(COLUMNS)

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        return {self.template: self.offered(frozenset({"task"}), "questions")}

    def run(self, context: Context) -> RowsOutput:
        lists = self._lists(self._named(context, self._drawn(context)), context)
        rows = [
            {"id": skill_id(task, skill), "task": task, "skill": skill, "count": count}
            for task, skills in lists.items()
            for skill, count in skills.items()
        ]
        text = write_skill_list({task: list(skills) for task, skills in lists.items()})
        return RowsOutput(rows, features(COLUMNS), {FILE: text})

    def _drawn(self, context: Context) -> dict[str, list[str]]:
        """By task, the questions to show: tasks take turns, so that each has an equal share."""
        drawn: dict[str, list[tuple[int, str]]] = {}
        n_empty = 0
        for row in context.each_row(self.rows):
            if usable(row, ("question",)):
                order = derive_seed(context.seed, "discover_skills", row["id"])
                drawn.setdefault(task_of(row), []).append((order, row["question"]))
            else:
                n_empty += 1
        if not drawn:
            raise DataError(f"no row of '{self.rows}' has a question without an error")
        if len(drawn) > self.n_questions:
            raise DataError(
                f"n_questions: {self.n_questions} is less than one for each of {len(drawn)} tasks"
            )
        in_turn = (
            (task, question[1])
            for turn in zip_longest(*(sorted(questions) for questions in drawn.values()))
            for task, question in zip(drawn, turn, strict=True)
            if question is not None
        )
        chosen: dict[str, list[str]] = {task: [] for task in drawn}
        for task, text in islice(in_turn, self.n_questions):
            chosen[task].append(text)
        shown = sum(map(len, chosen.values()))
        context.metrics.update(questions_shown=shown, questions_unusable=n_empty)
        return chosen

    def _named(
        self, context: Context, questions: Mapping[str, list[str]]
    ) -> dict[str, list[frozenset[str]]]:
        """By task, the skills that each answer names."""
        n_jobs = sum(-(-len(texts) // self.questions_per_request) for texts in questions.values())
        budget = self.budget(n_jobs)
        found: dict[str, list[frozenset[str]]] = {task: [] for task in questions}
        unreadable = n_refused = 0
        for job, completion in self.ask(
            context, self.model, self._jobs(context, questions), n_jobs, budget
        ):
            if completion.error is not None:
                continue
            labels = read_labels(completion.text)
            unreadable += labels is None
            names = [label for label in labels or () if what_is_wrong(label) is None]
            n_refused += len(labels or ()) - len(names)
            found[job.about].append(frozenset(names))
        context.metrics.update(**budget.figures(), unreadable=unreadable, names_too_long=n_refused)
        return found

    def _jobs(self, context: Context, questions: Mapping[str, list[str]]) -> Iterator[Job[str]]:
        template = load_template(self.template)
        prompt_format = context.model(self.model).prompt_format
        size = self.questions_per_request
        for task, texts in questions.items():
            for start in range(0, len(texts), size):
                values = self.values({"task": task})
                values["questions"] = texts[start : start + size]
                name = f"{task}/{start // size}"
                seed = derive_seed(context.seed, self.model, "discover_skills", name)
                yield make_job(name, task, template, values, prompt_format, self.sampling, seed)[0]

    def _lists(
        self, found: Mapping[str, Sequence[frozenset[str]]], context: Context
    ) -> dict[str, dict[str, int]]:
        """Each task's skills with their counts, the most frequent first."""
        lists: dict[str, dict[str, int]] = {}
        merged: dict[str, str] = {}
        n_rare = n_over = 0
        for task, answers in found.items():
            representatives = merge_similar(Counter(chain.from_iterable(answers)))
            # A set: an answer that names a skill in two spellings names it once.
            total = Counter(
                skill for names in answers for skill in {representatives[name] for name in names}
            )
            kept = [item for item in total.items() if item[1] >= self.min_count]
            kept.sort(key=lambda item: (-item[1], item[0]))
            n_rare += len(total) - len(kept)
            n_over += len(kept[self.max_skills :]) if self.max_skills is not None else 0
            lists[task] = dict(kept[: self.max_skills])
            merged.update(
                {skill_id(task, a): b for a, b in sorted(representatives.items()) if a != b}
            )
            if not kept:
                of = f" for task '{task}'" if task else ""
                raise DataError(
                    f"'{self.model}' does not name any skill{of} in at least {self.min_count} of "
                    f"its answers ({len(total)} in fewer); {context.metrics['unreadable']} of "
                    f"{context.metrics['requests']} answers have no closed <skill>; check the "
                    "template, or lower min_count"
                )
        context.metrics.update(below_min_count=n_rare, over_max_skills=n_over, merged=merged)
        return lists
