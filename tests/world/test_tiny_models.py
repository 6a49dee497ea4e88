from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from ask_tiny_model import complete, load
from check_world import accuracy, render, style_share
from make_word_problems import make_splits
from train_tiny_models import STRATEGIES, TEMPLATES
from word_problems import TASK_DESCRIPTION

from llm_distill.prompts import load_template

MODELS = Path(__file__).resolve().parents[2] / "data/models"
KINDS = ("teacher", "student")


@lru_cache
def loaded(kind: str) -> tuple[Any, Any]:
    return load(MODELS / f"tiny-{kind}")


def sample(count: int) -> list[dict[str, Any]]:
    return make_splits()["test"][:count]


def card(kind: str) -> dict[str, Any]:
    text = (MODELS / f"tiny-{kind}/README.md").read_text(encoding="utf-8")
    header: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return header


@pytest.mark.parametrize("kind", KINDS)
def test_templates_are_those_that_the_model_was_trained_on(kind: str) -> None:
    recorded = card(kind)["template_digests"]
    changed = [n for n in TEMPLATES[kind] if recorded.get(n) != load_template(n).digest]
    assert not changed, (
        f"{', '.join(changed)} changed since tiny-{kind} was trained on it; rebuild that model: "
        f"python scripts/train_tiny_models.py {kind} && "
        f"python scripts/check_world.py --only {kind} --write-cards"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_card_carries_measured_figures(kind: str) -> None:
    text = (MODELS / f"tiny-{kind}/README.md").read_text(encoding="utf-8")
    assert "| figure | measured | has to be |" in text, "run scripts/check_world.py --write-cards"


def test_models_are_small_and_safe() -> None:
    files = [file for kind in KINDS for file in (MODELS / f"tiny-{kind}").rglob("*")]
    assert sum(file.stat().st_size for file in files) < 12_000_000
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".jinja", ".md"}


def test_tokenizers_differ_and_have_what_trainers_need() -> None:
    teacher, student = (loaded(kind)[1] for kind in KINDS)
    assert teacher.get_vocab() != student.get_vocab()
    for tokenizer in (teacher, student):
        assert tokenizer.chat_template
        assert tokenizer.pad_token != tokenizer.eos_token
        text = "Ünal has 12 pens.\n\nAnswer: <ans>7</ans>  €"
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize("kind", KINDS)
def test_no_token_spans_the_end_of_a_prompt(kind: str) -> None:
    tokenizer = loaded(kind)[1]
    prompt = render(
        "arte/exam.jinja", "Ann has 3 pens and loses 2 of them. How many pens are left?"
    )
    for completion in (" 3 - 2 = 1. <ans>1</ans>", " <ans>1</ans>", " Looking", " 1. Start"):
        parts = tokenizer(prompt)["input_ids"] + tokenizer(completion)["input_ids"]
        assert tokenizer(prompt + completion)["input_ids"] == parts


@pytest.mark.parametrize("kind", KINDS)
def test_heads_are_wide_enough_and_the_context_is_long(kind: str) -> None:
    config = loaded(kind)[0].config
    assert config.hidden_size // config.num_attention_heads >= 32
    assert config.max_position_embeddings >= 512


def test_the_exam_has_the_form_of_the_paper() -> None:
    rows = [{"question": "Q1?", "rationale": "R1. <ans>1</ans>"}]
    assert render("arte/exam.jinja", "Q2?", rows) == (
        f"{TASK_DESCRIPTION}\n\nQuestion: Q1?\nAnswer: Let's think step by step. R1. <ans>1</ans>"
        "\n\nQuestion: Q2?\nAnswer: Let's think step by step."
    )


def test_the_teacher_solves_and_the_student_does_not_yet() -> None:
    rows = sample(200)
    questions = [row["question"] for row in rows]
    texts = complete(
        loaded("teacher"), [render("arte/rationale.jinja", q) for q in questions], True
    )
    assert accuracy(rows, texts) >= 0.85
    texts = complete(loaded("student"), [render("arte/exam.jinja", q) for q in questions], False)
    assert 0.15 <= accuracy(rows, texts) <= 0.5


def test_the_teacher_explains_in_the_style_that_a_strategy_asks_for() -> None:
    questions = [row["question"] for row in sample(16)]
    for template, style in STRATEGIES.items():
        texts = complete(loaded("teacher"), [render(template, q) for q in questions], True)
        assert style_share(texts, style) >= 0.85, (template, texts)
