"""Plan what new training data to make, from what a student gets wrong.

in:  {"id": "v7-student-0-0", "parent_id": "v7", "task": "sums", "question": "9 - 3?",
      "answer": "7", "is_correct": false, "skills": ["subtraction"]}
     and the plan of the round before
out: {"id": "2/sums/subtraction", "round": 2, "task": "sums", "skill": "subtraction",
      "subskill": null, "n": 24, "planned": 40, "action": null, "reason": "9 of 15 are wrong",
      "mistakes": "Question: 9 - 3?\\nAnswer given: 7", "question_ids": ["v7"]}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llm_distill.engines.plan_policies import (
    NoState,
    OpenEnded,
    Policy,
    Random,
    SkillList,
    SkillTree,
)
from llm_distill.engines.planning_stage import ASK_OTHERWISE, PlanningStage
from llm_distill.errors import DataError, few
from llm_distill.evaluation.plan_figures import plan_table
from llm_distill.evaluation.results import shown
from llm_distill.methods.data_plan import (
    Leaf,
    Skill,
    Tally,
    at_random,
    largest_remainder,
    made_by_leaf,
    of_one_student,
    tallied,
)
from llm_distill.methods.plan_rows import (
    COLUMNS,
    Wanted,
    kept,
    leaf_of,
    numbered,
    planned_so_far,
    quoted,
)
from llm_distill.methods.seeds import derive_seed
from llm_distill.methods.skill_selection import skill_name
from llm_distill.methods.skill_tree import Tree, grown, next_action
from llm_distill.rows.columns import Row, features, item_of, round_after, task_of
from llm_distill.stage import Columns, Context, Rows, RowsOutput


class PlanData(PlanningStage):
    """A plan of new rows by skill: the step of DataEnvGym (arXiv 2410.06215) before they are made.

    `list` shares `n` rows out by the errors in each skill; `open` has a teacher look at errors and
    name what to practise, and shares `n` out among what it named; `tree` grows subskills and fills
    them without a look at scores, as the authors' code does. `no_state` and `random` are controls.
    Whole numbers come from the largest remainders, so a plan adds up to `n`.

    A row with `n: 0` asks for nothing; it is kept, since the next plan goes on from it, and so is
    every skill of the plan before that this one does not name. Without an
    error, `list` and `open` plan nothing, with a warning. With `made`, a skill whose rows were all
    lost on the way (the teacher's answers were wrong, or did not agree) is told.
    """

    version: ClassVar[int] = 3
    always_seeded = True
    stage: Literal["plan_data"]
    rows: Rows = Field(
        description="a student's answers to validation items (evaluate, assess); the controls and "
        "`tree` need the items only"
    )
    policy: Policy = Field(description="kind: open, list, tree, no_state or random")
    n: int | None = Field(
        None, ge=1, description="rows that the plan asks for in all; null for tree, see its limits"
    )
    by: str = Field("skills", description="the column with an item's skills, or its one skill")
    before: Rows | None = Field(None, description="the plan of the round before")
    made: Rows | None = Field(
        None,
        description="rows that earlier plans have led to, with their `skill`; tree: `subskill` too",
    )
    n_mistakes: int = Field(
        3, ge=0, description="of `list`: wrong answers of a skill that its row quotes (`mistakes`)"
    )

    @model_validator(mode="after")
    def _has_a_budget(self) -> Self:
        if isinstance(self.policy, SkillTree) and self.n is not None:
            raise ValueError(
                "n: a tree says by itself how many rows there are (new_rows, max_rows, max_step); "
                "leave n out"
            )
        if not isinstance(self.policy, SkillTree) and self.n is None:
            raise ValueError(f"n: say how many rows the plan of kind {self.policy.kind} asks for")
        return self

    def required_columns(self) -> dict[str, set[str]]:
        own = {"list": {"is_correct"}, "open": {"is_correct", "question"}, "tree": {"question"}}
        needed = {self.rows: {"id"} | own.get(self.policy.kind, set())}
        if self.policy.kind != "open":
            needed[self.rows].add(self.by)
        if self.before is not None:
            needed.setdefault(self.before, set()).update(COLUMNS)
        if self.made is not None:
            part = {"subskill"} if isinstance(self.policy, SkillTree) else set()
            needed.setdefault(self.made, set()).update({"id", "skill", *part})
        return needed

    def remedy(self, column: str) -> str | None:
        if column == self.by:
            return "label_skills gives skills; or name another column (by)"
        given = {
            "is_correct": "evaluate and assess give it",
            "subskill": "synthesise and generate pass a plan's on (n_column)",
        }
        return given.get(column)

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset(COLUMNS)

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        policy = self.policy
        if isinstance(policy, OpenEnded):
            columns = inputs[self.rows] if policy.n_shown == 1 else frozenset[str]()
            return {policy.template: self.offered(columns, "errors", "n_specs", "last_plan")}
        if isinstance(policy, SkillTree):
            own = ("skill", "subskills", "n_new", "questions", "task")
            return {policy.template: self.offered(frozenset(own))}
        return {}

    def may_be_empty(self) -> set[str]:
        return {*filter(None, (self.before, self.made))}

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        return None

    def most_asked(self, rows: Mapping[str, int | None]) -> Mapping[str, tuple[int, int]] | None:
        policy = self.policy
        if isinstance(policy, OpenEnded):
            return {policy.model: (policy.n_requests, policy.sampling.max_tokens)}
        return None if isinstance(policy, SkillTree) else {}

    def run(self, context: Context) -> RowsOutput:
        return RowsOutput(self._planned(context), features(COLUMNS))

    def _planned(self, context: Context) -> list[Row]:
        before = list(context.each_row(self.before)) if self.before is not None else []
        made = made_by_leaf(context.each_row(self.made)) if self.made is not None else {}
        answers = self._answers(context)
        is_labelled = self.by in answers[0]
        tallies = tallied(answers, self.by) if is_labelled else {}
        policy = self.policy
        if isinstance(policy, OpenEnded):
            wanted = self._open(context, policy, answers, before)
        elif not tallies:
            raise DataError(
                f"no row of '{self.rows}' names a skill in '{self.by}'; label the items "
                "(label_skills), or name another column (by)"
            )
        elif isinstance(policy, SkillTree):
            wanted = self._tree(context, policy, answers, tallies, before, made)
        else:
            wanted = self._by_skill(context, policy, answers, tallies)
        self._say_what_was_lost(context, before, made)
        rows = numbered([*wanted, *kept(wanted, before)], before)
        looks = tallies if policy.kind in ("list", "open") else {}
        context.metrics.update(
            round=round_after(before),
            rows_planned=sum(row["n"] for row in rows),
            n_answers=len(answers),
            **shown(plan_table(rows, looks, made)),
        )
        return rows

    def _answers(self, context: Context) -> list[Row]:
        """Those that say something of the student; the others are counted."""
        needs_verdict = self.policy.kind in ("list", "open")
        found = []
        for row in self.each_row(context):
            if row.get("error") is not None:
                context.drop("an error upstream")
            elif needs_verdict and row["is_correct"] is None:
                context.drop("is_correct is null")
            else:
                found.append(row)
        of_one_student(found, self.rows)
        if not found:
            raise DataError(
                f"no row of '{self.rows}' can be planned from: each has an error, or no verdict "
                "(is_correct); its items need a reference_answer"
            )
        return sorted(found, key=lambda row: str(row["id"]))  # their order does not matter

    def _by_skill(
        self,
        context: Context,
        policy: SkillList | NoState | Random,
        answers: Sequence[Row],
        tallies: Mapping[Skill, Tally],
    ) -> list[Wanted]:
        seed, n = derive_seed(context.seed, "plan_data"), self.n or 0
        weights: dict[Skill, Fraction | int] = dict.fromkeys(tallies, 1)
        if isinstance(policy, Random):
            weights = {**at_random(tallies, n, seed)}  # its shares as they are
        elif isinstance(policy, SkillList):
            enough = {k for k, t in tallies.items() if t.n_wrong >= policy.min_wrong}
            weights = {key: t.errors if key in enough else 0 for key, t in tallies.items()}
            self._look_at(context, answers)
            if not enough and any(found.n_wrong for found in tallies.values()):
                most = max(found.n_wrong for found in tallies.values())
                context.warn(
                    f"the skill with the most wrong answers has {most} (min_wrong: "
                    f"{policy.min_wrong}): nothing is planned, there is no gap to teach"
                )
        shares = largest_remainder(weights, n, seed)
        ordered = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
        if not isinstance(policy, SkillList):
            why = "as many for each skill" if isinstance(policy, NoState) else "drawn at random"
            return [Wanted(*key, own, why) for key, own in ordered]
        wrong = {item_of(row): row for row in answers if row["is_correct"] is False}
        wanted = []
        for key, own in ordered:
            found = tallies[key]
            ids = sorted(found.wrong_ids, key=lambda i: derive_seed(seed, *key, i))
            texts = [quoted(wrong[identity]) for identity in ids[: self.n_mistakes]]
            wanted.append(
                Wanted(
                    *key,
                    own,
                    f"{found.n_wrong} of {found.n_items} are wrong",
                    mistakes="\n\n".join(texts) or None,
                    question_ids=found.wrong_ids,
                )
            )
        return wanted

    def _look_at(self, context: Context, answers: Sequence[Row]) -> None:
        """Says if nothing is wrong, and counts what no skill can be planned for."""
        wrong = [row for row in answers if row["is_correct"] is False]
        n_unnamed = sum(not row[self.by] for row in wrong)
        context.drop("wrong, but without a skill", n_unnamed)
        if not wrong:
            self._nothing_is_wrong(context, len(answers))
        elif n_unnamed == len(wrong):
            raise DataError(
                f"{n_unnamed} answers of '{self.rows}' are wrong, and none of them has a skill in "
                f"'{self.by}'; label the items, with a list that has their skills"
            )

    def _nothing_is_wrong(self, context: Context, n: int) -> None:
        context.warn(
            f"none of the {n} answers of '{self.rows}' is wrong: nothing is planned, there is "
            "nothing to teach"
        )

    def _open(
        self, context: Context, policy: OpenEnded, answers: Sequence[Row], before: Sequence[Row]
    ) -> list[Wanted]:
        errors = {item_of(row): row for row in answers if row["is_correct"] is False}
        if errors:
            return self.specified(context, policy, self.n or 0, errors, before)
        self._nothing_is_wrong(context, len(answers))
        return []  # what was planned before is kept, so that the next plan knows its round

    def _tree(
        self,
        context: Context,
        policy: SkillTree,
        answers: Sequence[Row],
        tallies: Mapping[Skill, Tally],
        before: Sequence[Row],
        made: Mapping[Leaf, int],
    ) -> list[Wanted]:
        questions = {item_of(row): row["question"] for row in answers}
        trees = {key: self._tree_of(key, before, made) for key in tallies}
        n_before = {key: dict(tree.made) for key, tree in trees.items()}
        rows: Counter[tuple[Skill, str]] = Counter()
        actions: dict[Skill, list[str]] = {key: [] for key in tallies}
        totals: Counter[str] = Counter()
        grew: dict[Skill, bool] = {}
        for step in range(policy.steps):
            doing = {key: next_action(tree, policy.limits) for key, tree in trees.items()}
            exploring = {key: trees[key] for key, does in doing.items() if does == "explore"}
            new: dict[Skill, list[str]] = {}
            if exploring:
                new = self.new_subskills(
                    context, policy, exploring, tallies, questions, step, totals
                )
            for key, action in doing.items():
                trees[key], got = grown(trees[key], action, new.get(key, ()), policy.limits)
                actions[key].append(action)
                rows.update({(key, name): n for name, n in got.items()})
            grew |= {key: bool(names) or grew.get(key, False) for key, names in new.items()}
        unread = f"{totals['unreadable']} of {totals['requests']} answers have none"
        if grew and totals["unreadable"] == totals["requests"] and not rows.total():
            raise DataError(
                f"'{policy.model}' names no subskill of any skill in <skill>…</skill> ({unread}), "
                f"and no other rows are planned; {ASK_OTHERWISE}"
            )
        if same := [skill_name(key) for key, more in grew.items() if not more]:
            todo = "it names those that there are again, or failed"
            if totals["unreadable"]:
                todo = f"{unread}: {ASK_OTHERWISE}"
            context.warn(
                f"'{policy.model}' names no new subskill of {few(same)} in <skill>…</skill>, so no "
                f"rows are planned for a new one; {todo}"
            )
        context.metrics.update(dict(totals), subskills=len(rows))
        return [
            Wanted(
                *key,
                n,
                f"{n_before[key].get(name, 0)} rows before",
                subskill=name,
                action=", ".join(actions[key]),
                at=name,
            )
            for (key, name), n in rows.items()
        ]

    def _tree_of(self, key: Skill, before: Sequence[Row], made: Mapping[Leaf, int]) -> Tree:
        """As the plan before left it, with the rows that were really made where that is known."""
        own = [row for row in before if (task_of(row), row["skill"]) == key]
        counts = {
            row["subskill"]: row["planned"] if self.made is None else made.get(leaf_of(row), 0)
            for row in own
        }
        last: Any = own[0]["action"].rpartition(", ")[2] if own else None
        return Tree(counts, last)

    def _say_what_was_lost(
        self, context: Context, before: Sequence[Row], made: Mapping[Leaf, int]
    ) -> None:
        if self.made is None:
            return
        planned = planned_so_far(before)
        lost = {skill_name(key): n for key, n in planned.items() if n and not made.get(key)}
        context.metrics["rows_lost"] = dict(sorted(lost.items()))
        for name, n in sorted(lost.items()):
            context.warn(
                f"{name}: {n} rows were planned so far, and '{self.made}' has none of them: that "
                "budget is lost. What the teacher writes or answers there is dropped on the way "
                "(`status` counts where); this skill needs another teacher, or data from elsewhere"
            )
