"""The teacher and the student as entries under `models:`, and how a model of that size is trained.

A server is asked for its models, and the Hub for a model's config and chat template. Where neither
can be reached, usual values are taken.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from pydantic import ValidationError

from llm_distill.engines.openai.settings import OpenAISettings
from llm_distill.errors import ConfigError, ModelError, first_line
from llm_distill.models.files import why_not_a_model
from llm_distill.models.hub import absence, cached_folder, is_downloaded, learn_text
from llm_distill.models.size import size_of
from llm_distill.paths import find_resource

SECONDS = 10.0
"""For a server to name its models."""
TINY, LARGE = 20_000_000, 1_000_000_000
"""Parameters: up to the first a model trains in seconds, from the second on by an adapter."""
MANY_ROWS = 500
SMALL_FILES = ("config.json", "tokenizer_config.json", "chat_template.jinja")


@dataclass(frozen=True)
class Served:
    """A teacher behind a server that speaks OpenAI's protocol."""

    name: str
    base_url: str
    api_key_env: str


@dataclass(frozen=True)
class Local:
    """A model whose weights are loaded.

    parameters: None where that is not known. note: what a person should know of where it is.
    """

    name: str
    has_chat_template: bool
    parameters: int | None
    note: str | None = None

    @property
    def is_tiny(self) -> bool:
        return self.parameters is not None and self.parameters < TINY

    def training(self, n_rows: int) -> dict[str, Any]:
        """Settings of a training that are usual for its size; none of them was measured.

        n_rows: of few rows a step has fewer, so that there are steps enough.
        """
        size, rows = self.parameters or TINY, 16 if n_rows >= MANY_ROWS else 4
        if size < TINY:
            return {"learning_rate": 2.0e-4, "num_train_epochs": 6, **_steps(rows, 256)}
        if size < LARGE:
            return {"learning_rate": 5.0e-5, "num_train_epochs": 3, **_steps(rows, 2048)}
        adapter = {"peft": {"r": 16, "lora_alpha": 32}}
        return {"learning_rate": 2.0e-4, "num_train_epochs": 3, **_steps(rows, 2048), **adapter}


def _steps(rows: int, max_length: int) -> dict[str, Any]:
    size = {"per_device_train_batch_size": rows}
    return {**size, "warmup_steps": 0.1, "max_length": max_length}


def is_address(teacher: str) -> bool:
    """Whether it is a server's address.

    Raises:
        ConfigError: it is one without its http://.
    """
    if re.match(r"(localhost|\d+\.\d+\.\d+\.\d+|[\w.-]+(?=:\d))(:\d+)?(/|$)", teacher):
        raise ConfigError(f"{teacher}: an address begins with http://; write http://{teacher}")
    return re.match(r"https?://", teacher) is not None


def local_model(option: str, name: str) -> Local:
    """A model by its folder or its name on the Hub.

    Raises:
        ConfigError: it cannot be one, or is not where it is looked for.
    """
    if is_address(name):
        raise ConfigError(f"{option} {name}: a server gives no weights to train; name a model")
    message = why_not_a_model(name)
    if message is not None:
        raise ConfigError(f"{option} {name}: {message}")
    folder, note = find_resource(name), None
    if folder is None:
        note = _where(option, name)
        for file in SMALL_FILES:
            learn_text(name, file, None)
        folder = cached_folder(name, None)
    size = size_of(folder) if folder is not None else None
    return Local(
        name,
        folder is None or _has_template(folder),
        None if size is None else size.parameters,
        note,
    )


def _where(option: str, name: str) -> str | None:
    """What to know of a model that is no folder: None where it has been downloaded.

    Raises:
        ConfigError: the Hub has none of this name; or it cannot say, and the name is that of a
            folder within one that is there.
    """
    absent = absence(name, None)
    if absent is None:
        here = is_downloaded(name, None)
        return None if here else f"{name} is not on this machine: a run downloads it from the Hub"
    above = Path(name).parent
    folder = find_resource(str(above)) if above != Path() else None
    if absent.is_certain or (folder is not None and folder.is_dir()):
        raise ConfigError(f"{option} {name}: {absent.why}")
    return f"whether there is a model {name} is not known: {absent.why}"


def _has_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(settings, dict) and bool(settings.get("chat_template"))


def models_at(address: str, api_key_env: str) -> tuple[str, list[str]]:
    """The address of a server's API, with /v1 if that was left out, and its models' names.

    Raises:
        ConfigError: it is no address, or has a secret in it.
        ModelError: it cannot be reached, or does not say.
    """
    try:
        OpenAISettings(kind="openai", base_url=address, api_key_env=api_key_env)
    except ValidationError as error:
        wrong = error.errors()[0]
        said = str(wrong["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"the teacher's {wrong['loc'][0]}: {said}") from error
    address = address.rstrip("/")
    found = _ask(f"{address}/models", api_key_env)
    if found is None and not address.endswith("/v1"):
        address += "/v1"
        found = _ask(f"{address}/models", api_key_env)
    if found is None:
        raise ModelError(f"{address} has no list of models")
    return address, found


def _ask(url: str, api_key_env: str) -> list[str] | None:
    """The models that a server lists; None where there is nothing at this address.

    Raises:
        ModelError: it cannot be reached, or refuses.
    """
    key = os.environ.get(api_key_env, "")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with urlopen(Request(url, headers=headers), timeout=SECONDS) as answer:
            listed = json.loads(answer.read())
        return [str(each["id"]) for each in listed["data"]]
    except HTTPError as error:
        if error.code == 404:
            return None
        about_key = f"; is {api_key_env} set to its key?" if error.code in (401, 403) else ""
        raise ModelError(f"{url} answers {error.code} {error.reason}{about_key}") from error
    except (URLError, TimeoutError, OSError) as error:
        why = getattr(error, "reason", None) or first_line(error)
        raise ModelError(f"{url} cannot be reached: {why}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{url} does not answer as OpenAI's protocol has it") from error
