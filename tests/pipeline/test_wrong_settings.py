"""Every setting of every stage and engine is given wrong values: one short message, no traceback.

The settings are read off the classes, so that a new one is tried as well.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from llm_distill.errors import LONGEST_LINE, ConfigError
from llm_distill.pipeline.load import load_pipeline
from llm_distill.pipeline.registry import find_stage, stage_names
from llm_distill.pipeline.schema import ModelConfig

BOOK = "word " * 3000
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 1e300, 2**62, "", "(", "m", "d", "../x", BOOK, "\x00"),
    *([], {}, [1], ["d"], [BOOK], [None], {"a": 1}, {"a": BOOK}, {1: 2}),
)
STUDENT = {"model_name_or_path": "data/models/tiny-student", "prompt_format": "text"}
ENGINES: dict[str, dict[str, Any]] = {
    "openai": {"kind": "openai", "base_url": "http://localhost:1/v1"},
    "vllm": {"kind": "vllm"},
    "vllm_server": {"kind": "vllm_server"},
    "transformers": {"kind": "transformers"},
    "scripted": {"kind": "scripted", "answers": "answers.jsonl"},
}
TEMPLATE = "arte/exam.jinja"
GOOD: dict[str, dict[str, Any]] = {
    "agreement": {"rows": "d", "annotators": ["a", "b"]},
    "annotate": {"rows": "d", "model": "m", "codebook": {"mistake": {"a": "b", "c": "d"}}},
    "assess": {"rows": "d", "model": "m", "difficulty": {"by": "gold"}, "template": TEMPLATE},
    "assign": {"rows": "d", "column": "c", "variants": {"a": {"text": "b"}, "c": {"text": ""}}},
    "build_preferences": {"rows": "d", "kinds": ["rationale"], "rationale_template": TEMPLATE},
    "classification_report": {"rows": ["d"]},
    "classify": {"rows": "d", "model": "m"},
    "check_subtasks": {"rows": "d"},
    "combine_labels": {"rows": ["d", "e"]},
    "consensus": {"rows": "d"},
    "corrupt": {"rows": "d", "rate": 0.5},
    "decontaminate": {"rows": "d", "against": ["e"]},
    "deduplicate": {"rows": "d"},
    "discover_skills": {"rows": "d", "model": "m", "template": TEMPLATE},
    "drop_known": {"rows": "d", "model": "m", "template": TEMPLATE},
    "evaluate": {"rows": "d", "models": ["m"], "template": TEMPLATE},
    "evaluate_lm_eval": {"models": ["m"], "tasks": ["x"]},
    "fidelity": {"rows": "d", "teacher": "a"},
    "find_missing_skills": {"rows": "d", "skills": "e", "model": "m", "template": TEMPLATE},
    "gate": {"exams": ["d"], "model": "m", "than": "n"},
    "generate": {"rows": "d", "model": "m", "template": TEMPLATE},
    "intervention_utility": {"rows": "d", "model": "m", "demonstrations": "e"},
    "judge": {"rows": "d", "model": "m", "answers": ["a"]},
    "label": {"rows": "d", "model": "m", "labels": "data/notices/topics.yaml"},
    "hacking_monitor": {"rows": "d"},
    "label_skills": {"rows": "d", "skills": "e", "model": "m", "template": TEMPLATE},
    "load_dataset": {"path": "data/word_problems"},
    "make_student": {"model": "m", "layers": [1]},
    "mastery_gate": {"rows": "d", "student": "m"},
    "merge_adapter": {"model": "m"},
    "mismatch_pairs": {"rows": "d", "own": "e", "fields": ["action"]},
    "mix": {"rows": ["d", "e"]},
    "mixture_reweight": {"rows": "d"},
    "paired_perplexity": {"rows": "d", "models": ["m"]},
    "parse": {"rows": "d", "tags": {"answer": "ans"}},
    "perplexity_gap": {"student_scores": "d", "teacher_scores": "e"},
    "plan_data": {"rows": "d", "policy": {"kind": "list"}, "n": 3},
    "push_to_hub": {"rows": "d", "repo_id": "a/b"},
    "score_disagreement": {"rows": "d", "samples": "e"},
    "score_predictive": {"rows": ["d", "e", "f"], "benchmarks": {"d": 1, "e": 2, "f": 3}},
    "score_gradient_similarity": {"rows": "d", "reference": "e", "model": "m", "warm_up": "e"},
    "revise_examples": {
        "rows": "d",
        "items": "e",
        "models": ["m"],
        "template": TEMPLATE,
        "teacher": "m",
    },
    "rollout_report": {"rows": "d", "teacher": "m", "student": "m", "student_scores": "e"},
    "score_in_context": {"rows": "d", "items": "e", "model": "m", "template": TEMPLATE},
    "score_influence": {"rows": "d", "reference": "e", "model": "m"},
    "score_judge": {"rows": "d", "model": "m"},
    "score_likelihood": {"rows": "d", "model": "m"},
    "score_student_fit": {"rows": "d", "model": "m", "signal": "rsr"},
    "select": {"rows": "d", "n": 3},
    "select_by_skill": {"rows": "d", "profile": "e"},
    "select_items": {"rows": "d", "predictions": ["e"]},
    "select_matched": {"rows": "d", "like": "e"},
    "select_similar": {"rows": "d", "questions": "e", "model": "a/b"},
    "selection_report": {"rows": "d", "pool": "e", "by": ["a"]},
    "skill_profile": {"rows": "d"},
    "simulate_dialogue": {
        "rows": "d",
        "speakers": {
            "a": {"model": "m", "template": TEMPLATE},
            "b": {"model": "m", "template": TEMPLATE},
        },
    },
    "split_labels": {"rows": "d", "model": "m"},
    "split": {"rows": "d", "parts": {"train": 0.5, "test": None}, "part": "train"},
    "synthesise": {"profile": "d", "references": "e", "model": "m", "template": TEMPLATE},
    "teaching_report": {"rows": "d", "rankings": {"utility": {"by": "utility"}}},
    "train_classifier": {"rows": "d", "model": "m"},
    "train_distill": {"model": "m", "teacher": "m", "online": True, "rows": "d"},
    "train_dpo": {"model": "m", "rows": "d"},
    "train_kto": {"model": "m", "rows": "d"},
    "train_relations": {"model": "m", "teacher": "m", "rows": "d"},
    "train_sft": {"model": "m", "rows": "d"},
    "transfer_tokenizer": {"model": "m", "tokenizer": "m"},
    "tutoring_report": {"dialogues": {"a": "d"}},
    "verify": {"rows": "d"},
    "vote": {"rows": "d"},
}


@pytest.fixture
def load(tmp_path: Path) -> Callable[[Any, Any], None]:
    """Load a pipeline with a stage `x` and a model `m`; a mistake has to be said briefly."""
    data = {"stage": "load_dataset", "path": str(tmp_path / "unread.parquet")}
    (tmp_path / "unread.parquet").touch()

    def load_it(stage: Any, model: Any) -> None:
        values = {"name": "p", "models": {"m": model}, "stages": {"d": data, "e": data, "x": stage}}
        text = yaml.dump(values, Dumper=_Plain, sort_keys=False)
        (tmp_path / "p.yaml").write_text(text)
        try:
            load_pipeline(str(tmp_path / "p.yaml"))
        except ConfigError as error:
            longest = max(map(len, str(error).split("\n")))
            if longest > LONGEST_LINE + 10:
                raise AssertionError(f"a line of {longest:,} characters") from error

    return load_it


class _Plain(yaml.SafeDumper):
    """Without anchors, which would hide what is written."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def test_every_stage_is_tried() -> None:
    own = [name for name in stage_names() if not name.startswith("toy")]
    assert sorted({*GOOD, "load_skills"}) == own  # whose only setting is a file: its own tests


