"""Starts a server, waits until it answers, asks it as any other, and stops it.

The server is in the process group of the stage's worker, and ends with it, whatever ends that. What
it prints is in the stage's log.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from llm_distill.doing import doing
from llm_distill.engines.base import Completion, Request, Score, ScoreRequest
from llm_distill.engines.openai.engine import OpenAIEngine
from llm_distill.engines.openai.exchange import Answer
from llm_distill.engines.openai.settings import OpenAISettings, Price
from llm_distill.errors import ModelError
from llm_distill.models.sources import saved_dtype

if TYPE_CHECKING:
    from llm_distill.engines.budget import Budget
    from llm_distill.engines.vllm_server.settings import VLLMServerSettings
    from llm_distill.models.sources import ModelSource

HOST = "127.0.0.1"
KEY = "VLLM_API_KEY"
"""The environment variable from which vLLM takes it; an argument would be seen by all users."""
LAST_LINES = 12
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_STOP = 20.0
ATTEMPTS = 3
MODEL, ADAPTER = "model", "adapter"
"""What the server calls the model, and the same with its adapter."""
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
ON_A_CPU = {
    "no-enable-chunked-prefill": True,  # in vLLM 0.32 a seed and half a prompt end the server
    "kv-cache-memory-bytes": 2 * 2**30,  # its own choice is most of the memory
}

log = logging.getLogger("llm_distill.server")


class VLLMServerEngine:
    """See `engines.base.Engine`.

    Raises:
        ModelError: the server ends, or does not answer in time.
    """

    def __init__(self, source: ModelSource, settings: VLLMServerSettings, budget: Budget) -> None:
        self._name = source.name
        self._folder = TemporaryDirectory(prefix="llm-distill-")
        self._server = _Server(source, settings, Path(self._folder.name))
        try:
            self._server.wait(settings.startup_timeout)
            self._engine = OpenAIEngine(
                OpenAISettings(
                    kind="openai",
                    base_url=f"http://{HOST}:{self._server.port}/v1",
                    api_key_env=KEY,
                    max_concurrency=settings.max_concurrency,
                    max_attempts=ATTEMPTS,
                    price=Price(input=0, output=0),
                ),
                replace(source, path=_served_name(source), tokenizer=source),
                budget,
            )
        except BaseException:
            self._server.stop()
            self._folder.cleanup()
            raise

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Raises:
        ModelError: the server has ended; what came before is kept.
        """
        yield from self._checked(self._engine.generate(requests))

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Score]:
        """Raises:
        ModelError: as `generate` does.
        """
        yield from self._checked(self._engine.score(requests))

    def _checked(self, answers: Iterator[Answer]) -> Iterator[Answer]:
        try:
            for answer in answers:
                if answer.error is not None:
                    self._server.check()
                yield answer
        except ModelError:
            self._server.check()
            raise

    def close(self) -> None:
        """Stop the server; its memory is free then."""
        self._engine.close()
        self._server.stop()
        self._folder.cleanup()


class _Server:
    """The process."""

    def __init__(self, source: ModelSource, settings: VLLMServerSettings, folder: Path) -> None:
        self.port = _free_port()
        self._name = source.name
        self._said: deque[str] = deque(maxlen=LAST_LINES)
        os.environ[KEY] = secrets.token_hex(16)
        started = settings.command or (sys.executable, "-m", "vllm.entrypoints.openai.api_server")
        self._command = [*started, *arguments(source, settings, self.port, folder)]
        log.info("starting %s", " ".join(self._command))
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={**os.environ, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"},
            )
        except OSError as error:
            raise ModelError(
                f"model '{self._name}': engine.command {started[0]} cannot be started: "
                f"{error.strerror}"
            ) from error
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip():
                self._said.append(line.strip())
                log.info("server: %s", line.rstrip())

    def wait(self, seconds: float) -> None:
        """Until it answers."""
        with doing(f"start a server of {self._name}"):
            self._wait(seconds)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._answers():
            self.check("before it answered")
            if time.monotonic() > until:
                raise ModelError(
                    f"model '{self._name}': its server does not answer after {seconds:.0f} s; "
                    f"raise engine.startup_timeout, or see the stage's log; {self._last()}"
                )
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def _answers(self) -> bool:
        request = urllib.request.Request(f"http://{HOST}:{self.port}/health")
        request.add_header("Authorization", f"Bearer {os.environ[KEY]}")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with suppress(urllib.error.URLError, OSError), opener.open(request, timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    def check(self, when: str = "while it was asked") -> None:
        """Raises:
        ModelError: it has ended.
        """
        code = self._process.poll()
        if code is None:
            return
        self._reader.join(2.0)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise ModelError(
            f"model '{self._name}': its server ended ({how}) {when}; answers that came are kept, "
            f"and the next run asks for the others; {self._last()}"
        )

    def _last(self) -> str:
        if not self._said:
            return "it printed nothing"
        telling = [line for line in self._said if "rror" in line] or list(self._said)
        return f"it said: {telling[-1][:300]}"

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(2.0)


def arguments(
    source: ModelSource, settings: VLLMServerSettings, port: int, folder: Path
) -> list[str]:
    """The command's, in vLLM's names. folder: for files that the server reads."""
    if len(source.adapters) > 1:
        raise ModelError(
            f"model '{source.name}' has {len(source.adapters)} adapters on top of each other, and "
            "vLLM can apply one; merge all but the last (merge_adapter)"
        )
    given: dict[str, Any] = {
        "model": source.path,
        "served-model-name": MODEL,
        "host": HOST,
        "port": port,
        "load-format": "safetensors",
        "generation-config": "vllm",  # its sampling defaults are not ours
        "disable-uvicorn-access-log": True,
        "tensor-parallel-size": settings.tensor_parallel_size,
        "pipeline-parallel-size": settings.pipeline_parallel_size,
        "data-parallel-size": settings.data_parallel_size,
        "max-model-len": settings.max_model_len,
        "quantization": settings.quantization,
        "revision": source.revision,
        "tokenizer-revision": source.revision,
        "dtype": source.dtype,
    }
    if settings.command is None:
        given["dtype"] = saved_dtype(source)
        given |= {} if _has_gpu() else ON_A_CPU
    if source.adapters:
        given |= {"enable-lora": True, "lora-modules": f"{ADAPTER}={source.adapters[0]}"}
        given["max-lora-rank"] = _room_for(Path(source.adapters[0]))
    if source.chat_template is not None:
        file = folder / "chat_template.jinja"
        file.write_text(source.chat_template, encoding="utf-8")
        given["chat-template"] = file
    given |= {name.replace("_", "-"): value for name, value in settings.arguments.items()}
    found: list[str] = []
    for name, value in given.items():
        if value is None or value is False:
            continue
        found += [f"--{name}"] if value is True else [f"--{name}={value}"]
    return found


def _served_name(source: ModelSource) -> str:
    """What requests call the model; with an adapter, that."""
    return ADAPTER if source.adapters else MODEL


def _room_for(adapter: Path) -> int:
    """The smallest rank that vLLM has room for and that holds an adapter's."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    wanted = max([config["r"], *(config.get("rank_pattern") or {}).values()])
    return next((rank for rank in RANKS if rank >= wanted), wanted)


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((HOST, 0))
        return int(found.getsockname()[1])
