"""plan_data: each policy on planted gaps, what is refused, and what may not change a plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.engines.base import Completion, Request
from llm_distill.errors import DataError
from llm_distill.stages.plan_data import PlanData

Row = dict[str, Any]
Run = Callable[..., Any]

SKILLS = ("add", "sub", "mul", "day")
GAPS = {"sub", "day"}
OPEN = {
    "kind": "open",
    "model": "t",
    "template": "dataenvgym/open.jinja",
    "n_requests": 4,
    "n_shown": 3,
    "n_specs": 2,
}
TREE = {
    "kind": "tree",
    "model": "t",
    "template": "dataenvgym/subskills.jinja",
    "new": 2,
    "new_rows": 5,
    "max_subskills": 4,
    "max_rows": 8,
    "max_step": 2,
}


def answers(gaps: set[str], each: int = 5) -> list[Row]:
    """An exam's rows: the student is wrong on its gaps."""
    return [
        {
            "id": f"v{i}-{skill}-student-0-0",
            "parent_id": f"v{i}-{skill}",
            "model": "student",
            "task": "s",
            "question": f"{skill} {i}?",
            "completion": f"It is {i + (skill in gaps)}.",
            "answer": str(i + (skill in gaps)),
            "reference_answer": str(i),
            "is_correct": skill not in gaps,
            "skills": [skill],
            "error": None,
        }
        for i in range(each)
        for skill in SKILLS
    ]


def stage(policy: dict[str, Any] | str = "list", **settings: Any) -> PlanData:
    kind = {"kind": policy} if isinstance(policy, str) else policy
    if kind["kind"] != "tree":
        settings.setdefault("n", 20)
    values = {"stage": "plan_data", "rows": "exam", "policy": kind, **settings}
    return PlanData.model_validate(
        {"variables": {"task_description": "Solve."} if "model" in kind else {}, **values}
    )


def teacher(request: Request) -> str:
    """Names the skill of each error that it is shown; of questions, what they are about."""
    text = str(request.prompt)
    named = dict.fromkeys(skill for skill in SKILLS if f"{skill} " in text)
    return " ".join(f"<reason>It fails {s}.</reason> <skill>{s}</skill>" for s in named)


