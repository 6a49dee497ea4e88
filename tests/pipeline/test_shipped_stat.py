"""STAT's traps in the shipped files: what is trained on, what is compared, what the paper says."""

from __future__ import annotations

from typing import Any

import pytest

from llm_distill.paths import bundled_root
from llm_distill.pipeline.load import load_pipeline
from llm_distill.stage import references

SIZES = ("", "_paper")


def stages(name: str) -> dict[str, Any]:
    return dict(load_pipeline(str(bundled_root() / "pipelines" / f"{name}.yaml")).stages)


def upstream(found: dict[str, Any], name: str, but: tuple[str, ...] = ()) -> set[str]:
    """Every stage that a stage's rows come from, by way of rows; `but` these stages' inputs."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        stage = waiting.pop()
        if stage in seen:
            continue
        seen.add(stage)
        if stage not in but:
            waiting += [
                target
                for place, target, kind in references(found[stage])
                if kind == "rows" and not place.startswith("against")
            ]
    return seen


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["stat_sel", "stat_syn", "stat_controls", "stat_continual"])
def test_nothing_is_trained_on_validation_or_test(name: str, size: str) -> None:
    found = stages(name + size)
    judging = tuple(
        n for n, s in found.items() if s.stage in ("skill_profile", "find_missing_skills")
    )
    trained = [stage for stage in found.values() if stage.stage == "train_sft"]
    assert trained
    for stage in trained:
        rows = upstream(found, stage.rows, but=judging)
        assert "train" in rows
        assert not rows & {"validation", "test"}
    for each in found.values():
        if each.stage in ("select_by_skill", "synthesise"):
            assert each.questions is not None  # which are compared with what is drawn
        if each.stage == "decontaminate":
            assert set(each.against) == {"validation", "test"}
    assert found["exam"].rows == "test"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["stat_sel", "stat_syn", "stat_controls"])
def test_students_differ_in_their_rows_only_and_the_control_comes_first(
    name: str, size: str
) -> None:
    found = stages(name + size)
    trained = {n: s for n, s in found.items() if s.stage == "train_sft"}
    settings = [s.model_dump(exclude={"rows", "if_no_rows"}) for s in trained.values()]
    assert all(own == settings[0] for own in settings)
    assert found["exam"].models == ["random_student", "student", "tailored_student"]
    sizes = {s.n for n, s in found.items() if n.endswith("_sized")}
    assert len(sizes) == 1


@pytest.mark.parametrize("name", ["stat_sel", "stat_syn", "stat_controls", "stat_continual"])
def test_the_papers_settings(name: str) -> None:
    found = stages(f"{name}_paper")
    assert found["answers"].sampling.temperature == 0.1
    assert found["answers"].shots == 0
    for each in found.values():
        if each.stage == "assess":
            difficulty = each.difficulty
            assert (difficulty.answer_threshold, difficulty.step_threshold) == (0.85, 0.7)
        if each.stage == "select_by_skill":
            assert (each.draws, each.n) == (5, None)
        if each.stage == "train_sft":
            assert (each.num_train_epochs, each.lr_scheduler_type, each.warmup_steps) == (
                3, "cosine", 0.03,
            )  # fmt: skip
            assert each.per_device_train_batch_size * each.gradient_accumulation_steps == 8
            assert (each.max_grad_norm, each.weight_decay) == (0.3, 0.1)
            assert (each.peft.r, each.peft.lora_alpha, each.peft.lora_dropout) == (16, 32, 0.05)
            assert found[each.rows].n == 9500
    assert found["missing"].max_questions == 500
    assert found["labelled"].max_skills == 5


def test_stat_syn_as_in_the_paper() -> None:
    found = stages("stat_syn_paper")
    assert (found["new_questions"].n_references, found["new_questions"].n_questions) == (3, 2)
    assert (found["new_answers"].n, found["agreed"].min_agreement) == (3, 2)
    assert found["new_answers"].parse.on_failure == "keep"  # an unreadable answer counts as one
    assert upstream(found, "references") >= {"labelled", "train"}


def test_each_round_profiles_the_student_that_it_trained() -> None:
    found = stages("stat_continual")
    for k in (1, 2, 3):
        before = "student" if k == 1 else f"trained@{k - 1}"
        assert found[f"trained@{k}"].model == before
        assert found[f"next_answers@{k}"].model == f"trained@{k}"
        profile = "profile" if k == 1 else f"next_profile@{k - 1}"
        assert found[f"chosen@{k}"].profile == profile
    assert found["exam"].models == ["student", "trained@1", "trained@2", "trained@3"]
