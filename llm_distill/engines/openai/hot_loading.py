"""Adapters that vLLM's server lays over the weights it holds, while it serves.

A round of a training gives an adapter. It is loaded under a name of its own, with a path of its
own, both with the digest of its content: vLLM finds again what it has computed of a prompt by these
two, and must not find what other weights have made of it. It is never loaded in place, for the same
reason. Of those before, the last stays, for what still asks it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, build_opener

from llm_distill.engines.openai.answers import read_refusal
from llm_distill.engines.openai.listing import headers_of
from llm_distill.engines.openai.waiting import wait_before
from llm_distill.errors import ModelError, first_line, nearest
from llm_distill.models.adapters import written_as_one

if TYPE_CHECKING:
    from llm_distill.engines.openai.settings import OpenAISettings
    from llm_distill.models.sources import ModelSource

HOW = (
    "start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve … --enable-lora "
    "--max-lora-rank 64 --max-loras 2 --max-cpu-loras 4 --generation-config vllm"
)
NOWHERE = "/no-such-folder/llm-distill-probe"
PROBE = "llm-distill-probe"
NOT_ON = "lora is not enabled"
NO_ADAPTER = ("no adapter found", "does not exist", "no such file")

log = logging.getLogger("llm_distill")


def folder_of(settings: OpenAISettings) -> Path:
    """Where the server finds the adapters.

    Raises:
        ModelError: the folder for temporary files has one of this name that is somebody else's.
    """
    if settings.adapters_folder is not None:
        return Path(settings.adapters_folder).expanduser().absolute()
    folder = Path(tempfile.gettempdir()) / f"llm-distill-adapters-{os.getuid()}"
    if folder.exists() and folder.stat().st_uid != os.getuid():  # all users may write beside it
        raise ModelError(f"{folder} belongs to another user; set engine.adapters_folder")
    return folder


def why_not_ready(settings: OpenAISettings, key: str | None) -> Iterator[tuple[str, str]]:
    """(address, message) of each server that would load no adapter; it costs nothing to ask."""
    for address in settings.addresses():
        try:
            _Lorry(address, settings, key).check()
        except ModelError as error:
            yield address, str(error)


def served_with(settings: OpenAISettings, source: ModelSource, key: str | None) -> str:
    """What to call the model on the server; with an adapter it is loaded before.

    Raises:
        ModelError: the server loads none, or not this one.
    """
    base = settings.served_name(source.path)
    servers = [_Lorry(address, settings, key, True) for address in settings.addresses()]
    try:
        if not source.adapters:
            for server in servers:
                server.check()
            return base
        plain = re.sub(r"[^\w.-]+", "-", base)
        place = written_as_one(source.adapters, plain, folder_of(settings), source.name)
        for server in servers:
            server.load(base, place, prefix=f"{plain}-")
    except ModelError as error:
        said = str(error)
        begins = f"model '{source.name}': "
        raise ModelError(said if said.startswith(begins) else begins + said) from error
    return place.name


@dataclass(frozen=True)
class _Lorry:
    """What loads adapters into the server at an address, and unloads them.

    is_patient: whether it tries again what the network has lost.
    """

    address: str
    settings: OpenAISettings
    key: str | None
    is_patient: bool = False

    def check(self) -> None:
        """Raises:
        ModelError: it is not started so that it would load an adapter.
        """
        status, said = self._post("load_lora_adapter", lora_name=PROBE, lora_path=NOWHERE)
        self._refuse_where_off(status, said)
        if status in (401, 403):
            raise ModelError(f"{self.address} answers HTTP {status}: {said}; {self._about_key()}")

    def load(self, base: str, place: Path, prefix: str) -> None:
        """Load the adapter at a place under the place's name, if it is not there.

        base: what it lies over. prefix: what the names of this base's adapters begin with.

        Raises:
            ModelError: it cannot be loaded.
        """
        listed = self._listed()
        if base not in listed:
            hint = nearest(base, listed).replace("allowed:", "it serves:")
            raise ModelError(f"{self.address} does not serve '{base}' (engine.model); {hint}")
        if place.name in listed:
            return
        status, said = self._post("load_lora_adapter", lora_name=place.name, lora_path=str(place))
        if status == 400 and "already been loaded" in said.lower():  # by another stage, just now
            status = 200
        if status != 200:
            self._refuse_where_off(status, said)
            raise ModelError(
                f"{self.address} answers HTTP {status}: {said}; {_remedy(said, place)}"
            )
        if place.name not in self._listed():
            raise ModelError(
                f"{self.address} says that it has loaded adapter {place.name}, and does not list "
                "it among its models; with several API servers start it with --api-server-count 1"
            )
        log.info("%s has loaded adapter %s", self.address, place.name)
        ours = re.compile(re.escape(prefix) + "[0-9a-f]{16}")
        for name in [name for name in listed if ours.fullmatch(name)][:-1]:
            self._post("unload_lora_adapter", lora_name=name)  # gone already: so it should be
            shutil.rmtree(place.parent / name, ignore_errors=True)

    def _refuse_where_off(self, status: int, said: str) -> None:
        is_missing = status in (404, 405) and not any(w in said.lower() for w in NO_ADAPTER)
        if is_missing or NOT_ON in said.lower():
            raise ModelError(
                f"{self.address} loads no adapters while it serves (HTTP {status}: {said}); {HOW}"
            )

    def _listed(self) -> list[str]:
        status, content = self._ask(Request(f"{self.address}/models", headers=self._headers()))
        try:
            return [str(entry["id"]) for entry in json.loads(content)["data"]]
        except (ValueError, LookupError, TypeError) as error:
            raise ModelError(
                f"{self.address} gives no list of its models (HTTP {status}), so it cannot be told "
                "whether an adapter is loaded; engine.adapters: hot_load needs vLLM's server"
            ) from error

    def _post(self, place: str, **body: Any) -> tuple[int, str]:
        """The status, and what the server says, in one line."""
        content = json.dumps(body).encode()
        request = Request(f"{self.address}/{place}", content, self._headers(), method="POST")
        status, answer = self._ask(request)
        if status == 200:
            return status, ""
        return status, read_refusal(status, answer).words

    def _ask(self, request: Request) -> tuple[int, bytes]:
        failed = 0
        while True:
            try:
                with build_opener().open(request, timeout=self.settings.timeout) as answer:
                    return answer.status, self._redacted(answer.read())
            except HTTPError as error:
                with error:
                    return error.code, self._redacted(error.read())
            except (OSError, HTTPException) as error:
                failed += 1
                if not self.is_patient or failed >= self.settings.max_attempts:
                    why = getattr(error, "reason", None) or first_line(error)
                    raise ModelError(
                        f"{self.address} cannot be reached ({why}); start it, or correct "
                        "engine.base_url"
                    ) from error
            time.sleep(wait_before(failed, None))

    def _headers(self) -> dict[str, str]:
        return {"Content-Type": "application/json", **headers_of(self.settings, self.key)}

    def _redacted(self, content: bytes) -> bytes:
        return content.replace(self.key.encode(), b"***") if self.key else content

    def _about_key(self) -> str:
        variable = self.settings.api_key_env
        return f"set the environment variable {variable} to a key for it"


def _remedy(said: str, place: Path) -> str:
    """What to do about an adapter that the server does not load."""
    words = said.lower()
    if "rank" in words and "max" in words:
        return (
            "start it with a larger --max-lora-rank: 1, 8, 16, 32, 64, 128, 256, 320 or 512. The "
            "adapters of rounds lie on each other, and their ranks add up"
        )
    if any(part in words for part in NO_ADAPTER):
        return (
            f"the server does not see {place}: it runs on another machine, or in a container; set "
            "engine.adapters_folder to a folder that both see under the same path"
        )
    return (
        "is the model that it serves the one that the adapter was trained on, and not another "
        "(engine.model)?"
    )
