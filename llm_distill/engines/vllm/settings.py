"""vLLM's settings. vLLM itself is imported as the engine is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from llm_distill.engines.settings import LONG_PROMPT, EngineSettings, LongPrompt
from llm_distill.errors import ModelError
from llm_distill.stage import execution_setting

if TYPE_CHECKING:
    from llm_distill.engines.base import Engine
    from llm_distill.engines.budget import Budget
    from llm_distill.models.sources import ModelSource


class VLLMSettings(EngineSettings):
    """Generation with vLLM, in process, on GPUs or the CPU. Names and defaults are vLLM's."""

    holds_structure: ClassVar[bool] = True
    gives_likelihoods: ClassVar[bool] = True
    gives_likeliest: ClassVar[bool] = True

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

    def open(self, source: ModelSource, budget: Budget) -> Engine:
        """See `EngineSettings.open`."""
        try:
            from llm_distill.engines.vllm.engine import VLLMEngine
        except ImportError as error:
            raise ModelError(
                f"model '{source.name}' has engine.kind: vllm, and vLLM cannot be imported "
                f"({error}); on a machine with a GPU: pip install 'llm-distill[vllm]'; on a CPU: "
                "make setup-vllm in a clone of the repository"
            ) from error
        return VLLMEngine(source, self)
