"""DataEnvGym's traps in the shipped files: what is trained on, from which student, and how much."""

from __future__ import annotations

from typing import Any

import pytest

from llm_distill.paths import bundled_root
from llm_distill.pipeline.load import load_pipeline
from llm_distill.stage import references

FILES = ("skill_list", "open", "skill_tree", "controls", "paper")


def stages(name: str, profile: str | None = None) -> dict[str, Any]:
    file = bundled_root() / "pipelines" / f"dataenvgym_{name}.yaml"
    return dict(load_pipeline(str(file), profile=profile).stages)


def upstream(found: dict[str, Any], name: str) -> set[str]:
    """Every stage that a stage's rows come from, but for plans and names of skills."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        stage = waiting.pop()
        if stage in seen:
            continue
        seen.add(stage)
        if found[stage].stage not in ("plan_data", "discover_skills"):
            waiting += [
                target
                for place, target, kind in references(found[stage])
                if kind == "rows" and not place.startswith(("against", "questions"))
            ]
    return seen


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_trained_on_validation_or_test(name: str) -> None:
    found = stages(name)
    trained = [stage for stage in found.values() if stage.stage == "train_sft"]
    assert len(trained) >= 3
    for stage in trained:
        rows = upstream(found, stage.rows)
        assert any(found[each].stage == "plan_data" for each in rows)
        assert not rows & {"validation", "test", "items"}
        cleaned = [each for each in rows if found[each].stage == "decontaminate"]
        assert all(set(found[each].against) == {"validation", "test"} for each in cleaned)
        assert cleaned
    assert found["exam"].rows == "test"
    assert found["items"].rows == "validation"


@pytest.mark.parametrize("name", FILES)
def test_each_round_trains_the_first_student_on_the_rows_of_all_rounds(name: str) -> None:
    found = stages(name)
    for k in (1, 2, 3):
        assert (found[f"trained@{k}"].model, found[f"trained@{k}"].rows) == ("student", f"all@{k}")
        assert found[f"all@{k}"].rows == [f"new@{k}", *([f"all@{k - 1}"] if k > 1 else [])]
        assert found[f"watched@{k}"].models == [f"trained@{k}"]
        plan = found[f"plan@{k}"]
        assert plan.rows == ("before" if k == 1 else f"watched@{k - 1}")
        assert (plan.before, plan.made) == (
            (None, None) if k == 1 else (f"plan@{k - 1}", f"all@{k - 1}")
        )
        # The student that is trained is the one that is asked what it knows, where that is asked.
        assert found.get(f"unknown@{k}", found[f"trained@{k}"]).model == "student"


def test_the_controls_differ_in_their_plans_only() -> None:
    found = stages("controls")
    planned = sum(found[f"plan@{k}"].n for k in (1, 2, 3))
    kept = sum(found[f"new@{k}"].n for k in (1, 2, 3))
    trained = found["trained@3"].model_dump(exclude={"rows"})
    for name, kind in (("no_state", "no_state"), ("random", "random"), ("oracle", "list")):
        plan = found[f"{name}_plan"]
        assert (plan.policy.kind, plan.n) == (kind, planned)
        assert (found[f"{name}_sized"].n, found[f"{name}_sized"].strict) == (kept, True)
        assert found[f"{name}_student"].model_dump(exclude={"rows"}) == trained
        for made in ("written", "answers", "agreed", "clean"):
            assert found[f"{name}_{made}"].model_dump(exclude={"rows", "profile"}) == found[
                f"{made}@1"
            ].model_dump(exclude={"rows", "profile"})
    # What does not look at the student is not shown its answers.
    assert {found[f"{name}_plan"].rows for name in ("no_state", "random")} == {"items"}
    assert found["gold"].rows == "validation"  # its own skills
    assert found["controls"].models[0] == "no_state_student"


def test_the_papers_settings() -> None:
    for profile in (None, "open", "tree"):
        found = stages("paper", profile)
        student = found["trained@1"]
        assert (student.num_train_epochs, student.lr_scheduler_type, student.warmup_steps) == (
            3, "cosine", 0.1,
        )  # fmt: skip
        assert student.per_device_train_batch_size * student.gradient_accumulation_steps == 16
        assert (student.peft.r, student.peft.lora_alpha, student.peft.lora_dropout) == (
            16,
            32,
            0.05,
        )
        assert student.max_length == 1024
        assert found["exam"].sampling.temperature == 0
        assert not {"solved", "references", "unknown@1"} & found.keys()  # nobody reads them
    assert stages("paper", "open")["plan@1"].policy.n_specs == 10
    assert stages("paper", "open")["plan@1"].n == 120
    tree = stages("paper", "tree")["plan@10"].policy
    assert (tree.new, tree.new_rows, tree.steps) == (2, 30, 2)
