"""discover_skills: which questions are shown, and what becomes of the names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.engines.base import Request
from llm_distill.errors import DataError
from llm_distill.methods.skill_list import read_skill_list
from llm_distill.stages.discover_skills import DiscoverSkills

Run = Callable[..., Any]

ROWS = [
    {"id": f"{task}{i}", "task": task, "question": f"{task} question {i};"}
    for task, n in (("sums", 10), ("dates", 3))
    for i in range(n)
]


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., DiscoverSkills]:
    path = tmp_path / "discover.jinja"
    path.write_text("{{ about }}\n{% for q in questions %}\n{{ q }}\n{% endfor %}")

    def make(**settings: Any) -> DiscoverSkills:
        settings = {"variables": {"about": "Name skills."}, **settings}
        return DiscoverSkills(
            stage="discover_skills", rows="rows", model="m", template=str(path), **settings
        )

    return make


def shown(request: Request) -> list[str]:
    return re.findall(r"\w+ question \d+", request.prompt[0]["content"])


def test_questions_are_shown_some_at_a_time_and_of_one_task(
    run_stage: Run, stage: Callable[..., DiscoverSkills]
) -> None:
    asked: list[list[str]] = []

    def answer(request: Request) -> str:
        asked.append(shown(request))
        assert request.prompt[0]["content"].startswith("Name skills.")
        return "<skill>reading</skill>"

    run = run_stage(stage(questions_per_request=4), {"rows": ROWS}, {"m": answer})
    assert sorted(map(len, asked)) == [2, 3, 4, 4]
    assert all(len({q.split()[0] for q in questions}) == 1 for questions in asked)
    assert len({q for questions in asked for q in questions}) == 13
    assert run.metrics["requests"] == 4
    assert run.rows == [
        {"id": "sums/reading", "task": "sums", "skill": "reading", "count": 3},
        {"id": "dates/reading", "task": "dates", "skill": "reading", "count": 1},
    ]


def test_of_many_questions_some_are_drawn_and_every_task_has_its_share(
    run_stage: Run, stage: Callable[..., DiscoverSkills]
) -> None:
    def drawn(seed: int, rows: list[dict[str, Any]], n: int) -> set[str]:
        asked: set[str] = set()

        def answer(request: Request) -> str:
            asked.update(shown(request))
            return "<skill>a</skill>"

        run = run_stage(stage(n_questions=n), {"rows": rows}, {"m": answer}, seed=seed)
        assert run.metrics["questions_shown"] == n == len(asked)
        return asked

    assert Counter(q.split()[0] for q in drawn(1, ROWS, 4)) == {"sums": 2, "dates": 2}
    assert Counter(q.split()[0] for q in drawn(1, ROWS, 9)) == {"sums": 6, "dates": 3}
    assert drawn(1, ROWS[::-1], 4) == drawn(1, ROWS, 4)
    assert any(drawn(seed, ROWS, 4) != drawn(1, ROWS, 4) for seed in (2, 3, 4))
    with pytest.raises(DataError, match="n_questions: 1 is less than one for each of 2 tasks"):
        run_stage(stage(n_questions=1), {"rows": ROWS}, {"m": lambda r: ""})


def test_names_are_merged_counted_and_cut(
    run_stage: Run, stage: Callable[..., DiscoverSkills]
) -> None:
    answers = iter(
        [
            "<skill>Fractions</skill> <skill>fractions</skill> <skill>Adding</skill>",
            "1. <skill>fraction</skill>\n2. <skill>adding, taking away</skill>",
            f"<skill>fractions</skill><skill>{'long ' * 13}</skill> <skill>...</skill>",
            "I see no skill",
        ]
    )
    settings = stage(questions_per_request=3)
    run = run_stage(settings, {"rows": ROWS[:10]}, {"m": lambda r: next(answers)})
    assert [(row["skill"], row["count"]) for row in run.rows] == [
        ("fractions", 3), ("adding", 2), ("taking_away", 1)
    ]  # fmt: skip
    assert run.metrics["merged"] == {"sums/fraction": "fractions"}
    assert (run.metrics["unreadable"], run.metrics["names_too_long"]) == (1, 1)
    assert settings.output_columns({}) == set(run.features)


def test_an_answer_that_names_a_skill_in_two_spellings_names_it_once(
    run_stage: Run, stage: Callable[..., DiscoverSkills]
) -> None:
    both = "<skill>fraction</skill> <skill>Fractions</skill>"
    run = run_stage(stage(), {"rows": ROWS[:1]}, {"m": lambda r: both})
    assert [row["count"] for row in run.rows] == [1]


@pytest.mark.parametrize(
    ("settings", "kept"),
    [({"min_count": 2}, ["b", "a"]), ({"max_skills": 1}, ["b"]), ({}, ["b", "a", "c"])],
)
def test_rare_names_and_those_beyond_the_most_are_counted(
    run_stage: Run,
    stage: Callable[..., DiscoverSkills],
    settings: dict[str, Any],
    kept: list[str],
) -> None:
    texts = ["b, a", "b, a, c", "b"]
    answers = iter([f"<skill>{text}</skill>" for text in texts])
    made = stage(questions_per_request=1, **settings)
    run = run_stage(made, {"rows": ROWS[:3]}, {"m": lambda r: next(answers)})
    assert [row["skill"] for row in run.rows] == kept
    left = run.metrics["below_min_count"], run.metrics["over_max_skills"]
    assert left == (("min_count" in settings) * 1, ("max_skills" in settings) * 2)


def test_the_list_lies_beside_the_rows(
    run_stage: Run, stage: Callable[..., DiscoverSkills], tmp_path: Path
) -> None:
    run = run_stage(stage(), {"rows": ROWS}, {"m": lambda r: "<skill>B b, a</skill>"})
    text = run.files["skills.yaml"]
    assert read_skill_list(text, "x") == {"sums": ["a", "b_b"], "dates": ["a", "b_b"]}
    without_task = [{"id": "q", "question": "lone question 1"}]
    run = run_stage(stage(), {"rows": without_task}, {"m": lambda r: "<skill>a</skill>"})
    assert run.rows == [{"id": "a", "task": "", "skill": "a", "count": 1}]
    assert read_skill_list(run.files["skills.yaml"], "x") == {"": ["a"]}


def test_nothing_found_and_nothing_to_show(
    run_stage: Run, stage: Callable[..., DiscoverSkills]
) -> None:
    with pytest.raises(
        DataError, match=r"not name any skill for task 'sums' .*1 of 1 answers have no closed <ski"
    ):
        run_stage(stage(), {"rows": ROWS[:1]}, {"m": lambda r: "none <skill>a"})
    with pytest.raises(DataError, match=r"in at least 2 of its answers \(1 in fewer\)"):
        run_stage(stage(min_count=2), {"rows": ROWS[:1]}, {"m": lambda r: "<skill>a</skill>"})
    blank = [{"id": "1", "question": " "}, {"id": "2", "question": None}]
    with pytest.raises(DataError, match="no row of 'rows' has a question"):
        run_stage(stage(), {"rows": blank}, {"m": lambda r: "<skill>a</skill>"})
    some = run_stage(stage(), {"rows": [*blank, ROWS[0]]}, {"m": lambda r: "<skill>a</skill>"})
    assert some.metrics["questions_unusable"] == 2
