"""The settings of a server that a stage starts for itself. Names are those of `vllm serve`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from llm_distill.engines.settings import EngineSettings, Place
from llm_distill.errors import ModelError
from llm_distill.stage import execution_setting

if TYPE_CHECKING:
    from llm_distill.engines.base import Engine
    from llm_distill.engines.budget import Budget
    from llm_distill.models.sources import ModelSource

OURS = ("model", "host", "port", "api_key", "served_model_name", "trust_remote_code", "revision")
"""Arguments that are set here, or never."""
SAFE_NAME = r"^[a-z][a-z0-9_-]*$"


class VLLMServerSettings(EngineSettings):
    """`vllm serve` on this machine, on a free port with a key of its own, for one stage.

    It is what `vllm` does in process, but for copies on several GPUs (`data_parallel_size`), and
    for prompts of chats, which the server renders by the model's own template.
    """

    loads_weights: ClassVar[bool] = True
    holds_structure: ClassVar[bool] = True
    gives_likelihoods: ClassVar[bool] = True
    gives_likeliest: ClassVar[bool] = True
    loads_adapters: ClassVar[bool] = True

    kind: Literal["vllm_server"]
    tensor_parallel_size: int = execution_setting(1, "GPUs that share each layer", ge=1)
    pipeline_parallel_size: int = execution_setting(
        1, "GPUs, or groups, that share the layers", ge=1
    )
    data_parallel_size: int = execution_setting(
        1, "copies of the model, which share the requests", ge=1
    )
    max_model_len: int | None = Field(
        None, ge=2, description="tokens of prompt and completion together; the model's if unset"
    )
    quantization: str | None = Field(
        None, description="vLLM's name of a method, such as fp8; as the weights say if unset"
    )
    arguments: dict[str, str | int | float | bool] = execution_setting(
        {},
        "any other arguments of `vllm serve`, such as gpu_memory_utilization: 0.9; true for a flag",
    )
    max_concurrency: int = execution_setting(256, "requests in flight at once", ge=1)
    startup_timeout: float = execution_setting(
        1800, "seconds until it has to answer; a large model takes minutes to load", gt=0
    )
    adapters: Literal["hot_load"] | None = execution_setting(
        None,
        "hot_load: the server goes on while one adapter after the other is loaded into it, as "
        "where it writes for a student in training (rollouts.writer: engine)",
    )
    gpus: tuple[int, ...] | None = execution_setting(
        None,
        "those that it runs on, counted from 0, so that a training beside it has the others; all "
        "unless set",
        min_length=1,
    )
    command: tuple[str, ...] | None = execution_setting(
        None,
        "what is started in its place, with the same arguments; it has to answer /health and "
        "OpenAI's protocol",
    )

    @field_validator("arguments")
    @classmethod
    def _are_names(
        cls, value: dict[str, str | int | float | bool]
    ) -> dict[str, str | int | float | bool]:
        for name in value:
            plain = name.replace("-", "_").lower()
            if plain in OURS or plain in cls.model_fields:
                where = "is a setting beside arguments" if plain in cls.model_fields else "is ours"
                raise ValueError(f"'{name}' {where}")
            if not re.match(SAFE_NAME, name):
                raise ValueError(f"'{name}' is not a name such as gpu_memory_utilization")
        return value

    @model_validator(mode="after")
    def _has_its_gpus(self) -> Self:
        if self.gpus is None:
            return self
        if min(self.gpus) < 0 or len(set(self.gpus)) != len(self.gpus):
            raise ValueError("gpus: expected different numbers from 0 on, such as [6, 7]")
        if len(self.gpus) != self.gpus_used():
            raise ValueError(
                f"gpus names {len(self.gpus)}, and tensor_parallel_size · pipeline_parallel_size · "
                f"data_parallel_size are {self.gpus_used()}"
            )
        return self

    @property
    def takes_adapters_alone(self) -> bool:
        return self.adapters is not None

    def lies_apart(self, other: EngineSettings) -> bool:
        """Also two servers on GPUs of their own."""
        if super().lies_apart(other):
            return True
        if not isinstance(other, VLLMServerSettings) or self.gpus is None or other.gpus is None:
            return False
        return set(self.gpus).isdisjoint(other.gpus)

    def gpus_used(self) -> int:
        """By the server, where there are any."""
        return self.tensor_parallel_size * self.pipeline_parallel_size * self.data_parallel_size

    def check(self, model_name_or_path: str) -> Iterator[tuple[Place, str]]:
        """Also whether what asks the server is installed."""
        yield from super().check(model_name_or_path)
        if find_spec("aiohttp") is None:
            yield ("engine", "kind"), "aiohttp is not installed: pip install 'llm-distill[openai]'"

    def open(self, source: ModelSource, budget: Budget) -> Engine:
        """See `EngineSettings.open`."""
        from llm_distill.engines.vllm_server.engine import VLLMServerEngine

        if self.command is None and find_spec("vllm") is None:
            raise ModelError(
                f"model '{source.name}' has engine.kind: vllm_server, and vLLM is not installed; "
                "on a machine with a GPU: pip install 'llm-distill[vllm]'; on a CPU: make "
                "setup-vllm in a clone of the repository"
            )
        return VLLMServerEngine(source, self, budget)
