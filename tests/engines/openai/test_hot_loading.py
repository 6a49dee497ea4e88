"""Adapters that are loaded into a server while it serves: what it is asked, and what can fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import build_opener

import pytest
from pydantic import ValidationError

from llm_distill.engines.base import Request, SamplingSettings
from llm_distill.engines.budget import Budget
from llm_distill.engines.openai import hot_loading, waiting
from llm_distill.engines.openai.settings import OpenAISettings
from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource
from tests.engines.adapter_server import AdapterServer, write_adapter

Open = Callable[..., Any]


@pytest.fixture
def server() -> Iterator[AdapterServer]:
    made = AdapterServer()
    yield made
    made.close()


@pytest.fixture
def adapters(tmp_path: Path) -> list[str]:
    """Of four rounds, each whole by itself."""
    return [write_adapter(tmp_path / f"trained@{n}", float(n)) for n in range(4)]


@pytest.fixture
def settings(server: AdapterServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def of(**more: Any) -> OpenAISettings:
        given = {"base_url": server.url, "model": "base", "adapters": "hot_load", **more}
        folder = {"adapters_folder": str(tmp_path / "seen by the server")}
        return OpenAISettings(kind="openai", **{**folder, **given})

    return of


def ask(settings: OpenAISettings, *adapters: str) -> str:
    """The answer of a model, by an engine of its own, as each stage has one."""
    source = ModelSource("student", "data/models/tiny-student", adapters=adapters)
    engine = settings.open(source, Budget(None))
    try:
        (answer,) = engine.generate([Request("a", "hi", SamplingSettings(), 1)])
    finally:
        engine.close()
    assert answer.error is None
    return str(answer.text).partition(":")[0]


def test_each_rounds_adapter_has_a_name_and_a_path_of_its_own(
    server: AdapterServer, settings: Any, adapters: list[str], tmp_path: Path
) -> None:
    assert ask(settings()) == "base"
    assert server.said == []
    names = [ask(settings(), adapter) for adapter in adapters]
    assert len(set(names)) == 4
    written = {path.name for path in (tmp_path / "seen by the server").iterdir()}
    assert written == set(server.models) - {"base"} == set(names[2:])
    # The one before last goes once the next is there.
    assert server.said == [
        f"load {names[0]}",
        f"load {names[1]}",
        f"load {names[2]}",
        f"unload {names[0]}",
        f"load {names[3]}",
        f"unload {names[1]}",
    ]
    assert ask(settings(), adapters[3]) == names[3]  # it is there
    assert ask(settings(), adapters[0]) == names[0]  # it has to be loaded again, and is
    assert server.said[6:] == [f"load {names[0]}", f"unload {names[2]}"]


def test_adapters_of_others_are_left_alone(
    server: AdapterServer, settings: Any, adapters: list[str]
) -> None:
    theirs = ["base-of-theirs", "base-0123", "sql"]
    server.models += theirs
    for adapter in adapters:
        ask(settings(), adapter)
    assert [name for name in server.models if name in theirs] == theirs


def test_rounds_on_each_other_are_asked_as_one(
    server: AdapterServer, settings: Any, adapters: list[str], tmp_path: Path
) -> None:
    name = ask(settings(), *adapters[:3])
    config = tmp_path / "seen by the server" / name / "adapter_config.json"
    assert json.loads(config.read_text())["r"] == 24
    server.most = 16
    with pytest.raises(
        ModelError, match=r"LoRA rank 24 is greater than max_lora_rank 16.*larger --max-lora-rank"
    ):
        ask(settings(), *adapters[1:])


@pytest.mark.parametrize("n_adapters", [0, 1])
@pytest.mark.parametrize(("fault", "status"), [("updating", 404), ("lora", 500)])
def test_a_server_that_loads_none_is_refused_before_anything_is_asked(
    fault: str,
    status: int,
    n_adapters: int,
    server: AdapterServer,
    settings: Any,
    adapters: list[str],
) -> None:
    """Also where the first round asks the base alone: the second would fail after a training."""
    server.fault = fault
    with pytest.raises(ModelError) as caught:
        ask(settings(), *adapters[:n_adapters])
    message = str(caught.value)
    assert message.startswith("model 'student': http")
    assert f"loads no adapters while it serves (HTTP {status}: " in message
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve … --enable-lora" in message
    assert server.calls == []
    found = list(settings().look("data/models/tiny-student"))
    assert [(each.place, each.is_certain) for each in found] == [(("engine", "adapters"), True)]


def test_nothing_is_wrong_with_one_that_does(server: AdapterServer, settings: Any) -> None:
    assert list(settings().look("data/models/tiny-student")) == []
    assert server.said == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("blind", r"the server does not see /.*/base-[0-9a-f]{16}: .*set engine\.adapters_folder"),
        ("other", r"expected target modules.*the one that the adapter was trained on"),
        ("hidden", r"does not list it among its models; .*--api-server-count 1"),
    ],
)
def test_an_adapter_that_is_not_there_after_all_is_one_message(
    fault: str, message: str, server: AdapterServer, settings: Any, adapters: list[str]
) -> None:
    server.fault = fault
    with pytest.raises(ModelError, match=rf"^model 'student': http\S+ .*{message}"):
        ask(settings(), adapters[0])
    assert server.calls == []


def test_an_adapter_that_fails_leaves_those_before_alone(
    server: AdapterServer, settings: Any, adapters: list[str]
) -> None:
    names = [ask(settings(), adapter) for adapter in adapters[:2]]
    server.fault = "other"
    with pytest.raises(ModelError):
        ask(settings(), adapters[2])
    assert server.models == ["base", *names]


def test_a_server_of_another_name_or_none_is_one_message(
    settings: Any, adapters: list[str]
) -> None:
    with pytest.raises(ModelError, match=r"does not serve 'bass' .*did you mean 'base'\?"):
        ask(settings(model="bass"), adapters[0])
    with pytest.raises(ModelError, match=r"^model 'student': http\S+ cannot be reached"):
        ask(settings(base_url="http://127.0.0.1:9/v1"), adapters[0])


def test_several_servers_each_load_it(
    server: AdapterServer, settings: Any, adapters: list[str]
) -> None:
    other = AdapterServer()
    try:
        name = ask(settings(base_url=(server.url, other.url)), adapters[0])
        assert server.said == other.said == [f"load {name}"]
    finally:
        other.close()


def test_the_base_has_weights_here_and_a_name_there(settings: Any) -> None:
    made = settings()
    assert made.has_weights_here()
    assert made.weights_identity("data/models/tiny-student") is None  # that of its files
    plain = OpenAISettings(kind="openai", base_url="http://localhost:1/v1")
    assert not plain.has_weights_here()
    with pytest.raises(ValidationError, match="adapters: hot_load needs model"):
        settings(model=None)
    with pytest.raises(ValidationError, match="adapters_folder goes with adapters"):
        settings(adapters=None)
    assert [place for place, _ in made.check("data/word_problems")] == [("model_name_or_path",)]


def test_what_the_network_loses_is_sent_again(
    server: AdapterServer, settings: Any, adapters: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As often as max_attempts says; a training loads an adapter in each of its steps."""
    monkeypatch.setattr(waiting, "FIRST_BACKOFF", 0.001)
    lost = iter([True, True, False, True])  # of listing and of loading

    def opener() -> Any:
        return SimpleNamespace(open=lose) if next(lost, False) else build_opener()

    def lose(*_: Any, **__: Any) -> Any:
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(hot_loading, "build_opener", opener)
    assert ask(settings(max_attempts=3), adapters[0]) in server.models[1:]
    lost = iter([True, True, True])
    with pytest.raises(ModelError, match="cannot be reached .*reset by peer"):
        ask(settings(max_attempts=2), adapters[1])
    assert list(lost) == [True]
    lost = iter([True])
    (found,) = hot_loading.why_not_ready(settings(max_attempts=3), None)  # at once, before a run
    assert "reset by peer" in found[1]
