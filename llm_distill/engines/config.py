"""Engine settings as the pipeline file has them.

No heavy import here: checking a pipeline needs the settings only.
"""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator


class TransformersSettings(BaseModel):
    """Generation with transformers, in process: one CPU or one GPU."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["transformers"] = "transformers"
    batch_size: int = Field(
        64,
        ge=1,
        description="prompts in one batch on the device",
        json_schema_extra={"affects_result": False},
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="auto takes a GPU where there is one",
        json_schema_extra={"affects_result": False},
    )


class ScriptedSettings(BaseModel):
    """Deterministic answers from a table or a function: for tests and for trying a pipeline.

    answers: a JSON Lines file of `{"contains": "...", "completion": "..."}`; the first entry whose
        text occurs in the prompt answers.
    function: `package.module:name`, called with the Request, returns the text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["scripted"]
    answers: str | None = Field(None, description="JSON Lines file of contains/completion pairs")
    function: str | None = Field(None, description="module:name of a function of the request")


class Price(BaseModel):
    """What a server charges, in a currency of the user's choice, for a million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: float = Field(ge=0, description="for a million prompt tokens")
    output: float = Field(ge=0, description="for a million completion tokens")


class OpenAISettings(BaseModel):
    """Generation by a server that speaks OpenAI's protocol: vLLM, a hosted model.

    None of it is part of a fingerprint: the model's name is, by way of the model itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    kind: Literal["openai"]
    base_url: str = Field(
        description="address of the API, such as http://localhost:8000/v1",
        json_schema_extra={"affects_result": False},
    )
    model: str | None = Field(
        None,
        min_length=1,
        description="the model's name on the server; default: model_name_or_path",
        json_schema_extra={"affects_result": False},
    )
    api_key_env: str = Field(
        "OPENAI_API_KEY",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="environment variable with the key; it may be unset for a server without one",
        json_schema_extra={"affects_result": False},
    )
    max_concurrency: int = Field(
        64,
        ge=1,
        description="requests in flight at once",
        json_schema_extra={"affects_result": False},
    )
    requests_per_minute: float | None = Field(
        None,
        gt=0,
        description="no more requests than this, evenly spaced",
        json_schema_extra={"affects_result": False},
    )
    tokens_per_minute: float | None = Field(
        None,
        gt=0,
        description="no more prompt and completion tokens than this",
        json_schema_extra={"affects_result": False},
    )
    price: Price | None = Field(
        None,
        description="needed for --max-cost and for the cost of a run",
        json_schema_extra={"affects_result": False},
    )
    timeout: float = Field(
        600,
        gt=0,
        description="seconds for one attempt",
        json_schema_extra={"affects_result": False},
    )
    max_attempts: int = Field(
        6,
        ge=1,
        description="attempts at a request before its row is bad",
        json_schema_extra={"affects_result": False},
    )

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        form = "expected an address such as http://localhost:8000/v1"
        try:
            parts = urlsplit(value)
            _ = parts.port  # raises where it is no number
        except ValueError as error:
            raise ValueError(f"{form}; {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname or " " in value:
            raise ValueError(form)
        if parts.query or parts.fragment:
            raise ValueError(f"{form}, with no ? or # behind it")
        if parts.username is not None:  # the pipeline file is copied into the run's record
            raise ValueError(f"{form}; a key belongs into the variable that api_key_env names")
        return value.rstrip("/")


EngineSettings = Annotated[
    TransformersSettings | ScriptedSettings | OpenAISettings, Field(discriminator="kind")
]
