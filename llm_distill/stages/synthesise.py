"""Have a teacher write new questions for the skills that a student lacks: STAT-Syn.

in:  a profile {"id": "sums/addition", "task": "sums", "skill": "addition", "question_ids": ["v7"]}
     and references {"id": "t1", "task": "sums", "question": "2 + 2?",
     "rationale": "2 + 2 = 4. <ans>4</ans>", "skills": ["addition"]}
     with n_column, instead of a profile the plan of plan_data, and rows have its `subskill`
out: {"id": "v7/addition/0/0", "parent_id": "v7", "task": "sums", "skill": "addition",
      "skills": ["addition"], "question": "3 + 5?", "reason": "…", "draft": "…",
      "reference_ids": ["t1"], "prompt": "…", "error": null}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llm_distill.engines.asking_stage import AskingStage
from llm_distill.engines.base import Completion, SamplingSettings
from llm_distill.engines.requests import Job, make_job
from llm_distill.errors import DataError
from llm_distill.methods.examples import question_key, usable
from llm_distill.methods.parsing import read_groups
from llm_distill.methods.seeds import derive_seed
from llm_distill.methods.skill_selection import (
    Need,
    Skill,
    check_apart,
    draw_for_each,
    ids_by_skill,
    needs_of,
    shortfall,
)
from llm_distill.methods.skills import canonical
from llm_distill.prompts import load_template
from llm_distill.rows.columns import Row, features, task_of
from llm_distill.stage import Columns, Context, Model, Rows, RowsOutput, later_setting

TEXTS = ("question", "rationale")
OWN = ("task", "skill", "examples", "n_questions")
COLUMNS = (
    "id", "parent_id", "task", "skill", "skills", "question", "reason", "draft", "reference_ids",
    "prompt", "error",
)  # fmt: skip


class Synthesise(AskingStage):
    """For each difficult question and each skill missing there, asks for new questions.

    The template is given the `skill`, `n_questions`, and solved training questions that need it as
    `examples`, drawn anew for each request. Every `<question>…</question>` of the answer becomes a
    row, with the `<reason>` and `<draft>` before it; an answer without one is counted. A failed
    request is kept as a row with the reason in `error` and no question. If a skill has fewer than
    `n_references` solved questions, all of them are shown; one without any is not asked about, and
    counted. A profile without rows gives no rows: there is nothing to teach.

    With `n_column`, each row of a plan gets as many questions as that column says, asked for
    `n_questions` at a time; what is over is dropped. If it has a `subskill`, questions that need
    that are asked for, like references labelled with it; the new rows have its `skill` as well.
    """

    version: ClassVar[int] = 2
    always_seeded = True
    stage: Literal["synthesise"]
    profile: Rows = Field(description="the stage whose rows are the missing skills")
    references: Rows = Field(description="solved training questions, labelled with `skills`")
    model: Model = Field(description="the teacher")
    template: str = Field(description="asks for `n_questions` with `skill`, like the `examples`")
    questions: Rows | None = Field(
        None,
        description="the difficult questions: no reference may ask the same; without it only ids "
        "are compared",
    )
    n_references: int = Field(3, ge=1, description="solved questions that are shown")
    n_questions: int = Field(2, ge=1, description="new questions that are asked for at a time")
    n: int = Field(1, ge=1, description="requests per need, each with references of its own")
    n_column: str | None = later_setting(
        None,
        "of a plan (plan_data) in `profile`: the column with how many questions a row asks for",
    )
    sampling: SamplingSettings = Field(
        SamplingSettings(max_tokens=1024), description="how completions are drawn"
    )

    @model_validator(mode="after")
    def _one_count(self) -> Self:
        if self.n_column is not None and self.n > 1:
            raise ValueError("n and n_column exclude each other: a plan says how many it wants")
        return self

    def required_columns(self) -> dict[str, set[str]]:
        needed = {self.profile: {"id", "skill", "question_ids", *filter(None, [self.n_column])}}
        if self.n_column is None:
            needed[self.profile].discard("id")
        if self.questions is not None:
            needed[self.questions] = {"id", "question"}
        needed.setdefault(self.references, set()).update({"id", "skills", *TEXTS})
        return needed

    @property
    def _columns(self) -> tuple[str, ...]:
        return COLUMNS if self.n_column is None else (*COLUMNS, "subskill")

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset(self._columns)

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        return {self.template: self.offered(frozenset(OWN))}

    def may_be_empty(self) -> set[str]:
        return {self.profile, *filter(None, [self.questions])}

    def run(self, context: Context) -> RowsOutput:
        return RowsOutput(self._rows(context), features(self._columns))

    def _rows(self, context: Context) -> Iterator[Row]:
        profile = list(context.each_row(self.profile))
        wanted = self._wanted(profile)
        named = {} if self.n_column is None else {row["id"]: _names(row) for row in profile}
        needs = list(wanted)
        judged = self.questions or self.profile
        texts = context.rows(self.questions)["question"] if self.questions else ()
        ids = {identity for row in profile for identity in row["question_ids"] or ()}
        check_apart(context.each_row(self.references), self.references, ids, texts, judged)
        references = self._references(context)
        pools = ids_by_skill(references.values())
        self._report(context, needs, pools)
        asked = {need: n for need, n in wanted.items() if (need.task, need.skill) in pools}
        if needs and not asked:
            raise DataError(
                f"no solved row of '{self.references}' is labelled with a skill of "
                f"'{self.profile}'; label and solve more training questions, with the skill list "
                "that the profile was made with"
            )
        total = sum(-(-n // self.n_questions) for n in asked.values())
        budget = self.budget(total)
        found: Counter[str] = Counter()
        left = dict(asked)
        for job, completion in self.ask(
            context, self.model, self._jobs(context, asked, pools, references, named), total, budget
        ):
            for row in self._read(context, job, completion, found):
                need = Need(task_of(row), row["skills"][0], row["parent_id"])
                if self.n_column is not None and row["error"] is None:
                    left[need] -= 1
                if left[need] < 0:
                    context.drop("more than planned")
                else:
                    yield row
        counts = budget.figures()
        context.metrics.update(
            **counts,
            questions=found["questions"],
            requests_with_fewer_questions=found["fewer"],
        )
        if asked and not found["questions"]:
            raise DataError(
                f"none of {total} answers of '{self.model}' has a <question>…</question> "
                f"({counts['truncated']} were cut by max_tokens); check the template, or raise it"
            )

    def _wanted(self, profile: Sequence[Row]) -> dict[Need, int]:
        """How many questions each need gets: of a plan, a row is a need."""
        if self.n_column is None:
            return dict.fromkeys(needs_of(profile), self.n * self.n_questions)
        wanted: dict[Need, int] = {}
        for row in profile:
            n, names = row[self.n_column], _names(row)
            skill = names["subskill"] or names["skill"]
            if not isinstance(n, int) or n < 0 or not skill:
                raise DataError(
                    f"row {row['id']} of '{self.profile}': {self.n_column} is {n!r} and its skill "
                    f"{row['skill']!r}; take the rows of plan_data, which have a number and a skill"
                )
            if n:
                wanted[Need(task_of(row), skill, row["id"])] = n
        return wanted

    def _references(self, context: Context) -> dict[str, Row]:
        """Usable references by id, one per question: the one with the first id."""
        first: dict[tuple[Any, str], Row] = {}
        for row in context.each_row(self.references):
            if not usable(row, TEXTS):
                continue
            key = row.get("task"), question_key(row["question"])
            if key not in first or row["id"] < first[key]["id"]:
                first[key] = row
        return {row["id"]: row for row in first.values()}

    def _jobs(
        self,
        context: Context,
        needs: Mapping[Need, int],
        pools: Mapping[Skill, Sequence[str]],
        references: Mapping[str, Row],
        named: Mapping[str, Row],
    ) -> Iterator[Job[Row]]:
        """named: by the id of a plan's row, what the new rows are told to be about."""
        template = load_template(self.template)
        prompt_format = context.model(self.model).prompt_format
        requests = (
            (need, index) for need, n in needs.items() for index in range(-(-n // self.n_questions))
        )
        for need, index in requests:
            # With the model's name: two models that are asked the same should write independently.
            parts = need.question_id, need.task, need.skill, index
            seed = derive_seed(context.seed, self.model, *parts)
            drawn_by = derive_seed(context.seed, "references", index)
            draws = draw_for_each([need], pools, self.n_references, drawn_by)
            skill = {"task": need.task or None, "skill": need.skill}
            about: Row = {
                "parent_id": need.question_id,
                **skill,
                **named.get(need.question_id, {}),
                "skills": [need.skill],
                "reference_ids": [draw.source_id for draw in draws],
            }
            examples = [references[draw.source_id] for draw in draws]
            values = self.values({**skill, "examples": examples, "n_questions": self.n_questions})
            job, text = make_job(
                f"{need.id}/{index}", about, template, values, prompt_format, self.sampling, seed
            )
            about["prompt"] = text
            yield job

    def _read(
        self, context: Context, job: Job[Row], completion: Completion, found: Counter[str]
    ) -> Iterator[Row]:
        nothing = {"question": None, "reason": None, "draft": None}
        if completion.error is not None:
            yield {**job.about, **nothing, "id": f"{job.id}/0", "error": completion.error}
            return
        groups = read_groups(completion.text, "question", ["reason", "draft"])
        found["questions"] += len(groups)
        found["fewer"] += len(groups) < self.n_questions
        if not groups:
            context.drop("no <question>")
        for index, group in enumerate(groups):
            yield {**job.about, **group, "id": f"{job.id}/{index}", "error": None}

    def _report(
        self, context: Context, needs: Sequence[Need], pools: Mapping[Skill, Sequence[str]]
    ) -> None:
        short, none = shortfall(needs, pools, self.n_references)
        context.metrics.update(
            needs=len(needs), skills_short_of_references=short, needs_without_references=none
        )
        unasked = sum(none.values())
        context.drop("no reference with the skill", unasked)
        if none:
            context.warn(
                f"no solved row of '{self.references}' is labelled with {', '.join(none)}: "
                f"{unasked} of {len(needs)} pairs of a question and a missing skill are not asked "
                "about; label or solve more questions"
            )


def _names(row: Row) -> Row:
    """The skill that a plan's row is about, and the part of it; null where it names none."""
    return {name: canonical(str(row.get(name) or "")) or None for name in ("skill", "subskill")}
