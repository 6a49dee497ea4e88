"""What a file from a stranger cannot do: the tests that docs/security.md names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_distill.errors import ConfigError, DataError, ModelError
from llm_distill.models.files import check_model_dir
from llm_distill.pipeline.load import load_pipeline
from llm_distill.prompts import LARGEST_FILE, LONGEST_PROMPT, load_template
from tests.engines.loopback import Loopback

SECRET = "ghp_abcdefghij0123456789"


def template(folder: Path, text: str, name: str = "t.jinja") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.mark.parametrize(
    "name", [".env", "id_rsa", "passwd", "credentials", "key.pem", "notes.pdf"]
)
def test_only_a_file_named_as_a_template_is_read_into_prompts(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="its name ends in one of .jinja"):
        load_template(template(tmp_path, "plain text", name))


def test_a_template_with_a_secret_is_refused_and_the_secret_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="looks like a secret") as error:
        load_template(template(tmp_path, f"Use {SECRET} for it."))
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "{{ question.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ question['__class__'] }}",
        "{{ question|attr('__class__') }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ lipsum.__globals__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ joiner.__init__ }}",
        "{{ '{0.__class__.__mro__}'.format(question) }}",
        "{{ ('%s'|format)('x').__class__ }}",
        "{{ rows.append(1) }}",
        "{{ rows.clear() }}",
        "{% set x = rows.__setitem__(0, 1) %}",
    ],
)
def test_a_template_does_not_leave_the_sandbox(tmp_path: Path, text: str) -> None:
    rows = ["a"]
    with pytest.raises((DataError, ConfigError)):
        load_template(template(tmp_path, text)).render({"question": "Why?", "rows": rows})
    assert rows == ["a"]


def test_the_limits_of_a_template(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{LARGEST_FILE:,}"):
        load_template(template(tmp_path, "x" * (LARGEST_FILE + 1)))
    longest = load_template(template(tmp_path, "{{ x }}{{ x }}"))
    with pytest.raises(DataError, match=f"writes more than {LONGEST_PROMPT:,} characters"):
        longest.render({"x": "x" * (LONGEST_PROMPT // 2 + 1)})


def test_a_template_sees_no_variable_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    for text in ("{{ environ }}", "{{ env.HF_TOKEN }}", "{{ HF_TOKEN }}", "{{ os.environ }}"):
        with pytest.raises(DataError):
            load_template(template(tmp_path, text)).render({"question": "x"})
    assert load_template(template(tmp_path, "${HF_TOKEN}")).render({}) == "${HF_TOKEN}"


def pipeline(folder: Path, models: dict[str, Any], stages: dict[str, Any]) -> str:
    (folder / "rows.jsonl").write_text('{"id": "a", "question": "x"}\n')
    data = {"stage": "load_dataset", "path": str(folder / "rows.jsonl")}
    values = {"name": "p", "models": models, "stages": {"d": data, **stages}}
    for stage in stages.values():
        stage["template"] = template(folder, "Question: {{ question }}")
    (folder / "p.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return str(folder / "p.yaml")


ASKS = {"x": {"stage": "generate", "rows": "d", "model": "m", "template": "t.jinja"}}


def test_validate_and_plan_run_no_code_that_a_file_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Any
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "not_imported.py").write_text("raise SystemExit('it was imported')\n")
    engine = {"kind": "scripted", "function": "not_imported:reply"}
    model = {"model_name_or_path": "m", "prompt_format": "text", "engine": engine}
    file = pipeline(tmp_path, {"m": model}, ASKS)
    for command in (["validate", file], ["plan", file, "--workspace", tmp_path / "w"]):
        assert cli(*command).code == 0
    assert "not_imported" not in sys.modules


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", "..", ".hidden", "~"])
def test_a_name_does_not_lead_out_of_the_workspace(tmp_path: Path, name: str) -> None:
    good = yaml.safe_load(Path(pipeline(tmp_path, {}, {})).read_text())
    data = good["stages"]["d"]
    for wrong in ({**good, "name": name}, {**good, "stages": {name: data}}):
        (tmp_path / "p.yaml").write_text(yaml.safe_dump(wrong))
        with pytest.raises(ConfigError, match="name"):
            load_pipeline(str(tmp_path / "p.yaml"))


@pytest.mark.parametrize("name", ["trust_remote_code", "load_format", "use_safetensors"])
@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_no_setting_runs_code_of_a_model_repository(tmp_path: Path, engine: str, name: str) -> None:
    model = {"model_name_or_path": "data/models/tiny-student"}
    for wrong in ({**model, name: True}, {**model, "engine": {"kind": engine, name: True}}):
        with pytest.raises(ConfigError, match=f"unknown setting '{name}'"):
            load_pipeline(pipeline(tmp_path, {"m": wrong}, ASKS))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth"])
def test_weights_that_are_pickles_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / name).write_bytes(b"never read")
    with pytest.raises(ModelError, match="pickle weights only .*can run code when loaded"):
        check_model_dir(tmp_path)


def test_who_gets_prompts_and_which_key_is_said_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Any
) -> None:
    monkeypatch.setenv("SOMEBODYS_KEY", "not to be shown")
    server = Loopback()
    engine = {"kind": "openai", "base_url": server.url, "api_key_env": "SOMEBODYS_KEY"}
    model = {"model_name_or_path": "served-model", "engine": engine}
    file = pipeline(tmp_path, {"m": model, "unused": model}, ASKS)
    said = f"model 'm': prompts go to {server.url} with the key in SOMEBODYS_KEY"
    planned = cli("plan", file, "--workspace", tmp_path / "w")
    assert server.models_asked == 0
    ran = cli("run", file, "--workspace", tmp_path / "w")
    assert server.models_asked == 1
    server.close()
    for each in (planned, ran):
        assert said in " ".join(each.out.split())
        assert "unused" not in each.out
        assert "not to be shown" not in each.out + each.err
    assert ran.out.index("prompts go to") < ran.out.index("▶")
    monkeypatch.delenv("SOMEBODYS_KEY")
    assert "with the key" not in cli("plan", file, "--workspace", tmp_path / "w").out
