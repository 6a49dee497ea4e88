"""Base of `plan_data`: what its policies ask a teacher."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from llm_distill.engines.asking_stage import AskingStage
from llm_distill.engines.plan_policies import OpenEnded, SkillTree
from llm_distill.engines.requests import Job, make_job
from llm_distill.errors import DataError
from llm_distill.methods.data_plan import Skill, Tally, largest_remainder, shown_errors
from llm_distill.methods.plan_rows import Wanted, specifications
from llm_distill.methods.seeds import derive_seed
from llm_distill.methods.skill_tree import Tree
from llm_distill.methods.skills import read_labels, skill_id, what_is_wrong
from llm_distill.prompts import load_template
from llm_distill.rows.columns import Row, by_task, item_of, task_of
from llm_distill.stage import Context

NO_REASON = "no reason is given"
"""In its place, so that a template which reads `reason` has one."""
ASK_OTHERWISE = (
    "correct policy.template, or raise policy.sampling.max_tokens (`ask` shows what the model "
    "writes to a prompt); policy: {kind: list} plans without a teacher"
)


class PlanningStage(AskingStage):
    """Requests of the policies `open` and `tree`, and how the answers are read."""

    def specified(
        self,
        context: Context,
        policy: OpenEnded,
        n: int,
        errors: Mapping[str, Row],
        before: Sequence[Row],
    ) -> list[Wanted]:
        """What the teacher says is to be made, with the budget shared out evenly.

        Args:
            n: rows that the plan asks for.
            errors: the wrong answers, by the id of the item.
            before: the plan of the round before.

        Raises:
            DataError: no answer has a specification.
        """
        seed = derive_seed(context.seed, "plan_data")
        shown = _shown(errors, policy, seed)
        budget = self.budget(len(shown))
        wanted: list[Wanted] = []
        n_bad = 0
        jobs = self._open_jobs(context, policy, errors, before, shown, seed)
        for job, completion in self.ask(context, policy.model, jobs, len(shown), budget):
            if completion.error is not None:
                context.drop("the teacher failed")
                continue
            found = specifications(completion.text)
            good = [(name, why) for name, why in found if what_is_wrong(name) is None]
            n_bad += len(found) - len(good)
            if not good:
                context.drop("no specification")
            task, ids = task_of(errors[job.about[0]]), tuple(job.about)
            wanted += [
                Wanted(task, name, 0, why or NO_REASON, question_ids=ids, at=f"{job.id}/{index}")
                for index, (name, why) in enumerate(good[: policy.n_specs])
            ]
        counts = budget.figures()
        context.metrics.update(**counts, specifications=len(wanted), names_too_long=n_bad)
        if not wanted:
            raise DataError(
                f"none of {len(shown)} answers of '{policy.model}' has a specification: "
                f"<skill>…</skill>, with its <reason> before it ({counts['truncated']} were cut by "
                f"max_tokens); {ASK_OTHERWISE}"
            )
        shares = largest_remainder({each.at: 1 for each in wanted}, n, seed)
        return [replace(each, n=shares[each.at]) for each in wanted]

    def _open_jobs(
        self,
        context: Context,
        policy: OpenEnded,
        errors: Mapping[str, Row],
        before: Sequence[Row],
        shown: Sequence[Sequence[str]],
        seed: int,
    ) -> Iterator[Job[Sequence[str]]]:
        template = load_template(policy.template)
        form = context.model(policy.model).prompt_format
        for index, ids in enumerate(shown):
            values = self.values(
                {
                    **(errors[ids[0]] if policy.n_shown == 1 else {}),
                    "errors": [errors[identity] for identity in ids],
                    "n_specs": policy.n_specs,
                    "last_plan": [row for row in before if row["n"]],
                }
            )
            drawn = derive_seed(seed, policy.model, index)
            yield make_job(str(index), ids, template, values, form, policy.sampling, drawn)[0]

    def new_subskills(
        self,
        context: Context,
        policy: SkillTree,
        trees: Mapping[Skill, Tree],
        tallies: Mapping[Skill, Tally],
        questions: Mapping[str, str],
        step: int,
        totals: Counter[str],
    ) -> dict[Skill, list[str]]:
        """What the teacher names for each skill that is explored, without what the tree has.

        Args:
            trees: of the skills that are explored.
            tallies: which items are about them.
            questions: by the id of the item.
            step: which of the round's actions this is.
            totals: gets the counts.
        """

        def jobs() -> Iterator[Job[Skill]]:
            template = load_template(policy.template)
            form = context.model(policy.model).prompt_format
            for (task, skill), tree in trees.items():
                seed = derive_seed(context.seed, "plan_data", policy.model, task, skill, step)
                ids = sorted(tallies[task, skill].ids, key=lambda i: derive_seed(seed, i))
                own = {"task": task, "skill": skill, "subskills": list(tree.made)}
                texts = [questions[identity] for identity in ids[: policy.n_shown]]
                values = self.values({**own, "n_new": policy.new, "questions": texts})
                name = skill_id(task, skill)
                about = (task, skill)
                yield make_job(name, about, template, values, form, policy.sampling, seed)[0]

        budget = self.budget(len(trees))
        found: dict[Skill, list[str]] = {}
        for job, completion in self.ask(context, policy.model, jobs(), len(trees), budget):
            labels = read_labels(completion.text) if completion.error is None else None
            names = [name for name in labels or () if what_is_wrong(name) is None]
            found[job.about] = [name for name in names if name not in trees[job.about].made]
            if completion.error is not None:
                context.drop("the teacher failed")
            elif not names:
                context.drop("no subskill in <skill>…</skill>")
            totals["unreadable"] += not names
            totals["fewer_new_than_wanted"] += len(found[job.about]) < policy.new
        totals.update(budget.figures())
        return found


def _shown(errors: Mapping[str, Row], policy: OpenEnded, seed: int) -> list[list[str]]:
    """The ids of the errors that each request shows, all of one task."""
    tasks = by_task(errors.values())
    weights = {task: len(rows) for task, rows in tasks.items()}
    n_requests = largest_remainder(weights, policy.n_requests, seed)
    return [
        ids
        for task in sorted(tasks)
        for ids in shown_errors(map(item_of, tasks[task]), n_requests[task], policy.n_shown, seed)
    ]
