"""The settings of a server that speaks OpenAI's protocol."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from llm_distill.engines.settings import EngineSettings, Found, Place
from llm_distill.errors import ModelError
from llm_distill.models.files import why_not_a_model
from llm_distill.stage import execution_setting, later_setting

if TYPE_CHECKING:
    from llm_distill.engines.base import Engine
    from llm_distill.engines.budget import Budget
    from llm_distill.models.sources import ModelSource


_HEADER = r"^[A-Za-z0-9-]+$"


class Price(BaseModel):
    """What a server charges, in a currency of the user's choice, for a million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: float = Field(ge=0, description="for a million prompt tokens")
    output: float = Field(ge=0, description="for a million completion tokens")


class OpenAISettings(EngineSettings):
    """Generation by a server that speaks OpenAI's protocol: vLLM, a hosted model.

    Only `extra_body` is part of a fingerprint: the model's name is, by way of the model itself.
    """

    loads_weights: ClassVar[bool] = False
    holds_structure: ClassVar[bool] = True
    gives_likelihoods: ClassVar[bool] = True  # where it is vLLM's server: it is asked first
    gives_likeliest: ClassVar[bool] = True
    loads_adapters: ClassVar[bool] = True

    kind: Literal["openai"]
    base_url: str | tuple[str, ...] = execution_setting(
        ...,
        "address of the API, such as http://localhost:8000/v1; or a list of addresses of the same "
        "model, which share the requests",
    )
    model: str | None = execution_setting(
        None, "the model's name on the server; default: model_name_or_path", min_length=1
    )
    api_key_env: str = execution_setting(
        "OPENAI_API_KEY",
        "environment variable with the key; it may be unset for a server without one",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
    )
    api_key_header: str = execution_setting(
        "Authorization",
        "the header with the key: Authorization as a bearer token, another such as api-key alone",
        pattern=_HEADER,
    )
    api_version: str | None = execution_setting(
        None, "sent as ?api-version=, as Azure wants it", pattern=r"^[\w.-]+$"
    )
    extra_headers: dict[str, str] = execution_setting(
        {}, "more headers of every request; no keys, since the file is kept with the run"
    )
    max_concurrency: int = execution_setting(64, "requests in flight at once", ge=1)
    requests_per_minute: float | None = execution_setting(
        None, "no more requests than this, evenly spaced", gt=0
    )
    tokens_per_minute: float | None = execution_setting(
        None, "no more prompt and completion tokens than this", gt=0
    )
    price: Price | None = execution_setting(None, "needed for --max-cost and for the cost of a run")
    timeout: float = execution_setting(600, "seconds for one attempt", gt=0)
    max_attempts: int = execution_setting(
        6, "attempts at a request before its row is bad; a rate limit (429) is none", ge=1
    )

    max_wait: float = execution_setting(
        600, "seconds to go on asking a server that answers only that its rate is exceeded", gt=0
    )
    leave_out: tuple[str, ...] = execution_setting(
        (), "fields of a request that the server does not take, such as seed"
    )
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = execution_setting(
        "max_tokens", "what the server calls max_tokens"
    )
    adapters: Literal["hot_load"] | None = execution_setting(
        None,
        "hot_load: model_name_or_path is trained here, vLLM serves the same as engine.model, and "
        "adapters of later stages are loaded into that server when they are asked",
    )
    adapters_folder: str | None = execution_setting(
        None,
        "where that server finds them, under this path; null: in the folder for temporary files, "
        "for a server on this machine",
        min_length=1,
    )
    extra_body: dict[str, Any] = later_setting(
        {}, "more fields of every request, such as reasoning_effort; part of the fingerprint"
    )

    @model_validator(mode="after")
    def _base_has_a_name(self) -> Self:
        if self.adapters is not None and self.model is None:
            raise ValueError("adapters: hot_load needs model: what the server calls the base model")
        if self.adapters_folder is not None and self.adapters is None:
            raise ValueError("adapters_folder goes with adapters: hot_load")
        return self

    @field_validator("base_url")
    @classmethod
    def _are_addresses(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(value, str):
            return cls._address(value)
        if len(set(value)) != len(value) or not value:
            raise ValueError("expected an address, or a list of addresses that differ")
        return tuple(map(cls._address, value))

    def addresses(self) -> tuple[str, ...]:
        return (self.base_url,) if isinstance(self.base_url, str) else self.base_url

    @staticmethod
    def _address(value: str) -> str:
        form = "expected an address such as http://localhost:8000/v1"
        try:
            parts = urlsplit(value)
            _ = parts.port  # raises where it is not a number
        except ValueError as error:
            raise ValueError(f"{form}; {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname or " " in value:
            raise ValueError(form)
        if parts.query or parts.fragment:
            raise ValueError(f"{form}, without ? or #")
        if parts.username is not None:  # the pipeline file is copied into the run's record
            raise ValueError(f"{form}; a key belongs in the variable that api_key_env names")
        return value.rstrip("/")

    @field_validator("extra_headers")
    @classmethod
    def _are_headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not re.fullmatch(_HEADER, name) or not text.isprintable() or not text.isascii():
                raise ValueError(f"'{name}' is not the name or the text of a header")
            if name.lower() in ("authorization", "cookie") or "key" in name.lower():
                raise ValueError(
                    f"'{name}' holds a secret, and this file is kept with the run; name the "
                    "variable with the key in api_key_env, and its header in api_key_header"
                )
        return value

    def has_weights_here(self) -> bool:
        """See `EngineSettings.has_weights_here`."""
        return self.adapters is not None

    @property
    def takes_adapters_alone(self) -> bool:
        return self.adapters is not None

    def check(self, model_name_or_path: str) -> Iterator[tuple[Place, str]]:
        """Also that the weights are there, where adapters are trained on them."""
        message = why_not_a_model(model_name_or_path) if self.adapters is not None else None
        if message is not None:
            yield ("model_name_or_path",), message

    def served_name(self, model_name_or_path: str) -> str:
        """What the server calls the model."""
        return self.model or model_name_or_path

    def look(self, model_name_or_path: str) -> Iterator[Found]:
        """See `EngineSettings.look`."""
        from llm_distill.engines.openai.listing import look

        if find_spec("aiohttp") is None:
            missing = "engine kind openai needs aiohttp; pip install 'llm-distill[openai]'"
            yield Found(("engine", "kind"), missing, is_certain=True)
            return
        key = os.environ.get(self.api_key_env, "").strip()
        if not (key.isascii() and key.isprintable()):
            odd = f"the environment variable {self.api_key_env} holds odd characters, not a key"
            yield Found(("engine", "api_key_env"), odd, is_certain=True)
            return
        found = list(look(self, self.served_name(model_name_or_path), key or None))
        yield from found
        if self.adapters is not None and not any(each.is_certain for each in found):
            from llm_distill.engines.openai.hot_loading import why_not_ready

            for _, message in why_not_ready(self, key or None):
                yield Found(("engine", "adapters"), message, is_certain=True)

    def open(self, source: ModelSource, budget: Budget) -> Engine:
        """See `EngineSettings.open`."""
        try:
            from llm_distill.engines.openai.engine import OpenAIEngine
        except ModuleNotFoundError as error:
            if error.name != "aiohttp":
                raise
            raise ModelError(
                f"model '{source.name}': engine kind openai needs aiohttp, which is not "
                "installed; pip install 'llm-distill[openai]'"
            ) from error
        return OpenAIEngine(self, source, budget)
