"""A pipeline whose model is behind a server: what identifies it, and where it is looked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_distill.errors import ModelError
from llm_distill.pipeline.load import load_pipeline
from llm_distill.runtime import resolve
from tests.engines.loopback import Loopback, refuse

PIPELINE = """\
name: toy
models:
  teacher:
    model_name_or_path: served-model
    engine: {kind: openai, base_url: URL}
stages:
  numbers: {stage: toy_rows, n: 4}
  answers: {stage: generate, rows: numbers, model: teacher, template: ask.jinja}
"""


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Loopback, Loopback]]:
    for name in ("http_proxy", "HTTP_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    one, other = Loopback(), Loopback()
    yield one, other
    one.close()
    other.close()


def test_the_name_on_the_server_identifies_it_and_the_address_does_not(
    bench: Callable[[str], Any],
    servers: tuple[Loopback, Loopback],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*args: object) -> None:
        raise AssertionError("looked up on the Hub")

    monkeypatch.setattr(resolve, "learn_commit", never)
    monkeypatch.setattr(resolve, "cached_commit", never)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "served-model").mkdir()  # is not it
    (tmp_path / "ask.jinja").write_text("{{ question }}?")
    one, other = servers
    toy = bench(PIPELINE.replace("URL", one.url))
    elsewhere = load_pipeline(str(toy.file), assignments=["models.teacher.model_name_or_path=x/y"])
    resolve.Resolver(elsewhere).learn_commits(["answers"])
    record = toy.run()
    texts = [row["completion"] for row in toy.rows(record, "answers")]
    assert texts == [f"echo question {index}?" for index in range(4)]
    assert {call.body["model"] for call in one.calls} == {"served-model"}
    moved = f"models.teacher.engine.base_url={other.url}"
    toy.run(moved, "models.teacher.engine.max_concurrency=2")
    toy.run(moved, "models.teacher.engine.model=served-model")
    assert toy.display.ran == other.calls == []
    toy.run(moved, "models.teacher.engine.model=other-model")
    assert toy.display.ran == ["answers"]
    assert {call.body["model"] for call in other.calls} == {"other-model"}
    other.answer = refuse(401)
    with pytest.raises(ModelError, match="stage 'answers': model 'teacher': http://127"):
        toy.run(moved, "models.teacher.engine.model=third-model")
