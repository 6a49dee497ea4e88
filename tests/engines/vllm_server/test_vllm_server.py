"""A stage starts a server, asks it, and never leaves it behind."""

from __future__ import annotations

import json
import os
import sys
from collections import deque
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError

from llm_distill.engines.base import Request, SamplingSettings
from llm_distill.engines.budget import Budget
from llm_distill.engines.vllm_server import engine as module
from llm_distill.engines.vllm_server.engine import visible
from llm_distill.engines.vllm_server.settings import VLLMServerSettings
from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource
from llm_distill.runtime.fingerprint import result_settings
from tests.engines.adapter_server import write_adapter

SERVER = str(Path(__file__).parent / "server.py")
SOURCE = ModelSource("small", "somewhere/small", prompt_format="text")


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """The process and the arguments that the server was started with."""
    monkeypatch.setenv("ARGUMENTS", str(tmp_path / "arguments"))
    monkeypatch.setenv("VLLM_API_KEY", "")
    return lambda: json.loads((tmp_path / "arguments").read_text())


def settings(**others) -> VLLMServerSettings:
    return VLLMServerSettings(kind="vllm_server", command=(sys.executable, SERVER), **others)


def requests(n: int):
    return [Request(str(i), f"What is {i}?", SamplingSettings(), i) for i in range(n)]


def test_it_is_started_asked_and_stopped(asked):
    arguments = {"gpu_memory_utilization": 0.5, "enforce-eager": True, "swap_space": False}
    engine = settings(data_parallel_size=2, arguments=arguments).open(SOURCE, Budget(None))
    process, given = asked()
    assert given["model"] == "somewhere/small"
    assert given["data-parallel-size"] == "2"
    assert given["gpu-memory-utilization"] == "0.5"
    assert given["enforce-eager"] == ""
    assert not {"swap-space", "trust-remote-code", "api-key"} & set(given)
    assert os.environ["VLLM_API_KEY"] not in " ".join(psutil.Process(process).cmdline())
    found = {a.id: a.text for a in engine.generate(requests(20))}
    assert found == {str(i): f"echo What is {i}?" for i in range(20)}
    engine.close()
    assert not psutil.pid_exists(process)


