"""Draw training questions for the skills that a student lacks: STAT-Sel.

in:  {"id": "t1", "task": "sums", "question": "2 + 2?", "skills": ["addition"]} and a profile
     {"id": "sums/addition", "task": "sums", "skill": "addition", "question_ids": ["v7"]}
out: {"id": "v7/addition/t1", "parent_id": "t1", "source_id": "t1", "task": "sums",
      "question": "2 + 2?", "skills": ["addition"], "skill": "addition", "weight": 1.0}
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from llm_distill.errors import DataError
from llm_distill.methods.seeds import derive_seed
from llm_distill.methods.skill_selection import (
    Draw,
    check_apart,
    draw_for_each,
    ids_by_skill,
    needs_of,
    random_subset,
    selected,
    shortfall,
    skill_name,
)
from llm_distill.rows.columns import Row
from llm_distill.stage import Context, Rows, RowsOutput, Stage


class SelectBySkill(Stage):
    """For each difficult question and each skill missing there, draws questions with that skill.

    A question counts as often as it is drawn: as one row per draw, or with `as_weights` as one row
    whose `weight` is the number of its draws. Of all draws a random `n` are kept. If a skill has
    fewer questions than `draws`, all of them are drawn. A profile without rows gives no rows: there
    is nothing to teach.
    """

    added_columns = ("id", "parent_id", "source_id", "skill", "weight")
    always_seeded = True
    version: ClassVar[int] = 2

    stage: Literal["select_by_skill"]
    rows: Rows = Field(description="the stage whose rows are drawn from, labelled with `skills`")
    profile: Rows = Field(description="the stage whose rows are the missing skills")
    questions: Rows | None = Field(
        None,
        description="the difficult questions: `rows` may not ask the same; without it only ids "
        "are compared",
    )
    draws: int = Field(5, ge=1, description="for each difficult question and missing skill")
    n: int | None = Field(None, ge=1, description="how many draws are kept; null keeps all")
    as_weights: bool = Field(False, description="one row per question, with its draws as `weight`")

    def required_columns(self) -> dict[str, set[str]]:
        needed = {self.rows: {"id", "skills"}, self.profile: {"skill", "question_ids"}}
        if self.questions is not None:
            needed[self.rows].add("question")
            needed[self.questions] = {"id", "question"}
        return needed

    def may_be_empty(self) -> set[str]:
        return {self.profile, *filter(None, [self.questions])}

    def run(self, context: Context) -> RowsOutput:
        needs = needs_of(context.each_row(self.profile))
        judged = self.questions or self.profile
        texts = context.rows(self.questions)["question"] if self.questions else ()
        ids = {need.question_id for need in needs}
        check_apart(context.each_row(self.rows), self.rows, ids, texts, judged)
        pools = ids_by_skill(context.each_row(self.rows))
        seed = derive_seed(context.seed, "select_by_skill")
        draws = draw_for_each(needs, pools, self.draws, seed)
        if needs and not draws:
            raise DataError(
                f"no row of '{self.rows}' is labelled with a skill of '{self.profile}': "
                f"{', '.join(sorted({skill_name((n.task, n.skill)) for n in needs}))}; label more "
                "training questions, with the skill list that the profile was made with"
            )
        kept = random_subset((draw.id for draw in draws), self.n, seed)
        chosen: dict[str, list[Draw]] = defaultdict(list)
        for draw in draws:
            if draw.id in kept:
                chosen[draw.source_id].append(draw)
        short, none = shortfall(needs, pools, self.draws)
        by_skill = Counter(
            skill_name((d.need.task, d.need.skill)) for own in chosen.values() for d in own
        )
        context.metrics.update(
            needs=len(needs),
            draws=len(draws),
            kept_draws=by_skill.total(),
            questions=len(chosen),
            draws_by_skill=dict(by_skill.most_common()),
            skills_short_of_questions=short,
            needs_without_questions=none,
        )
        context.drop("not selected", len(context.rows(self.rows)) - len(chosen))
        if none:
            context.warn(
                f"no row of '{self.rows}' is labelled with {', '.join(none)}: {sum(none.values())} "
                f"of {len(needs)} pairs of a question and a missing skill have no draw; label more "
                "training questions"
            )
        if needs and self.n is not None and self.n > len(draws):
            n_few, n_skills = len(none) + len(short), len({(n.task, n.skill) for n in needs})
            fewer = f"; {n_few} of {n_skills} skills have fewer questions than that"
            context.warn(
                f"{len(draws)} draws, but n is {self.n}: there are {len(needs)} pairs of a "
                f"question and a missing skill, each with {self.draws} draws"
                f"{fewer if n_few else ''}; raise draws, label more training questions, "
                "or have the student answer more questions"
            )
        columns = {source: self._columns(source, drawn) for source, drawn in chosen.items()}
        rows = selected(context.each_row(self.rows), columns)
        return RowsOutput(rows, self.output_features(context))

    def _columns(self, source: str, draws: Sequence[Draw]) -> list[Row]:
        """What is added to each of a question's rows."""
        if self.as_weights:
            # The skill that it was drawn for most often; of equals the first alphabetically.
            skill, _ = Counter(sorted(draw.need.skill for draw in draws)).most_common(1)[0]
            return [{"id": f"{source}/weighted", "skill": skill, "weight": float(len(draws))}]
        return [{"id": draw.id, "skill": draw.need.skill, "weight": 1.0} for draw in draws]
