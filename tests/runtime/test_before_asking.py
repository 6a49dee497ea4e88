"""Models, servers and prompts are looked at before anything is asked; all is said at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from llm_distill.runtime import preflight
from tests.engines.loopback import Loopback
from tests.runtime.test_preflight import refused as refused_without_servers

MODELS = Path(__file__).parents[2] / "data" / "models"
ASK = {
    "stage": "generate",
    "rows": "rows",
    "model": "m",
    "template": "ask.jinja",
    "sampling": {"max_tokens": 5},
}


def refused(cli: Any, file: str, deep: bool = False) -> str:
    """What `run` says as it refuses; `plan` (with --deep where servers are asked) says it too."""
    if not deep:
        return str(refused_without_servers(cli, file))
    found, planned = cli("run", file), cli("plan", file, "--deep")
    assert found.code == planned.code == 4, (found, planned)
    assert found.err == planned.err == cli("validate", file, "--deep").err
    assert cli("plan", file).code == 0  # it sends nothing
    assert not list(Path("data/runs").glob("*/*"))
    return str(found.err)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes a pipeline over rows, and a copy of a model that can be damaged; gives its name."""
    monkeypatch.chdir(tmp_path)
    for name in ("tiny-student", "tiny-teacher"):
        shutil.copytree(MODELS / name, tmp_path / name)
    (tmp_path / "ask.jinja").write_text("{{ question }}")
    (tmp_path / "other.jinja").write_text("{{ question }}")

    def put(stages: dict[str, Any], rows: Any = None, **models: Any) -> str:
        given = rows or [{"id": str(n), "question": f"{n}?"} for n in range(30)]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
        file = {
            "name": "p",
            "models": models,
            "stages": {"rows": {"stage": "load_dataset", "path": "rows.jsonl"}, **stages},
        }
        (tmp_path / "p.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
        return "p.yaml"

    return put


def text(name: str = "tiny-student") -> dict[str, Any]:
    return {"model_name_or_path": name, "prompt_format": "text"}


def served(url: str, **more: Any) -> dict[str, Any]:
    engine = {"kind": "openai", "base_url": url, **more}
    return {"model_name_or_path": "served-model", "prompt_format": "text", "engine": engine}


@pytest.fixture
def server() -> Iterator[Loopback]:
    found = Loopback()
    yield found
    found.close()


def test_files_of_models_that_cannot_be_read(write: Any, cli: Any) -> None:
    train = {"stage": "train_sft", "rows": "rows", "model": "s", "prompt_template": "ask.jinja"}
    rows = [{"id": str(n), "question": f"{n}?", "completion": "x"} for n in range(9)]
    file = write(
        {"one": ASK, "two": {**ASK, "model": "c"}, "student": train},
        rows,
        m=text(),
        c={"model_name_or_path": "tiny-teacher"},
        s=text("newer"),
    )
    shutil.copytree("tiny-student", "newer")
    Path("tiny-student/tokenizer.json").write_text("{")
    settings = json.loads(Path("newer/config.json").read_text())
    Path("newer/config.json").write_text(json.dumps({**settings, "model_type": "quark9"}))
    for each in ("chat_template.jinja", "tokenizer_config.json"):
        place = Path("tiny-teacher") / each
        if place.is_file() and each.endswith("json"):
            kept = json.loads(place.read_text())
            kept.pop("chat_template", None)
            place.write_text(json.dumps(kept))
        elif place.is_file():
            place.unlink()
    said = refused(cli, file)
    assert "models.m.model_name_or_path: tiny-student/tokenizer.json cannot be read" in said
    assert "models.c.model_name_or_path: it has no chat template; set prompt_format: text" in said
    assert "models.s.model_name_or_path: it is of the kind 'quark9', which the installed" in said
    assert cli("validate", file).code == 0
    deep = cli("validate", file, "--deep")
    assert deep.code == 4
    assert deep.err == cli("run", file).err


def test_a_server_is_asked_for_its_models(
    write: Any, cli: Any, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-abc")
    down = "http://127.0.0.1:9/v1"
    file = write(
        {
            "one": ASK,
            "two": {**ASK, "model": "typo"},
            "three": {**ASK, "model": "down"},
        },
        m=served(server.url),
        typo=served(server.url, model="served-modle"),
        down=served(down),
        unused=served(down),
    )
    assert "servers are not asked for their models here" in cli("plan", file).out
    assert server.models_asked == 0
    said = refused(cli, file, deep=True)
    assert (
        f"models.typo.engine.model: {server.url} has no model 'served-modle'; "
        "did you mean 'served-model'? allowed: other-model, served-model" in said
    )
    assert f"models.down.engine.base_url: {down} cannot be reached" in said
    assert "it should serve 'served-model': start it, or correct engine.base_url" in said
    assert "unused" not in said
    assert server.calls == []
    assert server.models_asked > 0


def test_an_address_without_its_v1_is_an_error(write: Any, cli: Any, server: Loopback) -> None:
    said = refused(cli, write({"one": ASK}, m=served(server.url.removesuffix("/v1"))), deep=True)
    assert "base_url should end in /v1" in said


def test_a_server_without_a_list_is_said_and_no_error(
    write: Any, cli: Any, server: Loopback
) -> None:
    elsewhere = f"{server.url}/elsewhere/v1"  # where there is no /models
    file = write({"one": ASK}, m=served(elsewhere))
    planned = cli("plan", file, "--deep")
    assert planned.code == 0
    assert "answers HTTP 404 to a question for its models; is engine.base_url right?" in planned.out
    deep = cli("validate", file, "--deep")
    assert (deep.code, "can be used" in deep.out) == (0, False)
    azure = write({"one": ASK}, m=served(server.url, model="my-deployment", api_version="1"))
    planned = cli("plan", azure, "--deep")
    assert planned.code == 0
    assert "has no model 'my-deployment'" in planned.out


def test_what_has_answered_before_may_be_down_now(write: Any, cli: Any, server: Loopback) -> None:
    file = write({"one": ASK}, m=served(server.url))
    assert cli("run", file).code == 0
    gone = write({"one": ASK, "more": {**ASK, "n": 1}}, m=served("http://127.0.0.1:9/v1"))
    done = cli("run", gone)  # all that it asks is stored
    assert done.code == 0, done
    assert "cannot be reached" in done.out
    assert file == gone


def test_a_key_that_is_refused(write: Any, cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.engines import loopback

    async def refuse(self: Loopback, request: web.Request) -> web.Response:
        is_right = request.headers.get("Authorization") == "Bearer sk-right"
        return web.json_response(
            {"data": [{"id": "served-model"}]}, status=200 if is_right else 401
        )

    monkeypatch.setattr(loopback.Loopback, "_list", refuse)
    found = Loopback()
    try:
        file = write({"one": ASK}, m=served(found.url, api_key_env="SOME_VARIABLE"))
        assert "set the environment variable SOME_VARIABLE to a key for it" in refused(
            cli, file, deep=True
        )
        monkeypatch.setenv("SOME_VARIABLE", "sk-wrong")
        said = refused(cli, file, deep=True)
        assert "it refuses the key in the environment variable SOME_VARIABLE" in said
        assert "sk-wrong" not in said
        monkeypatch.setenv("SOME_VARIABLE", "sk-right")
        assert cli("plan", file, "--deep").code == 0
    finally:
        found.close()


def test_prompts_that_cannot_be_made_of_the_rows_that_are_there(write: Any, cli: Any) -> None:
    rows = [
        {"id": str(n), "question": f"{n}?", "more": None, "few": "x" if n > 2 else " "}
        for n in range(30)
    ]
    file = write(
        {
            "one": {**ASK, "template": "more.jinja"},
            "some": {**ASK, "template": "few.jinja"},
            "typo": {**ASK, "template": "o.jinja"},
        },
        rows,
        m=text(),
    )
    Path("more.jinja").write_text("{{ question }} {{ more }}")
    Path("few.jinja").write_text("{{ few }}")
    Path("o.jinja").write_text("{{ question.nothing }}")
    said = refused(cli, file)
    assert "stages.one.template: a prompt: 0-0: template more.jinja: more is null" in said
    assert "stages.typo.template: a prompt: 0-0: template o.jinja: " in said
    assert "has no attribute 'nothing'" in said
    assert "stages.some" not in said
    planned = cli("plan", file)
    assert "stages.some.template: a prompt: 0-0: template few.jinja: few is null or empty" in (
        planned.out
    )


def test_messages_that_the_chat_template_refuses(write: Any, cli: Any) -> None:
    template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    )
    Path("no_system.jinja").write_text(template)
    chat = {"model_name_or_path": "tiny-teacher", "chat_template": "no_system.jinja"}
    file = write({"one": {**ASK, "system_template": "other.jinja"}}, m=chat)
    said = refused(cli, file)
    assert "stages.one.model: a prompt: 0-0: model 'm': refused by the chat template: " in said
    assert "System role not supported" in said
    folded = write({"one": {**ASK, "system_template": "other.jinja"}},
                   m={**chat, "system_role": "fold"})  # fmt: skip
    assert cli("plan", folded).code == 0
    script = {"kind": "scripted", "function": "tests.engines.test_ray:reply"}
    scripted = write(
        {"one": {**ASK, "system_template": "other.jinja"}}, m={**chat, "engine": script}
    )
    assert cli("plan", scripted).code == 0  # which has no template


def test_conversations_of_which_some_are_refused_are_a_warning(write: Any, cli: Any) -> None:
    template = (
        "{% if messages[0]['role'] != 'user' %}{{ raise_exception('must begin with a user') }}"
        "{% endif %}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    )
    Path("user_first.jinja").write_text(template)
    turns = [{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "2 + 2?"}]
    rows = [{"id": str(n), "messages": turns if n < 3 else turns[1:]} for n in range(30)]
    talk = {"stage": "generate", "rows": "rows", "model": "m", "messages_column": "messages"}
    chat = {"model_name_or_path": "tiny-teacher", "chat_template": "user_first.jinja"}
    file = write({"talk": talk}, rows, m=chat)
    planned = cli("plan", file)
    assert planned.code == 0, planned
    assert "stages.talk.model: a prompt: 0-0: model 'm': refused by the chat template" in (
        planned.out
    )


def test_what_takes_long_is_said(
    write: Any, cli: Any, monkeypatch: pytest.MonkeyPatch, server: Loopback
) -> None:
    monkeypatch.setattr(preflight, "SECONDS", 0.0)
    file = write({"one": ASK}, m=served(server.url))
    assert "looking at models, servers and first prompts" in cli("run", file).out
