"""The scripted engine: which answer, where it is cut, and what a wrong script is told."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from llm_distill.engines.base import Completion, Request, SamplingSettings
from llm_distill.engines.budget import Budget
from llm_distill.engines.scripted.engine import ScriptedEngine
from llm_distill.engines.scripted.settings import ScriptedSettings
from llm_distill.errors import ConfigError
from llm_distill.models.sources import ModelSource

TABLE = """\
{"contains": "apples", "completion": " twelve apples\\nare left."}

{"contains": "apples and pears", "completion": "never reached"}
{"contains": "ö", "completion": "ü"}
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "answers.jsonl"
    path.write_text(TABLE, encoding="utf-8")
    return path


def answer(settings: ScriptedSettings, prompt: Any, **sampling: Any) -> Completion:
    request = Request("one", prompt, SamplingSettings(**sampling))
    (completion,) = ScriptedEngine(settings).generate([request])
    return completion


def from_table(path: Path, prompt: Any, **sampling: Any) -> Completion:
    return answer(ScriptedSettings(kind="scripted", answers=str(path)), prompt, **sampling)


def from_function(name: str, prompt: Any = "a b c", **sampling: Any) -> Completion:
    return answer(ScriptedSettings(kind="scripted", function=name), prompt, **sampling)


def test_the_first_entry_that_matches_answers(table: Path) -> None:
    completion = from_table(table, "How many apples and pears?")
    assert completion == Completion("one", " twelve apples\nare left.", "stop", 5, 4)
    assert from_table(table, "schön").text == "ü"


def test_messages_are_searched_too(table: Path) -> None:
    messages = [
        {"role": "system", "content": "Count."},
        {"role": "user", "content": "some apples"},
    ]
    completion = from_table(table, messages)
    assert (completion.text[:7], completion.n_prompt_tokens) == (" twelve", 3)


def test_a_prompt_without_an_answer_is_a_bad_row(table: Path) -> None:
    completion = from_table(table, "How many plums?")
    assert (completion.text, completion.finish_reason) == ("", "error")
    assert str(table) in str(completion.error)
    assert "'How many plums?'" in str(completion.error)


@pytest.mark.parametrize(
    ("sampling", "text", "reason", "words"),
    [
        ({"stop": ("\n",)}, " twelve apples", "stop", 2),
        ({"stop": ("left", "apples")}, " twelve ", "stop", 1),
        ({"stop": (" ",)}, "", "stop", 0),
        ({"max_tokens": 3}, " twelve apples\nare", "length", 3),
        ({"max_tokens": 4}, " twelve apples\nare left.", "stop", 4),
        ({"max_tokens": 1, "stop": ("left",)}, " twelve", "length", 1),
        ({"max_tokens": 3, "stop": ("apples",)}, " twelve ", "stop", 1),
    ],
)
def test_stop_strings_and_max_tokens(
    table: Path, sampling: dict[str, Any], text: str, reason: str, words: int
) -> None:
    given = from_table(table, "apples", **sampling)
    assert (given.text, given.finish_reason, given.n_completion_tokens) == (text, reason, words)


def test_a_function_of_the_request_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_script.py").write_text(
        "def reply(request):\n    return f'{request.id} {request.seed} {request.prompt}'\n"
        "def silent(request):\n    return None\n"
        "def wrong(request):\n    return 3\n"
    )
    (tmp_path / "broken_script.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert from_function("my_script:reply").text == "one 0 a b c"
    assert from_function("my_script:silent").finish_reason == "error"
    with pytest.raises(ConfigError, match=r"my_script:wrong returned int.*'one'.*expected a str"):
        from_function("my_script:wrong")
    with pytest.raises(ConfigError, match="no function replay; did you mean 'reply'"):
        from_function("my_script:replay")
    with pytest.raises(ConfigError, match=r"cannot import broken_script.*no_such_package"):
        from_function("broken_script:reply")
    for name in ("my_script", "my_script:", ":reply"):
        with pytest.raises(ConfigError, match="module:name"):
            from_function(name)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{not json", ":5: not JSON: "),
        ('["apples"]', ":5: a row is an object, but this is list; expected "),
        ('{"contains": "x"}', ":5: found contains; expected "),
        ('{"contains": "x", "completion": "y", "stop": "z"}', "found completion, contains, stop"),
        ('{"contains": "x", "completion": 4}', ":5: completion is 4; expected a string"),
    ],
)
def test_a_bad_row_is_named_with_its_line(table: Path, line: str, told: str) -> None:
    table.write_text(TABLE + line + "\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        from_table(table, "apples")
    assert told in str(caught.value)
    assert str(table) in str(caught.value)


def test_a_table_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.jsonl is not a file.*JSON Lines"):
        from_table(Path("missing.jsonl"), "apples")
    empty, latin = tmp_path / "empty.jsonl", tmp_path / "latin.jsonl"
    empty.write_text("\n")
    latin.write_bytes('{"contains": "ö", "completion": "ü"}'.encode("latin-1"))
    with pytest.raises(ConfigError, match="no entries"):
        from_table(empty, "apples")
    with pytest.raises(ConfigError, match="UTF-8"):
        from_table(latin, "apples")


def test_one_source_is_needed() -> None:
    both = ScriptedSettings(kind="scripted", answers="a.jsonl", function="m:f")
    for settings in (ScriptedSettings(kind="scripted"), both):
        with pytest.raises(ConfigError, match="not both"):
            ScriptedEngine(settings)


def test_requests_are_answered_one_by_one_by_what_the_settings_open(table: Path) -> None:
    settings = ScriptedSettings(kind="scripted", answers=str(table))
    engine = settings.open(ModelSource("none", "nowhere"), Budget(None))

    def endless() -> Iterator[Request]:
        for i in count():
            yield Request(str(i), "apples", SamplingSettings())

    completions = engine.generate(endless())
    assert [next(completions).id for _ in range(3)] == ["0", "1", "2"]
    engine.close()
