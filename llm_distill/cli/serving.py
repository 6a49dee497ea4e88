"""What `serve` does: starts a server on a model of a run, waits for it, and stops it."""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from llm_distill.cli.display import quiet_libraries
from llm_distill.cli.run import stop_as_after_ctrl_c
from llm_distill.cli.serve import HOST, Server
from llm_distill.engines.vllm_server.engine import KEY, PROGRAM, VISIBLE, arguments, visible
from llm_distill.engines.vllm_server.process import ServerProcess, free_port
from llm_distill.engines.vllm_server.settings import VLLMServerSettings
from llm_distill.errors import ConfigError
from llm_distill.models.sources import ModelSource, own_tokenizer
from llm_distill.runtime.finished import FinishedRun, open_run
from llm_distill.runtime.prompt_form import PLAIN, PromptForm, chosen_model, form_of

if TYPE_CHECKING:
    from llm_distill.engines.base import Request

NEEDED = {
    Server.VLLM: ("vllm",),
    Server.TRANSFORMERS: ("fastapi", "uvicorn", "openai"),
}
"""Packages without which a server does not start."""
INSTALL = {
    Server.VLLM: "pip install 'llm-distill[vllm]'",
    Server.TRANSFORMERS: "pip install 'llm-distill[serve]'",
}
PROGRAMS = {
    Server.VLLM: PROGRAM,
    # Not its console script, which asks a registry whether there is a newer version.
    Server.TRANSFORMERS: (
        sys.executable,
        "-c",
        "from transformers.cli.transformers import app; app()",
        "serve",
    ),
}
COMMIT = "0" * 40
"""Of a model that was never on the Hub."""
QUESTION = "What is 2 + 2?"


@dataclass(frozen=True)
class Serving:
    """The options of `serve`. others: what the server is given besides."""

    server: Server | None
    host: str
    port: int
    merge: bool
    timeout: float
    others: tuple[str, ...]


def serve_command(run: str, stage: str | None, root: Path, serving: Serving) -> None:
    """Serve until Ctrl-C or SIGTERM; what the server prints goes to standard error.

    Raises:
        ConfigError: no server is installed, or the model is on one already.
        ModelError: the server ends, or does not answer in time.
    """
    quiet_libraries()
    stop_as_after_ctrl_c()
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    server = _chosen(serving.server)
    finished = open_run(run, root, says=lambda message: notes.print(escape(message)))
    name, why = chosen_model(finished, stage)
    settings = finished.model_config(name).engine.answering()
    if not settings.has_weights_here() or settings.is_stand_in:
        raise ConfigError(
            f"'{name}' has engine.kind: {settings.kind}: there are no weights to serve"
        )
    if not isinstance(settings, VLLMServerSettings):
        settings = VLLMServerSettings(kind="vllm_server")
    settings = settings.model_copy(update={"adapters": None})  # one model is served, with its own
    port = serving.port or free_port()
    _check_is_free(serving.host, port)
    source = finished.model(name)
    notes.print(f"[dim]{escape(finished.record.described)}[/dim]")
    if why:
        notes.print(f"[dim]{escape(f'{name} ({why})')}[/dim]")
    with TemporaryDirectory(prefix="llm-distill-") as folder:
        place = Path(folder)
        if source.adapters and (
            serving.merge or server is Server.TRANSFORMERS or len(source.adapters) > 1
        ):
            notes.print(f"[dim]merging {len(source.adapters)} adapter(s) of '{name}'[/dim]")
            source = _merged(source, place / name)
        served, where, environment = name, None, {}
        if server is Server.VLLM:
            base = f"{name}-base" if source.adapters else name
            given = arguments(source, settings, port, place, host=serving.host, names=(base, name))
            environment = {VISIBLE: visible(settings.gpus)} if settings.gpus else {}
        else:
            served = _folder(source, place / "models" / name)
            if source.is_local:  # a folder's path is the model's name, so it is given from there
                where, served = Path(served).parent, Path(served).name
                environment = {"HF_HUB_CACHE": str(_cache(where / served, place / "cache"))}
            given = [served, f"--host={serving.host}", f"--port={port}"]
            given += [] if source.dtype == "auto" else [f"--dtype={source.dtype}"]
        process = ServerProcess(
            name,
            [*PROGRAMS[server], *given, *serving.others],
            port,
            host=_reached(serving.host),
            key=os.environ.get(KEY),
            environment=environment,
            folder=where,
            own_group=True,
            on_line=lambda line: print(line, file=sys.stderr, flush=True),
        )
        try:
            process.wait(serving.timeout, "raise --timeout")
            print(f"serving {name} with {server}: http://{_reached(serving.host)}:{port}/v1")
            print("try it:")
            print(_example(finished, name, served, source, f"{_reached(serving.host)}:{port}"))
            print("Ctrl-C stops it", flush=True)
            process.watch()
        except KeyboardInterrupt:
            print(f"stopping {name}", file=sys.stderr, flush=True)
            raise SystemExit(130) from None
        finally:
            process.stop()


