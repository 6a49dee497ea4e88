"""The tutors' world: its splits, what is planted, and that its models are of its templates."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random

import pytest
import yaml
from frames import PLAIN, TURNS
from frames import make_splits as make_frames
from make_word_problems import as_jsonl
from solve_word_problems import solve
from train_tiny_models import bundled_questions
from train_tutoring_models import TEMPLATES
from tutoring import (
    ACTS,
    HELPED,
    MISTAKES,
    P_EXPLAINED,
    P_KNOWN,
    P_LACKING,
    P_MISLED,
    REMEDIES,
    REMEDY_OF,
    UNHELPED,
    Pupil,
    act_of,
    answer_in,
    case,
    chance_of_answer,
    chance_of_right,
    explanation,
    is_right,
    pupil_reply,
    remedy_in,
    remedy_text,
    talk,
    turn_text,
)
from tutoring_data import SEED, SIZES, make_splits
from tutoring_documents import pupil_document, tutor_document
from tutoring_judges import JUDGES, WORDY, verdicts

from llm_distill.methods.category_gate import category_kappas, one_against_rest
from llm_distill.prompts import load_template

ROOT = Path(__file__).resolve().parents[2]
CASES = [case(Random(n)) for n in range(300)]


def test_the_files_are_what_the_scripts_write() -> None:
    avoid = bundled_questions() | bundled_questions("word_tasks")
    splits = make_splits(SEED, avoid)
    for split, rows in splits.items():
        file = ROOT / f"data/tutoring/{split}.jsonl"
        assert file.read_text(encoding="utf-8") == as_jsonl(rows)
        assert len({row.get("dialogue", row["id"]) for row in rows}) == SIZES[split]
    questions = [
        question for rows in splits.values() for question in {row["question"] for row in rows}
    ]
    assert len(set(questions)) == len(questions)
    assert not set(questions) & avoid
    for split, rows in make_frames(33).items():
        file = ROOT / f"data/frames/{split}.jsonl"
        assert file.read_text(encoding="utf-8") == as_jsonl(rows)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_work_is_wrong_in_its_own_way(mistake: str) -> None:
    for found in CASES:
        if found.mistake != mistake:
            continue
        assert not is_right(found.work, found)
        assert solve(found.problem.question)[1] == found.problem.answer
        if mistake == "guess":
            assert re.fullmatch(r"<ans>\d+</ans>", found.work)
            continue
        a, sign, b, result = re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)\. <ans>", found.work)[0]
        is_calculated = eval(f"{a} {sign} {b} == {result}")
        right = re.findall(r"(\d+) ([-+*/]) (\d+) = \d+\.$", found.problem.formula)[0]
        if mistake == "result":
            assert (a, sign, b) == right
            assert not is_calculated
        elif mistake == "numbers":
            assert sign == right[1]
            assert (a, b) != (right[0], right[2])
            assert is_calculated
        else:
            assert sign != right[1]


def test_every_mistake_has_one_remedy() -> None:
    assert sorted(REMEDY_OF) == sorted(MISTAKES)
    for found in CASES[:40]:
        for remedy in REMEDIES:
            text = remedy_text(remedy, found)
            assert remedy_in(f"Good try. {text}") == remedy
            assert found.problem.answer not in re.findall(r"\d+", text) or remedy == "recount"
            helps = remedy == REMEDY_OF[found.mistake]
            assert chance_of_right(text, found.mistake) == (HELPED if helps else UNHELPED)


def test_acts_are_read_as_they_are_written() -> None:
    rng = Random(1)
    for act in ACTS:
        assert {act_of(turn_text(act, found, rng)) for found in CASES[:30]} == {act}


def test_a_told_pupil_says_what_it_was_told() -> None:
    rng = Random(1)
    for found in CASES[:30]:
        assert is_right(pupil_reply(turn_text("telling", found, rng), found, rng), found)


def test_the_expert_tells_last_and_the_novice_often() -> None:
    rng = Random(2)
    share = {}
    for tutor in ("expert", "novice"):
        turns = [t for found in CASES for t in talk(found, rng, tutor) if t["speaker"] == "tutor"]
        share[tutor] = sum(t["act"] == "telling" for t in turns) / len(turns)
    assert share["expert"] < 0.15
    assert 0.3 < share["novice"] < 0.6


def test_what_help_is_worth_for_a_pupil() -> None:
    who = Pupil(("subtraction", "division"), ("division",))
    assert who.profile == "lacks subtraction, division; no help with division"
    problems = {c.problem.skill: c.problem for c in CASES}
    chances = {
        skill: [chance_of_answer(who, problems[skill], how) for how in (None, "true", "misleading")]
        for skill in ("addition", "subtraction", "division")
    }
    assert chances == {
        "addition": [P_KNOWN, P_KNOWN, P_MISLED],
        "subtraction": [P_LACKING, P_EXPLAINED, P_MISLED],
        "division": [P_LACKING, P_LACKING, P_MISLED],
    }


def test_an_explanation_does_not_say_the_answer() -> None:
    for found in CASES:
        problem = found.problem
        said = re.findall(r"\d+", explanation(problem))
        asked = re.findall(r"\d+", problem.question)
        assert sorted(said) == sorted(asked)
        assert explanation(problem, "misleading") != explanation(problem)


def test_a_statement_turns_with_its_context() -> None:
    rows = make_frames(33)["test"]
    by_statement: dict[str, set[str]] = {}
    for row in rows:
        by_statement.setdefault(row["statement"], set()).add(row["reference_answer"])
    turning = {row["statement"] for row in rows if row["kind"] == "turns"}
    whole = [found for statement, found in by_statement.items() if statement in turning]
    assert sum(found == {"praise", "complaint"} for found in whole) >= len(whole) - 1
    assert len(TURNS) == len(PLAIN) == 4
    train = {row["statement"] for row in make_frames(33)["train"]}
    assert not train & set(by_statement)


@pytest.mark.parametrize("kind", ["tutor", "pupil"])
def test_a_model_s_templates_are_those_that_it_was_trained_on(kind: str) -> None:
    text = (ROOT / f"data/models/tiny-{kind}/README.md").read_text(encoding="utf-8")
    recorded = yaml.safe_load(text.split("---\n")[1])["template_digests"]
    names = [f"pupils/{name}.jinja" for name in TEMPLATES[kind]]
    changed = [name for name in names if recorded.get(name) != load_template(name).digest]
    assert not changed, (
        f"{', '.join(changed)} changed since tiny-{kind} was trained on it; rebuild it: "
        f"python scripts/train_tutoring_models.py {kind} && "
        f"python scripts/check_tutoring_world.py --only {kind} --write-cards"
    )
    assert "| figure | measured | has to be |" in text


def test_no_document_is_about_a_held_out_question() -> None:
    held_out = frozenset(c.problem.question for c in CASES)
    rng = Random(0)
    for document in (tutor_document, pupil_document):
        for _ in range(60):
            text = "".join(piece for piece, _ in document(rng, held_out))
            assert not any(f"Question: {question}" in text for question in held_out)


def test_declared_turns_follow_the_rule() -> None:
    for row in make_splits(SEED, frozenset())["declared_test"]:
        declared = json.loads(row["completion"])
        assert declared["action"] == ("hint" if row["n_tries"] < 3 else "solution")
        assert declared["evaluation"] == row["misconception"]
        assert sum(turn["speaker"] == "pupil" for turn in row["turns"]) == row["n_tries"]
        assert answer_in(row["turns"][0]["text"]) != row["reference_answer"]


def test_people_disagree_about_guesses_alone() -> None:
    """The planted kappas of two people are high but for a guess, and what it is taken for."""
    splits = make_splits(SEED, frozenset())
    rows = splits["work_train"] + splits["work_test"]
    people = [[[row[who]] for row in rows] for who in ("first_person", "second_person")]
    found = {
        label: category_kappas(first, [first, second])
        for label, (first, second) in one_against_rest(people).items()
    }
    kappas = {label: of.people.value for label, of in found.items() if of.people is not None}
    assert sorted(kappas, key=lambda label: kappas[label])[:2] == ["guess", "result"]
    assert kappas["guess"] < 0.8
    assert min(kappas[label] for label in ("none", "numbers", "operation")) > 0.9
    taken = {row["first_person"] for row in rows if row["misconception"] == "guess"}
    assert taken == {"guess", "result"}
    assert all(json.loads(r["annotation"]) == {"mistake": r["first_person"]} for r in rows)


def test_neither_place_nor_length_says_which_work_of_a_pair_is_right() -> None:
    rows = make_splits(SEED, bundled_questions() | bundled_questions("word_tasks"))["pairs"]
    for mistake in MISTAKES:
        of = [row for row in rows if row["misconception"] == mistake]
        first = [row["better"] == "a" for row in of]
        wordy = [WORDY in row[f"answer_{row['better']}"] for row in of]
        for sign in (first, wordy, [a == b for a, b in zip(first, wordy, strict=True)]):
            assert abs(sum(sign) - len(of) / 2) <= 1
    for judge in JUDGES:
        file = ROOT / f"data/tutoring/verdicts_{judge}.jsonl"
        assert file.read_text(encoding="utf-8") == as_jsonl(list(verdicts(rows, judge)))


def test_planted_judges_lean_to_what_they_should() -> None:
    rows = [
        {"id": f"{n}", "better": "ab"[n % 2], "answer_a": "long", "answer_b": "no"}
        for n in range(2000)
    ]
    for judge in JUDGES:
        said = ["AB".index(each["completion"][8]) for each in verdicts(rows, judge)]
        shown = [(row, order) for row in rows for order in ("ab", "ba")]
        first = sum(place == 0 for place in said) / len(said)
        right = [
            order[place] == row["better"] for place, (row, order) in zip(said, shown, strict=True)
        ]
        long_right = [
            hit for hit, (row, _) in zip(right, shown, strict=True) if row["better"] == "a"
        ]
        assert first == pytest.approx(0.65 if judge == "first" else 0.5, abs=0.03)
        share = {"fair": 0.9, "first": 0.78, "longer": 0.93}[judge]
        assert sum(long_right) / len(long_right) == pytest.approx(share, abs=0.03)


def test_mental_models_take_a_pupil_for_what_it_has_shown() -> None:
    def shown(skill: str, alone: str, helped: str) -> dict[str, object]:
        answers = {"reference_answer": "7", "answer_without": alone, "answer_with": helped}
        return {"skills": [skill], "question": "?", "explanation": "!", **answers}

    demonstrations = [
        shown("addition", "7", "7"),
        shown("subtraction", "9", "7"),
        shown("division", "9", "9"),
        shown("subtraction", "8", "7"),
        shown("addition", "6", "6"),  # a slip in two, and no gap
        shown("subtraction", "9", "6"),  # a slip with help
        shown("division", "7", "8"),
        shown("division", "8", "6"),
    ]
    values = {"demonstrations": demonstrations, "question": "Q", "explanation": "E"}
    who = Pupil(("subtraction", "division"), ("division",))
    asked = {"profile": Pupil(who.lacks, ()).profile, "question": "Q", "explanation": "E"}
    helped = {**asked, "profile": who.profile}
    for name, exam, values_of_exam in (
        ("mental_model", "exam", asked),
        ("mental_model_helped", "exam_helped", helped),
    ):
        found = load_template(f"pupils/{name}.jinja").render(values)
        assert found == load_template(f"pupils/{exam}.jinja").render(values_of_exam)
    nothing = load_template("pupils/mental_model.jinja").render({**values, "demonstrations": []})
    assert "lacks nothing." in nothing
