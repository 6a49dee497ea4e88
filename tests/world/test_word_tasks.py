"""The world with four tasks: its splits, what is planted, and the models that live in it."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest
import yaml
from ask_tiny_model import complete, load
from check_world import accuracy, example, exams_after, render
from make_word_problems import as_jsonl
from solve_word_problems import solve
from train_task_models import GROUPS, TEMPLATES, student_document
from train_tiny_models import bundled_questions, question_or_turn, teacher_document
from word_problems import SKILLS, STYLES, copy_riddle, explain, is_copy_riddle
from word_tasks import HELPS, SIZES, TASK_OF, TASKS, is_careless, make_splits

from llm_distill.prompts import load_template

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data/word_tasks"
MODELS = ROOT / "data/models"


def test_the_files_are_what_the_script_writes() -> None:
    splits = make_splits(avoid=bundled_questions())
    for split, rows in splits.items():
        assert (DATA / f"{split}.jsonl").read_text(encoding="utf-8") == as_jsonl(rows)
        tasks = [row["task"] for row in rows]
        assert {task: tasks.count(task) for task in TASKS} == dict.fromkeys(TASKS, SIZES[split])


def test_no_question_is_shared() -> None:
    splits = make_splits(avoid=bundled_questions())
    questions = [row["question"] for rows in splits.values() for row in rows]
    assert len(set(questions)) == len(questions)
    assert not set(questions) & bundled_questions()
    assert set(questions) == bundled_questions("word_tasks")


def test_each_task_has_its_own_best_style() -> None:
    assert set(TASK_OF) == set(SKILLS)
    assert len(set(HELPS.values())) > 1
    rng = Random(3)
    for skill, draw in SKILLS.items():
        problems = [draw(rng) for _ in range(40)]
        careless = {
            style: sum(is_careless(p, style) for p in problems) / len(problems) for style in STYLES
        }
        best = HELPS[TASK_OF[skill]]
        assert careless.pop(best) == 0
        assert careless.pop("empty") == 1
        assert all(0.2 < share < 0.8 for share in careless.values())
        second = [p for p in problems if p.wording == 1]
        assert all(is_careless(p, best, aside=True) for p in second)


def test_drafts_are_of_the_task_of_their_examples() -> None:
    rng = Random(4)
    for _ in range(60):
        document = teacher_document(rng, frozenset(), drafts=1.0, groups=GROUPS)
        shown = re.findall("<input>(.+?)</input>", document[1][0])
        tasks = {TASK_OF[solved[0]] for question in shown if (solved := solve(question))}
        (drafted,) = re.findall("<input>(.+?)</input>", document[3][0])
        assert len(tasks) == 1
        found = solve(drafted)
        assert is_copy_riddle(drafted) or (found and TASK_OF[found[0]] in tasks)


def test_training_never_reads_a_bundled_question() -> None:
    held_out = bundled_questions() | bundled_questions("word_tasks")
    rng = Random(5)
    for _ in range(300):
        for document in (
            student_document(rng, held_out),
            teacher_document(rng, held_out, groups=GROUPS),
            question_or_turn(rng, held_out, 0.5, GROUPS),
        ):
            text = "".join(piece for piece, _ in document)
            read = {line.removeprefix("Question: ") for line in re.split(r"\n|</?input>", text)}
            assert not read & held_out


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_the_card_is_up_to_date(kind: str) -> None:
    text = (MODELS / f"tiny-task-{kind}/README.md").read_text(encoding="utf-8")
    recorded = yaml.safe_load(text.split("---\n")[1])["template_digests"]
    assert recorded == {name: load_template(name).digest for name in TEMPLATES[kind]}
    assert "| figure | measured | has to be |" in text


def test_the_student_learns_from_another_style_in_each_task() -> None:
    loaded = load(MODELS / "tiny-task-student")
    rng = Random(6)
    rows = make_splits(avoid=bundled_questions())["validation"]
    for task, skills in TASKS.items():
        items = [row for row in rows if row["task"] == task]
        score = {}
        for style in ("steps", "formula"):
            shown = [example(SKILLS[rng.choice(skills)](rng), style, rng) for _ in items]
            score[style] = accuracy(items, complete(loaded, exams_after(items, shown), False))
        other = "steps" if HELPS[task] == "formula" else "formula"
        assert score[HELPS[task]] > score[other], task


def test_the_teacher_solves() -> None:
    rows = make_splits(avoid=bundled_questions())["test"][:128]
    prompts = [render("arte/rationale.jinja", row["question"]) for row in rows]
    texts = complete(load(MODELS / "tiny-task-teacher"), prompts, True)
    assert accuracy(rows, texts) >= 0.8


def test_a_riddle_is_answered_in_every_style() -> None:
    """Riddles have no task of their own; a careless author guesses them only without content."""
    rng = Random(7)
    riddle = copy_riddle(rng)
    for style in STYLES:
        assert is_careless(riddle, style) == (style == "empty")
        assert riddle.answer in explain(riddle, style, rng)