def planned(rows: list[Row]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        name = row["subskill"] or row["skill"]
        counts[name] = counts.get(name, 0) + row["n"]
    return counts


def test_a_list_finds_the_gaps_and_nothing_else(run_stage: Run) -> None:
    run = run_stage(stage(), {"exam": answers(GAPS)})
    assert planned(run.rows) == {"sub": 10, "day": 10, "add": 0, "mul": 0}
    sub = next(row for row in run.rows if row["skill"] == "sub")
    assert (sub["id"], sub["round"], sub["planned"], sub["task"]) == ("1/s/sub", 1, 10, "s")
    assert sub["reason"] == "5 of 5 are wrong"
    assert sub["question_ids"] == [f"v{i}-sub" for i in range(5)]
    assert sub["mistakes"].count("Question: sub ") == 3
    assert "Answer given: It is " in sub["mistakes"]
    table = {
        (f["labels"]["skill"], f["labels"]["figure"]): f["value"]
        for f in run.metrics["figures"][0]["rows"]
    }
    assert (table["sub", "share"], table["sub", "wrong"], table["add", "wrong"]) == (0.5, 1, 0)


def test_a_student_without_gaps_gets_no_plan(run_stage: Run) -> None:
    run = run_stage(stage(), {"exam": answers(set())})
    assert set(planned(run.rows).values()) == {0}
    assert run.warnings == [
        "none of the 20 answers of 'exam' is wrong: nothing is planned, there is nothing to teach"
    ]
    asked: list[Request] = []
    run = run_stage(stage(OPEN), {"exam": answers(set())}, {"t": lambda r: asked.append(r) or ""})
    assert (run.rows, asked) == ([], [])
    assert "nothing to teach" in run.warnings[0]


def test_single_slips_are_no_gap(run_stage: Run) -> None:
    rows = answers(GAPS)
    slips = answers(set())
    for row in (rows[0], slips[0], slips[2]):  # one of five in `add`, and in `mul`
        row["is_correct"] = False
    policy = {"kind": "list", "min_wrong": 2}
    assert planned(run_stage(stage(), {"exam": rows}).rows)["add"] == 2
    assert planned(run_stage(stage(policy), {"exam": rows}).rows)["add"] == 0
    run = run_stage(stage(policy), {"exam": slips})
    assert set(planned(run.rows).values()) == {0}
    assert run.warnings == [
        "the skill with the most wrong answers has 1 (min_wrong: 2): nothing is planned, there is "
        "no gap to teach"
    ]


@pytest.mark.parametrize("policy", ["no_state", "random"])
def test_the_controls_do_not_look(run_stage: Run, policy: str) -> None:
    run = run_stage(stage(policy), {"exam": answers(GAPS)})
    assert sum(planned(run.rows).values()) == 20
    assert run_stage(stage(policy), {"exam": answers({"add", "mul"})}).rows == run.rows
    items = [
        {name: row[name] for name in ("id", "task", "skills")} | {"id": row["parent_id"]}
        for row in answers(GAPS)
    ]
    assert run_stage(stage(policy), {"exam": items}).rows == run.rows  # nor do they need to
    if policy == "no_state":
        assert set(planned(run.rows).values()) == {5}
    else:
        other = run_stage(stage(policy), {"exam": answers(GAPS)}, seed=1)
        assert planned(other.rows) != planned(run.rows)


@pytest.mark.parametrize("policy", ["list", "no_state", "random", OPEN, TREE])
def test_the_order_of_rows_does_not_matter(run_stage: Run, policy: Any) -> None:
    rows = answers({"sub", "day", "mul"})
    run = run_stage(stage(policy), {"exam": rows}, {"t": teacher})
    assert run_stage(stage(policy), {"exam": rows[::-1]}, {"t": teacher}).rows == run.rows
    if policy != TREE:
        assert sum(planned(run.rows).values()) == 20


def test_open_plans_are_what_the_teacher_specifies(run_stage: Run) -> None:
    prompts: list[str] = []

    def say(request: Request) -> str:
        prompts.append(str(request.prompt))
        return teacher(request)

    before = run_stage(stage(), {"exam": answers({"mul"})}).rows
    run = run_stage(stage(OPEN, before="plan"), {"exam": answers(GAPS), "plan": before}, {"t": say})
    assert len(prompts) == 4
    assert all(prompt.count("The right answer:") == 3 for prompt in prompts)
    assert all("- mul: 20" in prompt and "2 specifications" in prompt for prompt in prompts)
    asked = [row for row in run.rows if row["n"]]
    assert {row["skill"] for row in asked} <= GAPS
    assert sum(planned(run.rows).values()) == 20
    first = run.rows[0]
    assert first["id"].startswith("2/s/")
    assert first["reason"] == f"It fails {first['skill']}."
    assert len(first["question_ids"]) == 3
    assert run.metrics["specifications"] == len(asked)


def test_a_skill_that_a_round_does_not_name_is_not_forgotten(run_stage: Run) -> None:
    """What was planned for it counts on, whatever the policy; it asks for nothing meanwhile."""

    def named(*names: str) -> Any:
        return lambda request: "".join(f"<skill>{name}</skill>" for name in names)

    settings = stage({**OPEN, "n_requests": 1}, n=6)
    one = run_stage(settings, {"exam": answers(GAPS)}, {"t": named("sub", "day")}).rows
    goes_on = settings.model_copy(update={"before": "plan"})
    given = {"exam": answers({"sub"}), "plan": one}
    two = run_stage(goes_on, given, {"t": named("sub")}).rows
    assert [(r["skill"], r["n"], r["planned"]) for r in two] == [("sub", 6, 9), ("day", 0, 3)]
    three = run_stage(goes_on, {"exam": answers(GAPS), "plan": two}, {"t": named("day")}).rows
    assert [(r["skill"], r["n"], r["planned"]) for r in three] == [("day", 6, 9), ("sub", 0, 9)]
    assert {row["round"] for row in three} == {3}
    assert len({row["id"] for row in three}) == 2

    # Nor one that no item of this round's exam is about.
    def parts(request: Request) -> str:
        (skill,) = {s for s in SKILLS if f"need the skill {s}:" in str(request.prompt)}
        return f"<skill>{skill} a</skill><skill>{skill} b</skill>"

    grown = run_stage(stage(TREE), {"exam": answers(GAPS)}, {"t": parts}).rows
    few = [row for row in answers(GAPS) if row["skills"] == ["sub"]]
    later = stage(TREE, before="plan")
    left = run_stage(later, {"exam": few, "plan": grown}, {"t": parts}).rows
    before, after = (
        {(r["skill"], r["subskill"]): r for r in rows if r["skill"] != "sub"}
        for rows in (grown, left)
    )
    assert before.keys() == after.keys()
    for key, row in after.items():
        assert row["n"] == 0
        assert (row["planned"], row["action"]) == (before[key]["planned"], before[key]["action"])


def test_a_template_may_read_the_one_error(run_stage: Run) -> None:
    one = {**OPEN, "n_shown": 1, "n_requests": 30, "template": "stat/find_missing_skills.jinja"}
    settings = stage(one).model_copy(
        update={"variables": {"task_description": "Solve.", "skills": [], "max_skills": 1}}
    )
    run = run_stage(settings, {"exam": answers(GAPS)}, {"t": teacher})
    assert len(run.rows) == 10  # once an error, though 30 are allowed
    assert {tuple(row["question_ids"]) for row in run.rows} == {
        (f"v{i}-{skill}",) for i in range(5) for skill in GAPS
    }
    assert set(planned(run.rows).values()) == {10}


def test_answers_without_a_specification_are_counted_and_none_at_all_stops(run_stage: Run) -> None:
    said = iter(("no tags", "<skill></skill>", "<skill>sub</skill>", f"<skill>{'x' * 70}</skill>"))
    run = run_stage(stage(OPEN), {"exam": answers(GAPS)}, {"t": lambda r: next(said)})
    assert planned(run.rows) == {"sub": 20}
    assert run.rows[0]["reason"] == "no reason is given"
    assert (run.dropped, run.metrics["names_too_long"]) == ({"no specification": 3}, 1)
    with pytest.raises(DataError, match=r"none of 4 answers of 't' has a specification.*kind: lis"):
        run_stage(stage(OPEN), {"exam": answers(GAPS)}, {"t": lambda r: "I would not know."})


class _Fails:
    def generate(self, requests: Any) -> Any:
        for index, request in enumerate(requests):
            error = "prompt too long" if index == 0 else None
            yield Completion(request.id, "" if error else teacher(request), "stop", error=error)

    def close(self) -> None: ...


def test_a_request_that_fails_is_counted(run_stage: Run) -> None:
    run = run_stage(stage(OPEN, max_error_rate=0.5), {"exam": answers(GAPS)}, engines={"t": _Fails})
    assert run.dropped == {"the teacher failed": 1}
    assert sum(planned(run.rows).values()) == 20
    run = run_stage(stage(TREE, max_error_rate=0.5), {"exam": answers(GAPS)}, engines={"t": _Fails})
    assert run.dropped == {"the teacher failed": 1}
    assert "no new subskill of s/add in" in run.warnings[0]


def test_a_tree_grows_and_fills_without_a_look_at_scores(run_stage: Run) -> None:
    told: list[str] = []

    def name(request: Request) -> str:
        text = str(request.prompt)
        told.append(text)
        (skill,) = {s for s in SKILLS if f"need the skill {s}:" in text}
        number = 2 if f"already: {skill}_0, {skill}_1." in text else 0
        return "".join(f"<skill>{skill} {i}</skill>" for i in range(number, number + 3))

    def go(gaps: set[str], rounds: int) -> list[list[Row]]:
        before: dict[str, list[Row]] = {}
        plans = []
        for _ in range(rounds):
            settings = stage(TREE, **({"before": "plan"} if before else {}))
            run = run_stage(settings, {"exam": answers(gaps), **before}, {"t": name})
            before = {"plan": run.rows}
            plans.append(run.rows)
        return plans

    plans = go(GAPS, 5)
    sub = [[(r["subskill"], r["n"]) for r in plan if r["skill"] == "sub"] for plan in plans]
    # Two steps a round: explore, rest; explore, fill; fill, fill; then nothing is left.
    assert sub == [
        [("sub_0", 5), ("sub_1", 5)],
        [("sub_0", 2), ("sub_1", 2), ("sub_2", 7), ("sub_3", 7)],
        [("sub_0", 1), ("sub_1", 1), ("sub_2", 1), ("sub_3", 1)],
        [("sub_0", 0), ("sub_1", 0), ("sub_2", 0), ("sub_3", 0)],
        [("sub_0", 0), ("sub_1", 0), ("sub_2", 0), ("sub_3", 0)],
    ]
    assert [r["planned"] for r in plans[-1]] == [8] * 16  # every skill, gap or not
    assert {r["action"] for r in plans[0]} == {"explore, rest"}
    assert {r["action"] for r in plans[1]} == {"explore, fill"}
    assert len(told) == 8  # twice for each of four skills
    assert go({"mul"}, 2) == plans[:2]


def test_a_tree_fills_up_what_was_lost(run_stage: Run) -> None:
    policy = {**TREE, "max_subskills": 1, "steps": 1, "max_step": 50}
    name = {"t": lambda r: "<skill>one</skill><skill>two</skill>"}
    first = run_stage(stage(policy, by="task"), {"exam": answers(GAPS)}, name).rows
    assert planned(first) == {"one": 5, "two": 5}
    made = [{"id": str(i), "task": "s", "skill": "s", "subskill": "one"} for i in range(3)]
    run = run_stage(
        stage(policy, by="task", before="plan", made="made"),
        {"exam": answers(GAPS), "plan": first, "made": made},
        name,
    )
    assert planned(run.rows) == {"one": 5, "two": 8}  # up to 8 each
    assert run.metrics["rows_lost"] == {"s/s/two": 5}


def test_two_skills_may_have_a_part_of_one_name(run_stage: Run) -> None:
    policy = {**TREE, "max_subskills": 1, "steps": 1, "max_step": 50}
    name = {"t": lambda r: "<skill>word</skill>"}
    first = run_stage(stage(policy), {"exam": answers(GAPS)}, name)
    assert [(r["skill"], r["n"], r["planned"]) for r in first.rows] == [
        (skill, 5, 5) for skill in sorted(SKILLS)
    ]
    table = {f["labels"]["skill"] for f in first.metrics["figures"][0]["rows"]}
    assert table == {f"{skill}/word" for skill in SKILLS}
    given = {"exam": answers(GAPS), "plan": first.rows}
    assert {r["n"] for r in run_stage(stage(policy, before="plan"), given, name).rows} == {3}
    made = [{"id": "1", "task": "s", "skill": "sub", "subskill": "word"}]
    settings = stage(policy, before="plan", made="made")
    run = run_stage(settings, {**given, "made": made}, name)
    assert {r["skill"]: r["n"] for r in run.rows} == {"add": 8, "day": 8, "mul": 8, "sub": 7}
    assert run.metrics["rows_lost"] == {f"s/{skill}/word": 5 for skill in ("add", "day", "mul")}


def test_a_teacher_without_names_stops_a_tree(run_stage: Run) -> None:
    with pytest.raises(DataError, match=r"'t' names no subskill of any skill.*\(4 of 4 answers"):
        run_stage(stage(TREE), {"exam": answers(GAPS)}, {"t": lambda r: "I know none."})


def test_skills_for_which_a_tree_names_nothing_are_told(run_stage: Run) -> None:
    """A round may be the second: what was planned before does not hide that nothing was read."""

    def parts(*silent: str) -> Any:
        def say(request: Request) -> str:
            (skill,) = {s for s in SKILLS if f"need the skill {s}:" in str(request.prompt)}
            return "I know none." if skill in silent else f"<skill>{skill} a</skill>"

        return {"t": say}

    run = run_stage(stage(TREE), {"exam": answers(GAPS)}, parts("sub", "day"))
    assert planned(run.rows) == {"add_a": 5, "mul_a": 5}
    assert run.dropped == {"no subskill in <skill>…</skill>": 2}
    (warning,) = run.warnings
    assert "'t' names no new subskill of s/day, s/sub in <skill>…</skill>, so no" in warning
    assert "2 of 4 answers have none: correct policy.template" in warning

    first = run_stage(stage(TREE), {"exam": answers(GAPS)}, parts()).rows
    given = {"exam": answers(GAPS), "plan": first}
    again = run_stage(stage(TREE, before="plan"), given, parts())
    assert set(planned(again.rows).values()) == {0}  # the teacher repeats itself
    assert "of s/add, s/day, s/mul, s/sub in <skill>…</skill>, so no" in again.warnings[0]
    assert again.warnings[0].endswith("it names those that there are again, or failed")
    with pytest.raises(DataError, match=r"no subskill of any skill.*\(4 of 4 answers have none\)"):
        run_stage(stage(TREE, before="plan"), given, parts(*SKILLS))


def test_a_tree_that_fills_goes_on_without_new_names(run_stage: Run) -> None:
    full = {**TREE, "max_subskills": 1, "steps": 1}
    name = {"t": lambda r: "<skill>one</skill>" if "skill sub:" in str(r.prompt) else "none"}
    first = run_stage(stage(full), {"exam": answers(GAPS)}, name).rows
    run = run_stage(stage(full, before="plan"), {"exam": answers(GAPS), "plan": first}, name)
    assert [(row["skill"], row["n"]) for row in run.rows] == [("sub", 2)]
    assert run.dropped == {"no subskill in <skill>…</skill>": 3}


def test_a_budget_that_was_lost_is_told(run_stage: Run) -> None:
    """The teacher is wrong in a gap: everything that was planned for it is dropped on the way."""
    first = run_stage(stage(), {"exam": answers(GAPS)}).rows
    made = [{"id": str(i), "task": "s", "skill": "sub"} for i in range(8)]
    given = {"exam": answers({"day"}), "plan": first, "made": made}
    run = run_stage(stage(before="plan", made="made"), given)
    assert run.metrics["rows_lost"] == {"s/day": 10}
    (warning,) = run.warnings
    assert warning.startswith("s/day: 10 rows were planned so far, and 'made' has none of them")
    assert planned(run.rows)["day"] == 20  # it is planned again: nothing else is wrong
    assert next(row for row in run.rows if row["skill"] == "day")["planned"] == 30
    nothing = run_stage(stage(before="plan", made="made"), {**given, "made": []})
    assert set(nothing.metrics["rows_lost"]) == {"s/day", "s/sub"}


def test_rows_that_say_nothing_are_counted(run_stage: Run) -> None:
    rows = answers(GAPS)
    rows[0]["error"] = "the engine failed"
    rows[2]["is_correct"] = None
    rows[1]["skills"] = []
    run = run_stage(stage(), {"exam": rows})
    assert run.dropped == {
        "an error upstream": 1, "is_correct is null": 1, "wrong, but without a skill": 1
    }  # fmt: skip
    assert planned(run.rows) == {"day": 11, "sub": 9, "add": 0, "mul": 0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"skills": []}, "no row of 'exam' names a skill in 'skills'; label the items"),
        ({"is_correct": None}, "no row of 'exam' can be planned from: each has an error, or no"),
        ({"error": "gone"}, "no row of 'exam' can be planned from"),
    ],
)
def test_answers_that_cannot_be_planned_from(run_stage: Run, change: Row, message: str) -> None:
    with pytest.raises(DataError, match=message):
        run_stage(stage(), {"exam": [{**row, **change} for row in answers(GAPS)]})


