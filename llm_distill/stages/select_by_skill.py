"""Draw training questions for the skills that a student lacks: STAT-Sel.

in:  {"id": "t1", "task": "sums", "question": "2 + 2?", "skills": ["addition"]} and a profile
     {"id": "sums/addition", "task": "sums", "skill": "addition", "question_ids": ["v7"]}
out: {"id": "v7/addition/t1", "parent_id": "t1", "source_id": "t1", "task": "sums",
      "question": "2 + 2?", "skills": ["addition"], "skill": "addition", "weight": 1.0}
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field

from llm_distill.errors import DataError
from llm_distill.methods.seeds import derive_seed
from llm_distill.methods.skill_selection import (
    Draw,
    Need,
    Skill,
    check_apart,
    draw_for_each,
    ids_by_skill,
    needs_of,
    random_subset,
    skill_name,
)
from llm_distill.rows.columns import Row
from llm_distill.stage import Context, Rows, RowsOutput, Stage


class SelectBySkill(Stage):
    """For each difficult question and each skill missing there, draws questions with that skill.

    A question may be drawn for many: how often is how much it counts, as one row a draw, or with
    `as_weights` as one row a question whose `weight` is the number of its draws. Of all draws a
    random `n` are kept. A skill with fewer questions than `draws` gives all that it has. A profile
    without rows gives none: there is nothing to teach.
    """

    added_columns = ("id", "parent_id", "source_id", "skill", "weight")
    stage: Literal["select_by_skill"]
    rows: Rows = Field(description="the stage whose rows are drawn from, labelled with `skills`")
    profile: Rows = Field(description="the stage whose rows are the missing skills")
    questions: Rows | None = Field(
        None,
        description="the difficult questions: none of `rows` may ask the same; without it only "
        "ids are compared",
    )
    draws: int = Field(5, ge=1, description="for each difficult question and missing skill")
    n: int | None = Field(None, ge=1, description="how many draws are kept; null keeps all")
    as_weights: bool = Field(False, description="one row a question, with its draws as `weight`")

    def required_columns(self) -> dict[str, set[str]]:
        needed = {self.rows: {"id", "skills"}, self.profile: {"skill", "question_ids"}}
        if self.questions is not None:
            needed[self.rows].add("question")
            needed[self.questions] = {"id", "question"}
        return needed

    def may_be_empty(self) -> set[str]:
        return {self.profile, *filter(None, [self.questions])}

    def is_seeded(self) -> bool:
        return True

    def run(self, context: Context) -> RowsOutput:
        needs = needs_of(context.each_row(self.profile))
        self._check_apart(context, needs)
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
        self._report(context, needs, pools, draws, chosen)
        return RowsOutput(self._rows(context, chosen), self.output_features(context))

    def _check_apart(self, context: Context, needs: Sequence[Need]) -> None:
        judged, texts = self.profile, []
        if self.questions is not None:
            judged, texts = self.questions, context.rows(self.questions)["question"]
        ids = {need.question_id for need in needs}
        check_apart(context.each_row(self.rows), self.rows, ids, texts, judged)

    def _rows(self, context: Context, chosen: Mapping[str, Sequence[Draw]]) -> Iterator[Row]:
        for row in context.each_row(self.rows):
            draws = chosen.get(row["id"], ())
            made = {**row, "parent_id": row["id"], "source_id": row["id"]}
            if draws and self.as_weights:
                # The skill that it was drawn for most; of equals the first in the alphabet.
                skill, _ = Counter(sorted(draw.need.skill for draw in draws)).most_common(1)[0]
                identity, weight = f"{row['id']}/weighted", float(len(draws))
                yield {**made, "id": identity, "skill": skill, "weight": weight}
                continue
            for draw in draws:
                yield {**made, "id": draw.id, "skill": draw.need.skill, "weight": 1.0}

    def _report(
        self,
        context: Context,
        needs: Sequence[Need],
        pools: Mapping[Skill, Sequence[str]],
        draws: Sequence[Draw],
        chosen: Mapping[str, Sequence[Draw]],
    ) -> None:
        wanted = Counter((need.task, need.skill) for need in needs)
        n_rows = {skill: len(pools.get(skill, ())) for skill in wanted}
        none = sorted(skill for skill, count in n_rows.items() if not count)
        short = sorted(skill for skill, count in n_rows.items() if 0 < count < self.draws)
        kept = [draw for own in chosen.values() for draw in own]
        context.metrics.update(
            needs=len(needs),
            draws=len(draws),
            kept_draws=len(kept),
            questions=len(chosen),
            draws_by_skill=dict(
                Counter(skill_name((d.need.task, d.need.skill)) for d in kept).most_common()
            ),
            skills_short_of_questions={skill_name(skill): n_rows[skill] for skill in short},
            needs_without_questions={skill_name(skill): wanted[skill] for skill in none},
        )
        unselected = len(context.rows(self.rows)) - len(chosen)
        if unselected:
            context.drop("not selected", unselected)
        if none:
            context.warn(
                f"no row of '{self.rows}' is labelled with {', '.join(map(skill_name, none))}: "
                f"{sum(wanted[skill] for skill in none)} of {len(needs)} pairs of a question and a "
                "missing skill have no draw; label more training questions"
            )
        if needs and self.n is not None and self.n > len(draws):
            fewer = f"; {len(none + short)} of {len(wanted)} skills have fewer questions than that"
            context.warn(
                f"{len(draws)} draws, where n is {self.n}: there are {len(needs)} pairs of a "
                f"question and a missing skill, each with {self.draws} draws"
                f"{fewer if none or short else ''}; raise draws, label more training questions, "
                "or have the student answer more questions"
            )
