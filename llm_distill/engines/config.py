"""Engine settings as the pipeline file has them.

No heavy import here: checking a pipeline needs the settings only.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from llm_distill.models.sources import Device
from llm_distill.stage import execution_setting

LongPrompt = Literal["skip", "truncate", "fail"]
LONG_PROMPT: LongPrompt = Field(
    "skip",
    description="a prompt that fills the context: a bad row, or its end is kept, or an error",
)


class TransformersSettings(BaseModel):
    """Generation with transformers, in process: one CPU or one GPU.

    holds_structure: of every engine, whether it heeds a request's `structure`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    holds_structure: ClassVar[bool] = False

    kind: Literal["transformers"] = "transformers"
    batch_size: int = execution_setting(64, "prompts in one batch on the device", ge=1)
    device: Device = execution_setting("auto", "auto takes a GPU where there is one")
    long_prompt: LongPrompt = LONG_PROMPT


class VLLMSettings(BaseModel):
    """Generation with vLLM, in process, on GPUs or the CPU. Names and defaults are vLLM's."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    holds_structure: ClassVar[bool] = True

    kind: Literal["vllm"]
    tensor_parallel_size: int = execution_setting(1, "GPUs that share each layer", ge=1)
    pipeline_parallel_size: int = execution_setting(
        1, "GPUs, or groups, that share the layers", ge=1
    )
    gpu_memory_utilization: float | None = execution_setting(
        None, "share of a GPU's memory for weights and cache", gt=0, le=1
    )
    kv_cache_memory_bytes: int | None = execution_setting(
        None, "the cache's size instead; on a CPU 2 GiB unless set", ge=1
    )
    max_num_seqs: int | None = execution_setting(None, "requests that are decoded together", ge=1)
    max_num_batched_tokens: int | None = execution_setting(None, "tokens in one step", ge=1)
    enable_prefix_caching: bool | None = execution_setting(None, "beginnings are computed once")
    enforce_eager: bool = execution_setting(False, "no compilation: starts sooner, runs slower")
    max_model_len: int | None = Field(
        None, ge=2, description="tokens of prompt and completion together; the model's if unset"
    )
    quantization: str | None = Field(
        None, description="vLLM's name of a method, such as fp8; as the weights say if unset"
    )
    long_prompt: LongPrompt = LONG_PROMPT


class ScriptedSettings(BaseModel):
    """Deterministic answers from a table or a function: for tests and for trying a pipeline.

    answers: a JSON Lines file of `{"contains": "...", "completion": "..."}`; the first entry whose
        text occurs in the prompt answers.
    function: `package.module:name`, called with the Request, returns the text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    holds_structure: ClassVar[bool] = False

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
    holds_structure: ClassVar[bool] = True

    kind: Literal["openai"]
    base_url: str = execution_setting(..., "address of the API, such as http://localhost:8000/v1")
    model: str | None = execution_setting(
        None,
        "the model's name on the server; default: model_name_or_path",
        min_length=1,
    )
    api_key_env: str = execution_setting(
        "OPENAI_API_KEY",
        "environment variable with the key; it may be unset for a server without one",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
    )
    max_concurrency: int = execution_setting(
        64,
        "requests in flight at once",
        ge=1,
    )
    requests_per_minute: float | None = execution_setting(
        None,
        "no more requests than this, evenly spaced",
        gt=0,
    )
    tokens_per_minute: float | None = execution_setting(
        None,
        "no more prompt and completion tokens than this",
        gt=0,
    )
    price: Price | None = execution_setting(
        None,
        "needed for --max-cost and for the cost of a run",
    )
    timeout: float = execution_setting(
        600,
        "seconds for one attempt",
        gt=0,
    )
    max_attempts: int = execution_setting(
        6,
        "attempts at a request before its row is bad",
        ge=1,
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
    TransformersSettings | VLLMSettings | OpenAISettings | ScriptedSettings,
    Field(discriminator="kind"),
]
