"""Text that is not YAML, or YAML that means nothing here: file:line and what to do."""

# ruff: noqa: E501

from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml

from llm_distill.errors import ConfigError
from llm_distill.pipeline.yaml_file import parse_yaml

Failure = Callable[..., str]
QUOTE = "put quotes around it if it is meant as text"
BRACES = "a mapping or a list cannot be a name; put quotes around braces"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "toy.yaml:1: the file is empty; a pipeline file is a mapping with"),
        ("# only a comment\n", "toy.yaml:1: the file is empty"),
        ("- a", "toy.yaml:1: a pipeline file is a mapping with"),
        ("name: [", "toy.yaml:2: not YAML: did not find expected node content"),
        ("name: a\nname: b\n", "toy.yaml:2: 'name' appears twice; keep one"),
        ("name: a\nstages:\n\ta: 1\n", "toy.yaml:3: not YAML: found character that cannot start any token; the line has a tab: indent with spaces"),
        ("name: a\nx: {a: ${HOME}/x}\n", 'put quotes around "${…}" inside {…}'),
        (b"name: a\nseed: \xff\n", "toy.yaml:2: not UTF-8 text; save the file as UTF-8"),
        ("name: a\nseed: \0\n", "toy.yaml:2: not YAML: a control character (number 0); delete it"),
        ("name: a\nx: {y: {{foo}}}\n", f"toy.yaml:2: {BRACES}"),
        ("name: a\nx: {{foo}}\n", f"toy.yaml:2: {BRACES}"),
        ("name: a\n? [a, b]\n: 1\n", f"toy.yaml:2: {BRACES}"),
        ("name: a\nx: !foo y\n", f"toy.yaml:2: the tag '!foo' is not read; {QUOTE}"),
        ("name: a\nx: 2024-13-45\n", f"toy.yaml:2: '2024-13-45' cannot be read as timestamp; {QUOTE}"),
        ("name: a\nx: !!int abc\n", f"toy.yaml:2: 'abc' cannot be read as int; {QUOTE}"),
        ("name: a\n!!int abc: 1\n", f"toy.yaml:2: 'abc' cannot be read as int; {QUOTE}"),
        ("name: a\nx:\n  <<: 3\n", "toy.yaml:3: '<<' needs an anchor of another mapping"),
        ("name: a\nx: &s\n  y: *s\n", "nested too deeply, or an alias that contains itself"),
        ("name: a\nx: " + "[" * 900 + "]" * 900, "toy.yaml:2: nested too deeply"),
    ],
)  # fmt: skip
def test_files_that_are_no_pipeline(failure: Failure, text: str | bytes, expected: str) -> None:
    assert expected in failure(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("[1", "not YAML: did not find expected ',' or ']'"),
        ("!foo 5", f"the tag '!foo' is not read; {QUOTE}"),
        ("2024-13-45", f"'2024-13-45' cannot be read as timestamp; {QUOTE}"),
        ("{{x}}", BRACES),
    ],
)
def test_values_of_set_that_are_not_yaml(
    failure: Failure, good: str, value: str, expected: str
) -> None:
    message = failure(good, assignments=[f"stages.numbers.n={value}"])
    assert message.startswith(f"--set stages.numbers.n={value}: {expected}")
    assert "\n" not in message


def test_an_alias_of_a_mapping_that_overrides_what_it_merges() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: *b\nd: {<<: *b, y: 3}\n"
    values, _ = parse_yaml(text, lambda line: f"t:{line}")
    assert values["b"] == values["c"] == {"x": 2, "y": 1}
    assert values["d"] == {"x": 2, "y": 3}


def test_a_library_that_changes_how_yaml_reads_dates_does_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    constructors = {
        **yaml.SafeLoader.yaml_constructors,
        "tag:yaml.org,2002:timestamp": lambda loader, node: node.value,
    }
    monkeypatch.setattr(yaml.SafeLoader, "yaml_constructors", constructors)
    with pytest.raises(ConfigError, match="cannot be read as timestamp"):
        parse_yaml("x: 2024-13-45", lambda line: str(line))


BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: " + "[" * 40_000, "nested too deeply"),
        ("{a: " * 40_000, "nested too deeply"),
        ("- " * 40_000, "nested too deeply"),
        (BOMB, "more than 100,000 values; do aliases repeat aliases?"),
        ("a: " + "x" * 1_000_001, "at most 1,000,000"),
        (
            "a: !!python/object:os.system x",
            "the tag 'tag:yaml.org,2002:python/object:os.system' is not read",
        ),
        ("a: !!binary aGk=", "binary' is not read"),
        ("a: !!set {x, y}", "set' is not read"),
        ("a: !mine x", "the tag '!mine' is not read"),
    ],
)
def test_a_hostile_file_is_refused(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_yaml(text, lambda line: f"toy.yaml:{line + 1}")
    assert expected in str(error.value)
    assert len(str(error.value)) < 400


def test_plain_tags_are_read() -> None:
    assert parse_yaml("a: !!str 7\nb: !!int '7'\nc: ! x\n", str)[0] == {"a": "7", "b": 7, "c": "x"}