def test_an_adapter_and_a_template_are_given_to_it(asked, tmp_path):
    config = {"r": 20, "rank_pattern": {"q_proj": 40}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    source = replace(SOURCE, adapters=(str(tmp_path),), chat_template="{{ messages }}")
    engine = settings().open(source, Budget(None))
    _, given = asked()
    assert given["lora-modules"] == f"adapter={tmp_path}"
    assert given["max-lora-rank"] == "64"
    assert Path(given["chat-template"]).read_text() == "{{ messages }}"
    [answer] = engine.generate(requests(1))
    assert answer.text == "echo What is 0?"
    engine.close()
    assert not Path(given["chat-template"]).exists()


def test_adapters_on_each_other_are_given_to_it_as_one(asked, tmp_path):
    adapters = tuple(write_adapter(tmp_path / name, 1.0, rank=12) for name in "ab")
    engine = settings().open(replace(SOURCE, adapters=adapters), Budget(None))
    _, given = asked()
    name, _, one = given["lora-modules"].partition("=")
    assert name == "adapter"
    assert json.loads((Path(one) / "adapter_config.json").read_text())["r"] == 24
    assert given["max-lora-rank"] == "32"
    [answer] = engine.generate(requests(1))
    assert answer.error is None
    engine.close()
    assert not Path(one).exists()
    with pytest.raises(ModelError, match="model 'small': no adapter at a: "):
        settings().open(replace(SOURCE, adapters=("a", "b")), Budget(None))


@pytest.mark.parametrize(
    ("there", "named"),
    [(None, "1,3"), ("4,5,6,7", "5,7"), ("GPU-a,GPU-b,GPU-c,GPU-d", "GPU-b,GPU-d")],
)
def test_its_gpus_are_those_of_this_process(there, named, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if there is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", there)
    assert visible((1, 3)) == named


def test_beside_a_training_it_leaves_memory_unless_it_has_a_gpu_of_its_own(tmp_path, monkeypatch):
    """As arguments: here is no GPU to run it on."""
    source = replace(SOURCE, adapters=(write_adapter(tmp_path / "one", 1.0),))
    monkeypatch.setattr(module, "_has_gpu", lambda: True)
    monkeypatch.setattr(module, "saved_dtype", lambda source: "float32")

    def memory(source, **others):
        own = VLLMServerSettings(kind="vllm_server", **others)
        given = module.arguments(source, own, 1, tmp_path)
        return [each for each in given if each.startswith("--gpu-memory-utilization")]

    hot = {"adapters": "hot_load"}
    assert memory(source, **hot) == ["--gpu-memory-utilization=0.3"]
    assert memory(source, **hot, gpus=(1,)) == memory(source) == memory(SOURCE, **hot) == []
    more = {"arguments": {"gpu_memory_utilization": 0.5}}
    assert memory(source, **hot, **more) == ["--gpu-memory-utilization=0.5"]


def test_a_gpu_that_this_process_does_not_have_is_refused(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    with pytest.raises(ModelError, match="engine.gpus names 2, and 2 GPUs are visible"):
        visible((2,))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gpus": (0, 0)}, "different numbers from 0 on"),
        ({"gpus": (-1,)}, "different numbers from 0 on"),
        ({"gpus": ()}, "at least 1"),
        ({"gpus": (0, 1)}, "gpus names 2, and .* are 1"),
        ({"gpus": (0,), "tensor_parallel_size": 2}, "gpus names 1, and .* are 2"),
    ],
)
def test_gpus_that_cannot_be_are_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        settings(**given)


def test_one_that_does_not_start_says_why(asked, monkeypatch):
    monkeypatch.setenv("FAULT", "start")
    with pytest.raises(ModelError, match=r"exit code 1\) before it .*ValueError: the model is too"):
        settings().open(SOURCE, Budget(None))
    with pytest.raises(ModelError, match="engine.command nowhere cannot be started: No such file"):
        VLLMServerSettings(kind="vllm_server", command=("nowhere",)).open(SOURCE, Budget(None))


def test_one_that_never_answers_is_stopped(asked, monkeypatch):
    monkeypatch.setenv("FAULT", "never")
    with pytest.raises(ModelError, match=r"does not answer after 3 s; raise engine.startup"):
        settings(startup_timeout=3).open(SOURCE, Budget(None))
    assert not psutil.pid_exists(asked()[0])


def test_one_that_dies_ends_the_stage_and_what_came_is_kept(asked, monkeypatch):
    monkeypatch.setenv("FAULT", "after:7")
    engine = settings(max_concurrency=1).open(SOURCE, Budget(None))
    found: list[str] = []
    answers = (found.append(answer.text) for answer in engine.generate(requests(20)))
    with pytest.raises(ModelError, match=r"exit code 3\) while it was .*RuntimeError: out of luck"):
        deque(answers, maxlen=0)
    assert found == [f"echo What is {i}?" for i in range(7)]
    engine.close()


def test_only_what_changes_answers_identifies_them():
    one = settings(tensor_parallel_size=2, arguments={"seed": 3}, max_concurrency=9)
    assert result_settings(one) == result_settings(settings())
    assert result_settings(settings(max_model_len=99)) != result_settings(settings())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"api-key": "x"}, "'api-key' is ours"),
        ({"trust_remote_code": True}, "is ours"),
        ({"max_model_len": 9}, "is a setting beside arguments"),
        ({"--port": 9}, "is not a name"),
    ],
)
def test_arguments_that_are_not_free_are_refused(arguments, message):
    with pytest.raises(ValidationError, match=message):
        settings(arguments=arguments)
