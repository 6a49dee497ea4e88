"""revise_examples: students who add rightly after a good example, and a teacher who writes some."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_distill.engines.base import Request
from llm_distill.errors import DataError
from llm_distill.stages.revise_examples import ReviseExamples

Run = Callable[..., Any]
EXAM = "{% for e in examples %}Question: {{ e.question }}\nAnswer: {{ e.rationale }}\n{% endfor %}Question: {{ question }}"  # noqa: E501
ITEMS = [{"id": f"t{i}", "question": f"{i} + 1?", "reference_answer": str(i + 1)}
         for i in range(20)]  # fmt: skip
EXAMPLES = [{"id": f"s{i}", "question": f"9{i} + 1?", "rationale": "bad"} for i in range(2)]


def text_of(request: Request) -> str:
    prompt = request.prompt
    return prompt if isinstance(prompt, str) else prompt[0]["content"]


def student(request: Request) -> str:
    """Right for even numbers, and for all after a good example."""
    text = text_of(request)
    number = int(text.rsplit("Question: ", 1)[1].split(" ")[0])
    return f"<ans>{number + 1 if 'good' in text or number % 2 == 0 else 'no'}</ans>"


def teacher(request: Request) -> str:
    """Writes a good example about 5, a wrong one about 7, and of others poor ones."""
    number = int(text_of(request).split(" ")[0])
    kind = "good" if number == 5 else "poor"
    return f"{kind} <ans>{number + 1 + (number == 7)}</ans>"


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., ReviseExamples]:
    (tmp_path / "exam.jinja").write_text(EXAM)
    asked = "{{ question }} {{ completion }} {{ examples[0].question }}"
    (tmp_path / "reflect.jinja").write_text(asked)

    def make(**settings: Any) -> ReviseExamples:
        return ReviseExamples(
            **{"stage": "revise_examples", "rows": "rows", "items": "items", "models": ["one"],
               "template": str(tmp_path / "exam.jinja"), "teacher": "teacher", "n": 99,
               "revise_template": str(tmp_path / "reflect.jinja"), **settings}
        )  # fmt: skip

    return make


def test_the_best_set_is_passed_on(run_stage: Run, stage: Callable[..., ReviseExamples]) -> None:
    seen = []
    first_shown = set()

    def listens(request: Request) -> str:
        seen.append(text_of(request))
        return teacher(request)

    def looks(request: Request) -> str:
        first_shown.add(text_of(request).split(" ")[1])
        return student(request)

    given = {"rows": EXAMPLES, "items": ITEMS}
    run = run_stage(stage(), given, {"one": looks, "teacher": listens})
    assert sorted(seen) == sorted(f"{n} + 1? <ans>no</ans> 90 + 1?" for n in range(1, 20, 2))
    assert first_shown >= {"90", "91"}  # in any order
    assert len(run.rows) == 2
    (new,) = (row for row in run.rows if row["id"] == "t5")
    assert (new["rationale"], new["reference_answer"]) == ("good <ans>6</ans>", "6")
    assert {row["id"] for row in run.rows} & {"s0", "s1"}
    # Nine right examples have been written, of odd numbers: the ten even ones and 7 are compared.
    assert run.metrics["items_compared"] == 11
    assert run.metrics["accuracy_before"] == pytest.approx(10 / 11)
    assert run.metrics["accuracy"] == 1.0
    assert {row["score"] for row in run.rows} == {1.0}
    assert run.dropped == {"an example with a wrong answer": 1}


def test_answers_in_any_form(run_stage: Run, stage: Callable[..., ReviseExamples]) -> None:
    """Without a tag nobody is right, and no example is taken; read in any form as with tags."""

    def untagged(asked: Callable[[Request], str]) -> Callable[[Request], str]:
        return lambda request: asked(request).replace("<ans>", "#### ").replace("</ans>", "")

    given = {"rows": EXAMPLES, "items": ITEMS}
    engines = {"one": untagged(student), "teacher": untagged(teacher)}
    for place, best in (("tag", 0.0), ("any", 1.0)):
        made = stage(answer_kind="math", answer_in=place)
        run = run_stage(made, given, engines)
        assert {row["score"] for row in run.rows} == {best}, place


def test_without_a_gain_the_set_stays(run_stage: Run, stage: Callable[..., ReviseExamples]) -> None:
    given = {"rows": EXAMPLES, "items": ITEMS}
    poor = {"one": student, "teacher": lambda r: f"x <ans>{int(text_of(r).split()[0]) + 1}</ans>"}
    run = run_stage(stage(n=3), given, poor)
    assert [row["id"] for row in run.rows] == ["s0", "s1"]
    assert len(run.metrics["accuracies"]) == 4
    perfect = {"one": lambda r: f"<ans>{int(text_of(r).rsplit('Question: ')[-1].split()[0]) + 1}"}
    run = run_stage(stage(), given, {**perfect, "teacher": teacher})
    assert (run.metrics["failures"], run.metrics["accuracy"]) == (0, 1.0)
    assert [row["id"] for row in run.rows] == ["s0", "s1"]


def test_failures_of_all_students_count(
    run_stage: Run, stage: Callable[..., ReviseExamples]
) -> None:
    never = {"one": student, "two": lambda _: "dunno", "teacher": teacher}
    given = {"rows": EXAMPLES, "items": ITEMS}
    run = run_stage(stage(models=["one", "two"], n=2), given, never)
    assert run.metrics["failures"] == 10 + 20
    assert run.metrics["accuracy_before"] <= 0.5


def test_items_that_the_set_shows_are_not_asked(
    run_stage: Run, stage: Callable[..., ReviseExamples]
) -> None:
    shown = [{**ITEMS[0], "rationale": "bad"}]
    asked = set()

    def listens(request: Request) -> str:
        asked.add(text_of(request).rsplit("Question: ", 1)[1])
        return student(request)

    given = {"rows": shown, "items": ITEMS}
    run_stage(stage(n=1), given, {"one": listens, "teacher": teacher})
    assert "0 + 1?" not in asked
    with pytest.raises(DataError, match="every item of 'items' is among the examples"):
        run_stage(stage(), {"rows": shown, "items": ITEMS[:1]}, {"one": student})
    empty = [{**EXAMPLES[0], "rationale": " "}]
    with pytest.raises(DataError, match="example s0 of 'rows' has no question or rationale"):
        run_stage(stage(), {"rows": empty, "items": ITEMS}, {"one": student})
