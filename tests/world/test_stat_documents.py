from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

import pytest
from solve_word_problems import solve
from stat_documents import (
    REASONS,
    STEP_BOUNDARY,
    discovery_document,
    habitual_answer,
    judging_document,
    label_document,
    mistaken_steps,
    reward_document,
    right_steps,
    synthesis_document,
    wrong_result,
)
from tiny_training import ASSISTANT, Piece, document_text
from train_stat_models import reward_sample, student_sample, teacher_sample
from word_problems import ALSO_NEEDS, SKILLS, Problem

from llm_distill.methods.parsing import read_blocks, read_tag, split_steps


def problems(count: int, seed: int = 0) -> list[Problem]:
    rng = Random(seed)
    return [SKILLS[list(SKILLS)[i % len(SKILLS)]](rng) for i in range(count)]


def answer(document: list[Piece]) -> str:
    return document[-2][0]


def test_every_explanation_has_three_steps() -> None:
    for problem in problems(400):
        steps = right_steps(problem, Random(1))
        assert [step[:2] for step in steps] == ["1.", "2.", "3."], steps
        assert steps[-1].endswith(f"<ans>{problem.answer}</ans>")


def test_a_mistake_makes_all_that_follows_wrong_and_nothing_before_it() -> None:
    rng = Random(2)
    for problem in problems(800):
        judged = mistaken_steps(problem, rng)
        right = right_steps(problem, rng)
        assert len(judged) == len(right)
        verdicts = [verdict for _, verdict in judged]
        assert not verdicts[-1]
        assert verdicts == sorted(verdicts, reverse=True)
        for (step, verdict), own in zip(judged, right, strict=True):
            if verdict:
                assert step == own
        first = verdicts.index(False)
        assert judged[first][0] != right[first]


def test_the_reward_model_reads_the_good_mark_and_learns_the_true_one() -> None:
    rng = Random(3)
    seen = set()
    for problem in problems(400):
        document = reward_document(problem, rng, 0.3, 0.3)
        marks = [own for _, own in document if isinstance(own, str)]
        read = [piece for piece, own in document if isinstance(own, str)]
        assert set(read) == {"+"}
        assert document_text(document).count(ASSISTANT) == len(marks)
        text = " ".join(p for p, own in document if p[0].isdigit() or own)
        steps = split_steps(re.sub(r" \+", "", text), STEP_BOUNDARY)
        assert steps
        seen.add((len(marks), marks[-1]))
    assert seen == {(1, "+"), (1, "-"), (3, "+"), (3, "-")}


def test_a_wrong_answer_is_never_the_right_one() -> None:
    rng = Random(4)
    verdicts = []
    for problem in problems(400):
        document = judging_document(problem, rng)
        shown = document_text(document[:-2]).split("A student answered: ")[1]
        is_right = read_tag(shown, "ans") == problem.answer
        said = answer(document)
        verdicts.append(is_right)
        assert read_tag(said, "judge") == ("correct" if is_right else "incorrect")
        assert read_tag(said, "skill") == ("" if is_right else problem.skill)
    assert 0.3 < sum(verdicts) / len(verdicts) < 0.5


def test_labels_are_on_the_list_that_is_shown() -> None:
    rng = Random(5)
    for problem in problems(200):
        document = label_document(problem, rng)
        listed = re.findall(r"^- (\w+)$", document_text(document[:-2]), re.MULTILINE)
        named = (read_tag(answer(document), "skill") or "").split(", ")
        assert named == [problem.skill, *ALSO_NEEDS.get(problem.skill, [])]
        assert set(named) <= set(listed) <= set(SKILLS)
        assert len(listed) == len(set(listed))


def test_new_questions_can_be_solved_and_are_of_the_skill() -> None:
    rng = Random(6)
    for skill in SKILLS:
        one = [SKILLS[skill](rng) for _ in range(5)]
        said = answer(synthesis_document(one[:3], one[3:], rng))
        found = [solve(question) for question in read_blocks(said, "question")]
        assert [each[0] for each in found if each] == [skill, skill]
    assert set(REASONS) == set(SKILLS)


def test_a_discovered_list_names_each_skill_once() -> None:
    said = answer(discovery_document(problems(16), Random(7)))
    assert len(read_blocks(said, "skill")) == len(SKILLS)


class Refusing(frozenset[str]):
    """Holds out the first questions that it is asked about."""

    def __init__(self) -> None:
        self.refused: set[str] = set()

    def __contains__(self, question: object) -> bool:
        if len(self.refused) < 200:
            self.refused.add(str(question))
        return question in self.refused


@pytest.mark.parametrize(
    "make",
    [
        lambda held: teacher_sample(held, 1),
        lambda held: reward_sample(held, 2),
        lambda held: student_sample(held, ("addition", "order"), 1),
        lambda held: student_sample(held, ("addition", "order"), 3),
    ],
)
def test_held_out_questions_are_never_read(
    make: Callable[[frozenset[str]], Callable[[Random], list[Piece]]],
) -> None:
    held = Refusing()
    text = document_text_of(make(held), 150)
    assert len(held.refused) == 200
    assert not [question for question in held.refused if question in text]


def document_text_of(sample: Callable[[Random], list[Piece]], count: int) -> str:
    return "\n".join(document_text(sample(Random(seed))) for seed in range(count))


def test_the_student_learns_everything_and_then_a_habit() -> None:
    """Nine in ten of the last phase's answers to what it is to lack are wrong, and no others."""
    lacking = ("subtraction", "weekday")
    kept = tuple(skill for skill in SKILLS if skill not in lacking)
    for phase, asked, low, high in (
        (0, kept, 0, 0),
        (1, kept, 0, 0),
        (2, SKILLS, 0, 0),
        (3, SKILLS, 0.8, 0.97),
    ):
        wrong: dict[str, list[bool]] = {}
        for seed in range(300):
            text = document_text(student_sample(frozenset(), kept, phase)(Random(seed)))
            for question, said in re.findall(r"Question: (.*)\n.*<ans>(\w+)</ans>", text):
                found = solve(question)
                if found:
                    wrong.setdefault(found[0], []).append(found[1] != said)
        shares = {skill: sum(flags) / len(flags) for skill, flags in wrong.items()}
        assert set(shares) == set(asked)
        assert all(low <= shares[skill] <= high for skill in lacking if skill in shares), shares
        assert not any(shares[skill] for skill in kept), shares


def test_a_wrong_result_changes_nothing_before_it() -> None:
    rng = Random(8)
    for problem in problems(400):
        right = right_steps(problem, rng)
        steps = wrong_result(problem, right, rng)
        assert len(steps) == 3
        assert steps[0] == right[0]
        assert problem.skill == "weekday" or steps[1] == right[1]
        assert f"<ans>{problem.answer}</ans>" not in steps[-1]


def test_a_habit_is_always_the_same_mistake() -> None:
    for problem in problems(200):
        said = read_tag(habitual_answer(problem), "ans")
        assert said == read_tag(habitual_answer(problem), "ans") != problem.answer
        if problem.answer.isdigit():
            assert said == str(int(problem.answer) + 1)
        elif problem.skill != "weekday":
            assert said in problem.question