@pytest.mark.parametrize("kind", sorted(GOOD))
def test_settings_of_stages(load: Callable[[Any, Any], None], kind: str) -> None:
    stage = find_stage(kind)
    assert stage is not None
    good = {"stage": kind, **GOOD[kind]}
    stage.model_validate(good)
    for value in VALUES:
        settings = {name: value for name in stage.model_fields if name != "stage"}
        load({"stage": kind, **settings}, STUDENT)  # all wrong at once
        for name in settings:
            try:
                stage.model_validate({**good, name: value})
            except ValidationError:
                continue
            load({**good, name: value}, STUDENT)  # its type is right: what is checked after that


@pytest.mark.parametrize("kind", sorted(ENGINES))
def test_settings_of_engines_and_models(load: Callable[[Any, Any], None], kind: str) -> None:
    good = {**STUDENT, "engine": ENGINES[kind]}
    engine = type(ModelConfig.model_validate(good).engine)
    select = {"stage": "select", "rows": "d", "n": 3}
    for value in VALUES:
        for name in engine.model_fields:
            load(select, {**good, "engine": {**ENGINES[kind], name: value}})
        for name in ModelConfig.model_fields:
            load(select, {**good, name: value})


@pytest.mark.parametrize(
    "number", [".inf", "-.inf", ".nan", "1.0e+400", str(10**30), str(-(10**30))]
)
def test_numbers_that_no_setting_can_have(tmp_path: Path, number: str) -> None:
    (tmp_path / "p.yaml").write_text(
        "name: p\nstages:\n  d: {stage: load_dataset, path: data/word_problems}\n"
        f"  x: {{stage: build_preferences, rows: d, min_margin: {number}}}\n"
    )
    with pytest.raises(
        ConfigError, match=r"p.yaml:4: '.*' is not a number that a setting can have"
    ):
        load_pipeline(str(tmp_path / "p.yaml"))


@pytest.mark.parametrize("base", ["'\\0x'", "~nobody/x", BOOK])
def test_bases_that_cannot_be_a_file(tmp_path: Path, base: str) -> None:
    (tmp_path / "p.yaml").write_text(f'name: p\nextends: "{base.strip(chr(39))}"\n')
    with pytest.raises(ConfigError, match="extends: no file"):
        load_pipeline(str(tmp_path / "p.yaml"))


@pytest.mark.parametrize("layers", ["(", "[]", "''"])
def test_layers_that_cannot_be_named(tmp_path: Path, layers: str) -> None:
    (tmp_path / "p.yaml").write_text(
        "name: p\nmodels: {m: {model_name_or_path: data/models/tiny-student}}\nstages:\n"
        "  d: {stage: load_dataset, path: data/word_problems}\n"
        f"  x: {{stage: train_sft, model: m, rows: d, peft: {{target_modules: {layers}}}}}\n"
    )
    with pytest.raises(ConfigError, match="peft.target_modules: (not a regular|no layer gets)"):
        load_pipeline(str(tmp_path / "p.yaml"))