def _chosen(wanted: Server | None) -> Server:
    """The server that is asked for, or the first that is installed."""
    there = [each for each in Server if all(map(find_spec, NEEDED[each]))]
    if wanted in there or (wanted is None and there):
        return wanted or there[0]
    for_gpu = f"{INSTALL[Server.VLLM]} (on a machine with a GPU)"
    if wanted is Server.VLLM:
        raise ConfigError(f"vLLM is not installed; {for_gpu}")
    own = f"for transformers' own server: {INSTALL[Server.TRANSFORMERS]}"
    if wanted is None:
        raise ConfigError(f"no server is installed; for vLLM: {for_gpu}; {own}")
    missing = ", ".join(n for n in NEEDED[Server.TRANSFORMERS] if find_spec(n) is None)
    raise ConfigError(f"{missing} not installed; {own}")


def _check_is_free(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"--port {port}: cannot listen on {host}: {error.strerror}; --port 0 takes a "
                "free one"
            ) from error


def _reached(host: str) -> str:
    """The address by which this machine reaches a server that listens on `host`."""
    return HOST if host in ("0.0.0.0", "::") else host


def _merged(source: ModelSource, folder: Path) -> ModelSource:
    from llm_distill.training.weights import merge_adapters

    merge_adapters(source, folder)
    return replace(source, path=str(folder), adapters=(), revision=None)


def _folder(source: ModelSource, folder: Path) -> str:
    """A folder with links to the model's files and its chat template; a name on the Hub as it is.

    transformers' server takes a folder's name for the model's, and reads `@` in it as a revision.
    """
    if not source.is_local:
        if source.chat_template is not None:
            raise ConfigError(
                f"'{source.name}' has a chat_template of its own, which transformers' server takes "
                "from a model's folder only; use --with vllm"
            )
        return source.path if source.revision is None else f"{source.path}@{source.revision}"
    folder = folder.with_name(folder.name.replace("@", "-"))
    folder.mkdir(parents=True)
    for file in Path(source.path).resolve().iterdir():
        (folder / file.name).symlink_to(file)
    if source.chat_template is not None:
        for file in own_tokenizer(source).save_pretrained(str(folder / "tokenizer")):
            target = folder / Path(file).name
            target.unlink(missing_ok=True)
            Path(file).rename(target)
    return str(folder)


def _cache(model: Path, cache: Path) -> Path:
    """A Hub's cache with this model alone: transformers' server lists what is in the cache."""
    repository = cache / f"models--{model.name}"
    for folder in ("snapshots", "refs"):
        (repository / folder).mkdir(parents=True)
    (repository / "snapshots" / COMMIT).symlink_to(model)
    (repository / "refs" / "main").write_text(COMMIT)
    return cache


def _example(run: FinishedRun, name: str, served: str, source: ModelSource, address: str) -> str:
    """A request as the run formed them, as a line for a shell."""
    form = form_of(run, name, None) or PromptForm("nobody")
    request = _request(form, source)
    plain = isinstance(request.prompt, str)
    body: dict[str, Any] = {"model": served, "max_tokens": form.sampling.max_tokens}
    body |= {"prompt": request.prompt} if plain else {"messages": list(request.prompt)}
    body |= {"temperature": 0}
    body |= {"stop": list(form.sampling.stop)} if form.sampling.stop else {}
    body |= {"tools": list(request.tools)} if request.tools else {}
    key = f' -H "Authorization: Bearer ${KEY}"' if os.environ.get(KEY) else ""
    kind = "completions" if plain else "chat/completions"
    said = shlex.quote(json.dumps(body, ensure_ascii=False))
    return f"curl -s http://{address}/v1/{kind} -H 'Content-Type: application/json'{key} -d {said}"


def _request(form: PromptForm, source: ModelSource) -> Request:
    """With a question that fills the form; else the question itself."""
    with suppress(ConfigError):
        return form.request("try", form.row(QUESTION), source.prompt_format, PLAIN)
    return PromptForm("nobody").request("try", {"question": QUESTION}, source.prompt_format, PLAIN)
