"""A server on a finished run's model: what it is given, a request that works, and its end."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from llm_distill.cli import serving
from llm_distill.cli.serve import Server
from llm_distill.engines.vllm_server.settings import VLLMServerSettings

pytestmark = pytest.mark.slow
listed: list[str] = []
"""What the server lists as its models."""
FAKE = str(Path(__file__).parents[1] / "engines/vllm_server/server.py")


@pytest.fixture
def served(monkeypatch, tmp_path, at_run):
    """`serve` with a server that is stopped as by Ctrl-C once its example has been asked."""
    answers: list[str] = []
    listed.clear()
    monkeypatch.setattr(serving, "quiet_libraries", lambda: None)
    monkeypatch.setenv("ARGUMENTS", str(tmp_path / "arguments"))
    example = serving._example

    def asked(*arguments):
        line = example(*arguments)
        models = f"curl -s http://{arguments[-1]}/v1/models"
        done = subprocess.run(models, shell=True, capture_output=True, text=True, timeout=120)
        listed.append(done.stdout)
        done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=120)
        answers.append(done.stdout)
        return line

    def stop(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(serving, "_example", asked)
    monkeypatch.setattr(serving.ServerProcess, "watch", stop)
    return answers


def test_vllm_gets_the_adapter_and_is_stopped(at_run, served, monkeypatch, tmp_path, finished):
    monkeypatch.setitem(serving.NEEDED, Server.VLLM, ())
    monkeypatch.setitem(serving.PROGRAMS, Server.VLLM, (sys.executable, FAKE))
    monkeypatch.setenv("VLLM_API_KEY", "of-the-user")
    said = at_run("serve", "made", "--port", 0, "--", "--enforce-eager", "--seed=3")
    assert said.code == 130, said.err
    process, given = json.loads((tmp_path / "arguments").read_text())
    name, _, adapter = given["lora-modules"].partition("=")
    folder = at_run("path", "made", "tuned").out.strip()
    assert (name, str(Path(adapter).resolve())) == ("tuned", folder)
    assert (given["served-model-name"], given["max-lora-rank"]) == ("tuned-base", "8")
    assert (given["enforce-eager"], given["seed"], given["host"]) == ("", "3", "127.0.0.1")
    [answer] = served
    assert "echo Solve it.\\n\\nQuestion: What is 2 + 2?" in answer
    assert not psutil.pid_exists(process)
    assert f"http://127.0.0.1:{given['port']}/v1" in said.out
    assert "tuned (the last trained model that exam 'exam' names)" in said.err


def test_settings_of_a_server_that_loads_adapters(at_run, served, monkeypatch, tmp_path):
    """Here it has one, as it starts, and nobody may load others."""
    monkeypatch.setitem(serving.NEEDED, Server.VLLM, ())
    monkeypatch.setitem(serving.PROGRAMS, Server.VLLM, (sys.executable, FAKE))
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    engine = VLLMServerSettings(kind="vllm_server", adapters="hot_load", gpus=(1,))
    config = SimpleNamespace(engine=engine)
    monkeypatch.setattr(serving.FinishedRun, "model_config", lambda self, name: config)
    said = at_run("serve", "made", "tuned", "--port", 0)
    assert said.code == 130, said.err
    _, given = json.loads((tmp_path / "arguments").read_text())
    assert given["lora-modules"].startswith("tuned=")
    assert "max-loras" not in given


def test_adapters_on_each_other_are_merged_for_it(at_run, served, monkeypatch, tmp_path):
    monkeypatch.setitem(serving.NEEDED, Server.VLLM, ())
    monkeypatch.setitem(serving.PROGRAMS, Server.VLLM, (sys.executable, FAKE))
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    said = at_run("serve", "made", "again", "--port", 0, "--merge")
    assert said.code == 130, said.err
    _, given = json.loads((tmp_path / "arguments").read_text())
    assert "lora-modules" not in given
    assert given["served-model-name"] == "again"
    line = said.out.splitlines()[2]
    body = json.loads(shlex.split(line)[-1])
    assert [turn["role"] for turn in body["messages"]] == ["system", "user"]
    assert "/v1/chat/completions" in line


def test_transformers_own_server_answers_as_ask_does(at_run, served, monkeypatch):
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", "no such folder")
    said = at_run("serve", "made", "tuned", "--port", 0, "--with", "transformers")
    assert said.code == 130, said.err
    asked = at_run("ask", "made", "tuned", "-q", "What is 2 + 2?").out
    text = json.loads(served[0])["choices"][0]["text"]
    assert '"model": "tuned"' in said.out
    assert [each["id"] for each in json.loads(listed[0])["data"]] == ["tuned"]
    assert text.strip() == asked.strip().removesuffix(" …").strip()
    running = [" ".join(p.cmdline()) for p in psutil.Process().children(recursive=True)]
    assert not [line for line in running if "transformers.cli" in line]


def test_a_server_that_does_not_start_says_why(at_run, served, monkeypatch):
    monkeypatch.setitem(serving.NEEDED, Server.VLLM, ())
    monkeypatch.setitem(serving.PROGRAMS, Server.VLLM, (sys.executable, FAKE))
    monkeypatch.setenv("FAULT", "start")
    said = at_run("serve", "made", "tuned", "--port", 0, "--with", "vllm")
    assert said.code == 4
    assert "error: model 'tuned': its server ended (exit code 1) before it answered" in said.err
    assert "the model is too large" in said.err


def test_what_cannot_be_served_is_one_message(at_run, served, monkeypatch):
    nothing = dict.fromkeys(Server, ("no_such_package",))
    monkeypatch.setattr(serving, "NEEDED", nothing)
    said = at_run("serve", "made", "tuned")
    assert said.code == 2
    assert "pip install 'llm-distill[vllm]'" in said.err
    assert "pip install 'llm-distill[serve]'" in said.err
    monkeypatch.setattr(serving, "NEEDED", dict.fromkeys(Server, ()))
    assert "no weights to serve" in at_run("serve", "made", "writer").err
    assert "gives rows, not a model" in at_run("serve", "made", "items").err
