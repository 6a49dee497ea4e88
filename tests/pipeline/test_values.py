"""Profiles, `--set` and `${VAR}`: what is refused, and where it is said to be."""

# ruff: noqa: E501

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llm_distill.pipeline.schema import PipelineConfig

Load = Callable[..., PipelineConfig]
Failure = Callable[..., str]
NO_STAGE = "no stage 'nmbers'; did you mean 'numbers'? allowed: again, answers, numbers, trained"
NO_MODEL = "no model 'techer'; did you mean 'teacher'? allowed: teacher"


@pytest.mark.parametrize(
    ("profiles", "expected"),
    [
        ("[big]", "toy.yaml:20: profiles: is a mapping of names to settings"),
        ("{big: 3}", "toy.yaml:20: profiles.big: a profile is a mapping of settings, got 3"),
        ("{big: [3]}", "profiles.big: a profile is a mapping of settings, got [3]"),
        ("{1: {seed: 1}, big: }", "profiles[1]: a profile's name is text; put quotes around 1"),
        ("{1: {seed: 1}}", "toy.yaml:20: no profile 'big'; allowed: 1"),
        ("{big: {stages: {nmbers: {n: 3}}}}", f"toy.yaml:20: profiles.big.stages.nmbers: {NO_STAGE}"),
        ("{big: {models: {techer: {dtype: float32}}}}", f"profiles.big.models.techer: {NO_MODEL}"),
        ("{big: {stages: {numbers: {n: {a: 1}}}}}", "toy.yaml:20: stages.numbers.n: should be a valid integer"),
    ],
)  # fmt: skip
def test_profiles(failure: Failure, good: str, profiles: str, expected: str) -> None:
    text = good[: good.index("profiles:")] + f"profiles: {profiles}\n"
    assert expected in failure(text, profile="big")


def test_an_empty_profile_and_one_that_adds(load: Load, good: str) -> None:
    text = good + "  none:\n  more: {stages: {extra: {stage: toy_rows}}}\n"
    assert load(text, profile="none").seed == 3
    assert "extra" in load(text, profile="more").stages


def test_a_base_has_no_such_stage(failure: Failure, good: str, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(good)
    message = failure("extends: base.yaml\nstages:\n  nmbers: {n: 3}\n")
    assert f"toy.yaml:3: stages.nmbers: {NO_STAGE}" in message


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("stages.nmbers.n=1", f"stages.nmbers: {NO_STAGE}; a new one needs stage:"),
        ("models.techer.dtype=auto", f"models.techer: {NO_MODEL}; a new one needs model_name_or_path:"),
        ("stages.numbers.n.x=3", "stages.numbers.n: should be a valid integer"),
        ("nope.x=1", "nope: unknown setting 'nope'; allowed: extends, models, name, profiles"),
        ("stages.numbers={n: x}", "stages.numbers.n: should be a valid integer"),
        ("models.teacher.engine={kind: scripted, anwsers: x}", "models.teacher.engine.anwsers: unknown setting 'anwsers'; did you mean 'answers'? allowed: answers, function, kind"),
    ],
)  # fmt: skip
def test_set_is_where_the_mistake_is(
    failure: Failure, good: str, assignment: str, expected: str
) -> None:
    assert f"--set {assignment}: {expected}" in failure(good, assignments=[assignment])


@pytest.mark.parametrize("over", ["{repeat: true, n: 2}", "{stage: mix, repeat: true, n: 2}"])
def test_a_setting_called_repeat_makes_no_block(load: Load, tmp_path: Path, over: str) -> None:
    base = "name: x\nstages:\n  a: {stage: load_dataset, path: data/word_problems}\n"
    (tmp_path / "base.yaml").write_text(
        base + "  b: {stage: mix, rows: [a], n: 4, weights: equal, repeat: false}\n"
    )
    found = load(f"extends: base.yaml\nname: x\nstages:\n  b: {over}\n").stages["b"]
    assert (found.n, found.repeat, found.weights) == (2, True, "equal")  # type: ignore[attr-defined]
    shared = "extends: base.yaml\nname: x\n"
    assert load(shared, assignments=["stages.b.repeat=true"]).stages["b"].repeat is True  # type: ignore[attr-defined]


@pytest.mark.parametrize("stages", ["", "stages:\n", "stages: [a]\n"])
def test_set_where_there_are_no_stages(failure: Failure, stages: str) -> None:
    message = failure(f"name: toy\n{stages}", assignments=["stages.a.n=1"])
    assert "--set stages.a.n=1: stages.a: " in message


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        *((f"{word}_X", True) for word in ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASS")),
        *((name, True) for name in ("HF_AUTH", "AWS_ACCESS_KEY_ID", "PGPASS", "my_credentials")),
        *((name, False) for name in ("TOKENIZER_DIR", "MAX_TOKENS", "MONKEYS", "PASSAGES", "PWD")),
    ],
)
def test_secrets_by_their_names(
    load: Load, failure: Failure, good: str, name: str, is_secret: bool, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv(name, "org/x")
    text = good.replace("org/teacher", f"'${{{name}}}'")
    if is_secret:
        assert f"name_or_path: ${{{name}}} looks like a secret" in failure(text)
    else:
        assert load(text).models["teacher"].model_name_or_path == "org/x"


@pytest.mark.parametrize(
    "secret",
    [
        "hf_abcdefGHIJKLmnop1234567890",
        "sk-proj-abc123def456ghi789",
        "ghp_abcdefghij0123456789",
        "AKIAIOSFODNN7EXAMPLE",
    ],
)
def test_secrets_by_their_looks(
    failure: Failure, good: str, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAIN", secret)
    place = "models.teacher.model_name_or_path"
    messages = [
        failure(good.replace("org/teacher", f"https://user:{secret}@host")),
        failure(good.replace("org/teacher", "'${PLAIN}'")),
        failure(good, assignments=[f"{place}={secret}"]),
    ]
    for message in messages:
        assert message.startswith("1 problem in toy.yaml")  # and nothing that follows from it
        assert f"{place}: its text looks like a secret" in message
        assert "reads it from the environment" in message
        assert secret not in message


@pytest.mark.parametrize(
    "plain",
    ["task-1-of-a-very-long-name-1", "hf-internal/tiny_random_model", "sk-learn-a-tutorial"],
)
def test_what_is_no_secret(load: Load, good: str, plain: str) -> None:
    assert load(good.replace("org/teacher", plain)).models["teacher"].model_name_or_path == plain