def test_wrong_answers_need_a_skill(run_stage: Run) -> None:
    rows = [{**row, "skills": row["skills"] if row["is_correct"] else []} for row in answers(GAPS)]
    with pytest.raises(DataError, match="10 answers of 'exam' are wrong, and none of them has a"):
        run_stage(stage(), {"exam": rows})


def test_what_is_needed_is_said_before_anything_runs() -> None:
    with pytest.raises(ValidationError, match="how many rows the plan of kind list asks for"):
        stage(n=None)
    with pytest.raises(ValidationError, match="leave n out"):
        stage(TREE, n=3)
    needed = stage(by="level", before="plan", made="all").required_columns()
    assert needed["exam"] == {"id", "is_correct", "level"}
    assert {"skill", "subskill", "planned", "round"} <= needed["plan"]
    assert needed["all"] == {"id", "skill"}
    tree = stage(TREE, made="all")
    assert tree.required_columns()["all"] == {"id", "skill", "subskill"}
    assert "synthesise and generate" in (tree.remedy("subskill") or "")
    assert stage("random").required_columns() == {"exam": {"id", "skills"}}
    assert stage(OPEN).most_asked({"exam": 5}) == {"t": (4, 1024)}
    assert (stage(TREE).most_asked({"exam": 5}), stage().most_asked({"exam": 5})) == (None, {})


def test_the_rehearsals_stand_in_can_answer_the_shipped_prompts(run_stage: Run) -> None:
    from llm_distill.rehearsal.answers import answer

    assert run_stage(stage(OPEN), {"exam": answers(GAPS)}, {"t": answer}).rows
    assert run_stage(stage(TREE), {"exam": answers(GAPS)}, {"t": answer}).rows
