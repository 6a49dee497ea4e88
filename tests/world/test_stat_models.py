from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from ask_tiny_model import answer_of, load
from check_stat_world import answers, ask, named, step_scores
from check_world import by_skill
from make_word_problems import make_splits
from stat_documents import STEP_BOUNDARY
from train_stat_models import TEMPLATES
from train_tiny_models import MISSING_SKILLS
from word_problems import SKILLS

from llm_distill.methods.difficulty import by_rewards
from llm_distill.methods.parsing import read_tag, split_steps
from llm_distill.prompts import load_template

MODELS = Path(__file__).resolve().parents[2] / "data/models"
KINDS = tuple(TEMPLATES)


@lru_cache
def loaded(kind: str) -> tuple[Any, Any]:
    return load(MODELS / f"tiny-stat-{kind}")


def sample(count: int) -> list[dict[str, Any]]:
    return make_splits()["test"][:count]


@lru_cache
def student_answers() -> list[str]:
    return answers(MODELS / "tiny-stat-student", sample(64))


@pytest.mark.parametrize("kind", KINDS)
def test_the_card_is_of_these_templates_and_measured(kind: str) -> None:
    text = (MODELS / f"tiny-stat-{kind}/README.md").read_text(encoding="utf-8")
    recorded = yaml.safe_load(text.split("---\n")[1]).get("template_digests", {})
    changed = [n for n in TEMPLATES[kind] if recorded.get(n) != load_template(n).digest]
    assert not changed, (
        f"{', '.join(changed)} changed since tiny-stat-{kind} was trained on it; rebuild that "
        f"model: python scripts/train_stat_models.py {kind} && "
        f"python scripts/check_stat_world.py --only {kind} --write-cards"
    )
    assert "| figure | measured | has to be |" in text, "run check_stat_world.py --write-cards"


def test_models_are_small_and_safe() -> None:
    files = [file for kind in KINDS for file in (MODELS / f"tiny-stat-{kind}").rglob("*")]
    assert sum(file.stat().st_size for file in files) < 12_000_000
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".jinja", ".md"}


def test_the_student_lacks_what_was_planted_and_only_that() -> None:
    found = by_skill(sample(64), student_answers())
    assert all((found[skill] < 0.2) == (skill in MISSING_SKILLS) for skill in SKILLS), found


def test_the_teacher_names_skills() -> None:
    rows = sample(32)
    values = [
        {"skills": list(SKILLS), "question": row["question"], "max_skills": 5} for row in rows
    ]
    labels = [set(named(text)) for text in ask(loaded("teacher"), "label_skills", values)]
    assert sum(a == set(r["skills"]) for a, r in zip(labels, rows, strict=True)) >= 30


def test_the_teacher_says_what_is_missing() -> None:
    rows = sample(64)
    values = [
        {
            "skills": list(SKILLS),
            "question": row["question"],
            "completion": text.strip(),
            "max_skills": 3,
        }
        for row, text in zip(rows, student_answers(), strict=False)
    ]
    said = ask(loaded("teacher"), "find_missing_skills", values, max_new_tokens=112)
    lacking = [
        (row["skills"][0], named(text))
        for row, text in zip(rows, said, strict=True)
        if read_tag(text, "judge") == "incorrect" and row["skills"][0] in MISSING_SKILLS
    ]
    assert len(lacking) >= 12  # of 16
    assert sum([skill] == found for skill, found in lacking) >= len(lacking) - 1


def test_the_reward_model_doubts_wrong_answers_and_not_all_right_ones() -> None:
    """With the paper's thresholds."""
    rows, texts = sample(64), student_answers()
    cut = [(r["question"], split_steps(t, STEP_BOUNDARY)) for r, t in zip(rows, texts, strict=True)]
    doubted: dict[bool, list[bool]] = {True: [], False: []}
    for scores, text, row in zip(step_scores(loaded("reward"), cut), texts, rows, strict=True):
        is_right = answer_of(text) == row["reference_answer"]
        doubted[is_right].append(by_rewards("?", scores, 0.85, 0.7) is not None)
    assert sum(doubted[False]) >= len(doubted[False]) - 1 >= 12
    assert sum(doubted[True]) <= 0.75 * len(doubted[True])
