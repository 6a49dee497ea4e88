"""Fingerprints: stable, and different exactly where the result can be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

from llm_distill.digests import canonical_json, fingerprint
from llm_distill.pipeline.load import load_pipeline
from llm_distill.runtime.artifact import Artifact
from llm_distill.runtime.fingerprint import (
    differences,
    result_settings,
    without_earlier_stages,
)
from llm_distill.runtime.resolve import Resolver
from llm_distill.stage import execution_setting, later_setting
from tests.manifests import manifest


class Inner(BaseModel):
    temperature: float = 1.0
    batch_size: int = execution_setting(8, "")


class Settings(BaseModel):
    n: int = 1
    inner: Inner = Inner()


def test_one_literal_fingerprint_is_pinned() -> None:
    """If this changes, every artifact of every user is rebuilt: that must be meant."""
    identity = {"stage": "generate", "version": 1, "settings": {"n": 4, "name": "é"}, "seed": 7}
    assert canonical_json(identity) == (
        '{"seed":7,"settings":{"n":4,"name":"é"},"stage":"generate","version":1}'
    )
    assert fingerprint(identity) == (
        "e2775eb4bb0c1538841dad25ff3c904a962a4a7cc46ea1b1b1d7a69a22ca93d3"
    )


def test_order_of_keys_does_not_matter_and_nesting_does() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": {"b": 1}}) != fingerprint({"a": {"b": "1"}})
    assert fingerprint(["ab", "c"]) != fingerprint(["a", "bc"])


def test_settings_that_cannot_change_the_result_are_left_out() -> None:
    assert result_settings(Settings()) == {"n": 1, "inner": {"temperature": 1.0}}
    other = Settings(inner=Inner(batch_size=64))
    assert result_settings(other) == result_settings(Settings())
    assert result_settings(Settings(inner=Inner(temperature=0.5))) != result_settings(Settings())


class Grown(Settings):
    parse: Inner | None = later_setting(None, "")


def test_a_later_setting_counts_only_where_it_is_set() -> None:
    assert result_settings(Grown()) == result_settings(Settings())
    assert result_settings(Grown(parse=Inner()))["parse"] == {"temperature": 1.0}


class Shrunk(BaseModel):
    former_settings: ClassVar[Mapping[str, Any]] = {"n": 1}
    inner: Inner = Inner()


class ShrunkTwice(Shrunk):
    former_settings: ClassVar[Mapping[str, Any]] = {"racing": False}


def test_a_setting_that_went_counts_at_the_value_that_it_always_has() -> None:
    assert result_settings(Shrunk()) == result_settings(Settings())
    assert result_settings(ShrunkTwice()) == {**result_settings(Settings()), "racing": False}


def test_differences_are_said_in_words() -> None:
    old = {
        "stage": "generate",
        "version": 1,
        "settings": {"n": 1, "sampling": {"temperature": 1.0}},
        "templates": {"a.jinja": "1"},
        "inputs": {"seeds": "x"},
        "seed": 1,
    }
    new = {
        "stage": "generate",
        "version": 2,
        "settings": {"n": 1, "sampling": {"temperature": 0.5}},
        "templates": {"a.jinja": "2"},
        "inputs": {"seeds": "y"},
        "seed": 2,
    }
    assert differences(old, new) == [
        "version of generate: 1 → 2",
        "seed: 1 → 2",
        "setting sampling.temperature: 1.0 → 0.5",
        "template a.jinja changed",
        "input seeds changed",
    ]
    assert differences(old, old) == []


def test_what_reads_a_training_is_another_with_another_training(tmp_path: Path) -> None:
    """Its weights may be the same: measured more often, say."""
    (tmp_path / "p.yaml").write_text(
        "name: p\n"
        "models: {m: {model_name_or_path: data/models/tiny-student}}\n"
        "stages:\n"
        "  d: {stage: load_dataset, path: data/word_problems}\n"
        "  trained:\n"
        "    <<: &text {stage: train_distill, rows: d, losses: {sft: 1}, text_column: question}\n"
        "    model: m\n"
        "  watched: {stage: hacking_monitor, models: [trained]}\n"
        "  tuned: {<<: *text, model: trained}\n"
    )
    found = []
    for folder in ("trained-0123", "trained-4567"):
        ready = {
            "d": Artifact(tmp_path / "d", manifest(name="d")),
            "trained": Artifact(tmp_path / folder, manifest(name="trained")),
        }
        resolver = Resolver(load_pipeline(str(tmp_path / "p.yaml")), ready=ready)
        found.append((resolver.identity("watched"), resolver.identity("tuned")))
    assert found[0][0] != found[1][0]
    assert found[0][1] == found[1][1]
    recipes = [without_earlier_stages(watched, ["trained"]) for watched, _ in found]
    assert recipes[0] == recipes[1]
