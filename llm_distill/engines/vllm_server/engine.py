"""Starts a server, waits until it answers, asks it as any other, and stops it.

The server is in the process group of the stage's worker, and ends with it, whatever ends that. What
it prints is in the stage's log.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from llm_distill.doing import doing
from llm_distill.engines.base import Completion, Request, Score, ScoreRequest
from llm_distill.engines.openai.engine import OpenAIEngine
from llm_distill.engines.openai.exchange import Answer
from llm_distill.engines.openai.settings import OpenAISettings, Price
from llm_distill.engines.vllm_server.process import HOST, ServerProcess, free_port
from llm_distill.errors import ModelError
from llm_distill.models.adapters import written_as_one
from llm_distill.models.sources import saved_dtype

if TYPE_CHECKING:
    from llm_distill.engines.budget import Budget
    from llm_distill.engines.vllm_server.settings import VLLMServerSettings
    from llm_distill.models.sources import ModelSource

KEY = "VLLM_API_KEY"
"""The environment variable from which vLLM takes it; an argument would be seen by all users."""
ATTEMPTS = 3
PROGRAM = (sys.executable, "-m", "vllm.entrypoints.openai.api_server")
ENDED = ("while it was asked", "answers that came are kept, and the next run asks for the others")
MODEL, ADAPTER = "model", "adapter"
"""What the server calls the model, and the same with its adapter."""
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
MAY_LOAD = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
"""Whoever may load adapters may have a path read; this server is on loopback and has a key."""
BESIDE_A_TRAINING = 0.3
"""Of a GPU's memory, where the server has none of its own; vLLM alone takes nine tenths."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
ON_A_CPU = {
    "no-enable-chunked-prefill": True,  # in vLLM 0.32 a seed and half a prompt end the server
    "kv-cache-memory-bytes": 2 * 2**30,  # its own choice is most of the memory
}


class VLLMServerEngine:
    """See `engines.base.Engine`.

    Raises:
        ModelError: the server ends, or does not answer in time.
    """

    def __init__(self, source: ModelSource, settings: VLLMServerSettings, budget: Budget) -> None:
        self._name = source.name
        self._folder = TemporaryDirectory(prefix="llm-distill-")
        self._server = _started(source, settings, Path(self._folder.name))
        try:
            advice = "raise engine.startup_timeout, or see the stage's log"
            with doing(f"start a server of {source.name}"):
                self._server.wait(settings.startup_timeout, advice)
            there = OpenAISettings(
                kind="openai",
                base_url=f"http://{HOST}:{self._server.port}/v1",
                api_key_env=KEY,
                max_concurrency=settings.max_concurrency,
                max_attempts=ATTEMPTS,
                price=Price(input=0, output=0),
            )
            if _loads_adapters(source, settings):
                folder = Path(self._folder.name) / "adapters"
                of_adapters = {"model": MODEL, "adapters": "hot_load", "adapters_folder": folder}
                there = there.model_copy(update=of_adapters)
                named = MODEL
            else:
                named = _served_name(source)
            self._engine = OpenAIEngine(there, _on_the_server(source, named), budget)
        except BaseException:
            self._server.stop()
            self._folder.cleanup()
            raise

    def change_adapters(self, source: ModelSource) -> None:
        """See `engines.base.AdapterEngine`."""
        try:
            self._engine.change_adapters(_on_the_server(source, MODEL))
        except ModelError:
            self._server.check("as an adapter was loaded")
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
                    self._server.check(*ENDED)
                yield answer
        except ModelError:
            self._server.check(*ENDED)
            raise

    def close(self) -> None:
        """Stop the server; its memory is free then."""
        self._engine.close()
        self._server.stop()
        self._folder.cleanup()


def _started(source: ModelSource, settings: VLLMServerSettings, folder: Path) -> ServerProcess:
    key, port = secrets.token_hex(16), free_port()
    os.environ[KEY] = key
    program = settings.command or PROGRAM
    command = [*program, *arguments(source, settings, port, folder)]
    environment: dict[str, str] = {}
    if _loads_adapters(source, settings):
        environment |= MAY_LOAD
    if settings.gpus is not None:
        environment[VISIBLE] = visible(settings.gpus)
    return ServerProcess(
        source.name,
        command,
        port,
        key=key,
        called=f"engine.command {program[0]}",
        environment=environment,
    )


def _loads_adapters(source: ModelSource, settings: VLLMServerSettings) -> bool:
    """Whether the server is started without an adapter, and given one after the other."""
    return settings.adapters is not None and bool(source.adapters)


def _on_the_server(source: ModelSource, named: str) -> ModelSource:
    return replace(source, path=named, tokenizer=source)


def visible(gpus: Sequence[int]) -> str:
    """Those of this process's GPUs, as the server's environment names them.

    gpus: counted from 0.

    Raises:
        ModelError: this process is allowed fewer.
    """
    named = os.environ.get(VISIBLE)
    if named is None:
        return ",".join(map(str, gpus))
    here = [name for name in named.split(",") if name]
    if max(gpus) >= len(here):
        raise ModelError(
            f"engine.gpus names {max(gpus)}, and {len(here)} GPUs are visible, counted from 0 "
            f"({VISIBLE}={named})"
        )
    return ",".join(here[number] for number in gpus)


def arguments(
    source: ModelSource,
    settings: VLLMServerSettings,
    port: int,
    folder: Path,
    *,
    host: str = HOST,
    names: tuple[str, str] = (MODEL, ADAPTER),
) -> list[str]:
    """The command's, in vLLM's names.

    Args:
        source: the model.
        settings: its engine's.
        port: where the server listens.
        folder: for files that the server reads.
        host: of which it listens there.
        names: what requests call the model, and the same with its adapter.

    Raises:
        ModelError: vLLM cannot apply its adapters.
    """
    model_name, adapter_name = names
    if len(source.adapters) > 1:  # vLLM applies one
        one = written_as_one(source.adapters, adapter_name, folder, source.name)
        source = replace(source, adapters=(str(one),))
    given: dict[str, Any] = {
        "model": source.path,
        "served-model-name": model_name,
        "host": host,
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
        given |= {"enable-lora": True, "max-lora-rank": _room_for(Path(source.adapters[0]))}
        if _loads_adapters(source, settings):
            given |= {"max-loras": 2, "max-cpu-loras": 4}  # the one before is taken out later
            given["api-server-count"] = 1  # an adapter is known to the one that loads it
            if settings.gpus is None and settings.command is None and _has_gpu():
                given["gpu-memory-utilization"] = BESIDE_A_TRAINING
        else:
            given["lora-modules"] = f"{adapter_name}={source.adapters[0]}"
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
