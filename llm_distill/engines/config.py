"""Engine settings as the pipeline file has them.

No heavy import here: checking a pipeline needs the settings only.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from llm_distill.stage import execution_setting

LongPrompt = Literal["skip", "truncate", "fail"]
LONG_PROMPT: LongPrompt = Field(
    "skip",
    description="a prompt that fills the context: a bad row, or its end is kept, or an error",
)


class TransformersSettings(BaseModel):
    """Generation with transformers, in process: one CPU or one GPU."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["transformers"] = "transformers"
    batch_size: int = execution_setting(64, "prompts in one batch on the device", ge=1)
    device: Literal["auto", "cpu", "cuda"] = execution_setting(
        "auto", "auto takes a GPU where there is one"
    )
    long_prompt: LongPrompt = LONG_PROMPT


class VLLMSettings(BaseModel):
    """Generation with vLLM, in process, on GPUs or the CPU. Names and defaults are vLLM's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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

    kind: Literal["scripted"]
    answers: str | None = Field(None, description="JSON Lines file of contains/completion pairs")
    function: str | None = Field(None, description="module:name of a function of the request")


EngineSettings = Annotated[
    TransformersSettings | VLLMSettings | ScriptedSettings, Field(discriminator="kind")
]
