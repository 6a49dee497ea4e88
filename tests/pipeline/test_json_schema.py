"""The JSON Schema of pipeline files: takes what is valid, refuses what people mistype."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from llm_distill.paths import bundled_root
from llm_distill.pipeline.json_schema import pipeline_schema, schema_text
from llm_distill.pipeline.load import load_pipeline
from llm_distill.pipeline.registry import own_stage_names, stage_names
from llm_distill.pipeline.yaml_file import read_yaml

FILES = sorted((bundled_root() / "pipelines").glob("*.yaml"))
ROOT = Path(__file__).parents[2]

WHOLE = """\
name: x
models:
  m: {model_name_or_path: a/b, engine: {kind: vllm, max_model_len: 1024}}
stages:
  rows: {stage: load_dataset, path: a.csv, limit: "${N}"}
  answers: {stage: generate, rows: rows, model: m, template: t.jinja, sampling: {max_tokens: 1_000}}
  rounds:
    repeat:
      times: 2
      start: {taught: m}
      stages:
        taught: {stage: train_sft, model: taught@previous, rows: answers, learning_rate: 1e-4}
profiles:
  small: {models: {m: {dtype: float32}}, stages: {answers: {n: 2}}}
"""
PART = """\
extends: arte.yaml
models:
  teacher: {engine: {max_model_len: 1024}}
  student: {engine: {kind: transformers}}
stages:
  exam: {shots: [0], sampling: {max_tokens: 3}}
  drafts: {examples: {n: 2}, verify: null}
  answers: {difficulty: {threshold: 0.5}}
  rounds: {repeat: {times: 3, stages: {x: {n: 4}}}}
"""


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = pipeline_schema(own_stage_names())
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def _errors(validator: Any, values: Any) -> list[str]:
    plain = json.loads(json.dumps(values, default=str))  # a date is text to an editor
    return [f"{list(e.path)}: {e.message[:200]}" for e in validator.iter_errors(plain)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_shipped_files_are_valid_as_written_and_as_merged(file: Path, validator: Any) -> None:
    assert _errors(validator, read_yaml(file)[0]) == []
    assert _errors(validator, load_pipeline(str(file)).resolved) == []
    assert file.read_text().startswith("# yaml-language-server: $schema=schema.json\n")


def test_the_shipped_schema_is_that_of_the_code() -> None:
    there = (ROOT / "pipelines" / "schema.json").read_text(encoding="utf-8")
    message = "run: llm-distill schema --own --out pipelines/schema.json"
    assert there == schema_text(own_stage_names()), message


def test_whole_files_and_parts_are_valid(validator: Any) -> None:
    assert _errors(validator, yaml.safe_load(WHOLE)) == []
    part = yaml.safe_load(PART)
    assert any("threshold" in error for error in _errors(validator, part))  # gold has none
    del part["stages"]["answers"]
    assert _errors(validator, part) == []


@pytest.mark.parametrize(
    ("text", "old", "new", "named"),
    [
        (WHOLE, "stage: generate", "stage: generat", "'generat' is not one of"),
        (WHOLE, "template: t.jinja", "templat: t.jinja", "'templat' was unexpected"),
        (WHOLE, "path: a.csv, ", "", "'path' is a required property"),
        (WHOLE, "stage: load_dataset, ", "", "'stage' is a required property"),
        (WHOLE, "max_tokens: 1_000", "max_tokens: many", "'many' does not match"),
        (WHOLE, "max_tokens: 1_000", "max_tokens: 0", "0 is less than the minimum"),
        (WHOLE, "kind: vllm", "kind: vlm", "'vlm' is not one of"),
        (WHOLE, "max_model_len", "max_len", "'max_len' was unexpected"),
        (WHOLE, "model_name_or_path", "path", "'model_name_or_path' is a required property"),
        (WHOLE, "times: 2", "times: 0", "0 is less than the minimum"),
        (WHOLE, "learning_rate", "lr", "'lr' was unexpected"),
        (WHOLE, "answers: {stage", "my-answers: {stage", "'my-answers' does not match"),
        (WHOLE, "name: x", "nam: x", "'nam' was unexpected"),
        (WHOLE, "answers: {n: 2}", "answers: {m: 2}", "'m' was unexpected"),
        (PART, "shots: [0]", "shot: [0]", "'shot' was unexpected"),
        (PART, "max_tokens: 3", "max_token: 3", "'max_token' was unexpected"),
        (PART, "kind: transformers", "kind: transformer", "'transformer' is not one of"),
        (PART, "extends: arte.yaml", "name: x", "'stage' is a required property"),
    ],
)
def test_what_people_mistype_is_not(
    text: str, old: str, new: str, named: str, validator: Any
) -> None:
    assert old in text
    assert any(
        named in error for error in _errors(validator, yaml.safe_load(text.replace(old, new)))
    )


def test_every_setting_is_described(validator: Any) -> None:
    """What an editor shows; and a stage of another package is a stage like any other."""
    schema = pipeline_schema(stage_names())
    stages = schema["definitions"]["kind-of-stage"]["allOf"]
    named = {rule["if"]["properties"]["stage"]["const"]: rule["then"]["$ref"] for rule in stages}
    assert {"toy_map", "generate"} <= named.keys()
    for kind in own_stage_names():
        definition = schema["definitions"][named[kind].rpartition("/")[2]]
        silent = [n for n, each in definition["properties"].items() if not each.get("description")]
        assert (kind, silent) == (kind, [])
        assert "\n" not in definition["properties"]["stage"]["description"].partition("\n\n")[0]


def test_pages_show_valid_files(validator: Any) -> None:
    """Every whole file, or file that extends one, in the documentation."""
    shown = 0
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
            is_file = re.search(r"^(name|extends):.*^stages:", block, re.MULTILINE | re.DOTALL)
            if is_file and not re.search("…|keep_short|llama_cpp", block):  # or not ours
                assert (page.name, _errors(validator, yaml.safe_load(block))) == (page.name, [])
                shown += 1
    assert shown >= 2
