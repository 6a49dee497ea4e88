"""A vLLM engine from a model's settings, and what can go wrong with that in one line.

Safe by default: safetensors only, no code of a model repository, no usage statistics.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, get_args

import torch
from vllm.config.lora import MaxLoRARanks
from vllm.config.reasoning import ReasoningConfig
from vllm.distributed.parallel_state import cleanup_dist_env_and_memory
from vllm.engine.arg_utils import EngineArgs
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.llm_engine import LLMEngine

from llm_distill.errors import ModelError
from llm_distill.models.sources import load_model, load_tokenizer, saved_dtype
from llm_distill.rows.thoughts import tag_of

if TYPE_CHECKING:
    from llm_distill.engines.vllm.settings import VLLMSettings
    from llm_distill.models.sources import ModelSource

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # steps are made here, between requests
    "VLLM_CONFIGURE_LOGGING": "0",  # its records go to Python's root logger, not to the terminal
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
CPU_CACHE = 2 * 2**30
"""Bytes of the key-value cache on a CPU: vLLM's own choice is most of the machine's memory."""


def load(
    source: ModelSource, settings: VLLMSettings, tokenizer: Any
) -> tuple[Any, LoRARequest | None]:
    """The engine, and the adapter to name with each request.

    Raises:
        ModelError: there is not enough memory, vLLM does not know the model or a setting, or the
            adapter does not fit.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        raise ModelError(  # vLLM would wait for the others to set up its process groups too
            f"model '{source.name}' has engine.kind: vllm, which cannot be opened in one of the "
            "processes that share a training; set it to vllm_server, which has its own"
        )
    os.environ.update(ENVIRONMENT)
    if source.adapters and current_platform.is_cpu():
        with TemporaryDirectory(prefix="llm-distill-") as folder:
            return load(_merged(source, Path(folder)), settings, tokenizer)
    adapter = _adapter(source)
    set_num_threads, excepthook = torch.set_num_threads, sys.excepthook
    try:
        arguments = engine_arguments(source, settings)
        arguments["reasoning_config"] = reasoning_config(tokenizer)
        if adapter is not None:
            arguments |= {"enable_lora": True, "max_lora_rank": _rank(source)}
        engine = LLMEngine.from_engine_args(
            EngineArgs(**arguments), usage_context=UsageContext.LLM_CLASS
        )
    except Exception as error:  # whatever vLLM makes of files and settings of others
        cleanup_dist_env_and_memory()
        raise ModelError(
            f"vLLM cannot load model '{source.name}' ({source.path}): {reason(error)}"
            f"{_remedy(error)}"
        ) from error
    finally:
        # What vLLM changes for the whole process: on a CPU it forbids setting the threads, and
        # every engine that was ever opened would write its rank before a traceback.
        torch.set_num_threads, sys.excepthook = set_num_threads, excepthook
    if adapter is not None:
        try:
            engine.add_lora(adapter)
        except Exception as error:
            close(engine)
            raise ModelError(
                f"adapter {adapter.lora_path} does not fit model '{source.name}' ({source.path}) "
                f"in vLLM: {reason(error)}; merge it, or use engine.kind: transformers"
            ) from error
    return engine, adapter


def _merged(source: ModelSource, folder: Path) -> ModelSource:
    """The model with its adapters in its weights, in float32, which keeps small ones whole.

    On a CPU vLLM 0.32 writes with an adapter at a quarter of the speed; see docs/engines.md.
    """
    load_model(replace(source, dtype="float32")).save_pretrained(folder)  # merged by load_model
    load_tokenizer(source).save_pretrained(folder)
    return replace(source, path=str(folder), revision=None, adapters=(), dtype="float32")


def close(engine: Any) -> None:
    """Free weights, cache and process groups, so that another engine can be opened."""
    engine.engine_core.shutdown()


def reason(error: Exception) -> str:
    """The first line of an error that says something: Pydantic's begins with a count."""
    errors = getattr(error, "errors", None)
    text = errors()[0]["msg"] if callable(errors) else str(error)
    line = text.strip().partition("\n")[0].removeprefix("Value error, ").rstrip(".")
    return line or type(error).__name__


def engine_arguments(source: ModelSource, settings: VLLMSettings) -> dict[str, Any]:
    """VLLM's `EngineArgs` for a model, without its adapter."""
    arguments: dict[str, Any] = {
        "model": source.path,
        "revision": source.revision,
        "tokenizer_revision": source.revision,
        "dtype": saved_dtype(source),
        "load_format": "safetensors",
        "trust_remote_code": False,
        "generation_config": "vllm",  # its sampling defaults are not ours; end tokens are given
        "logprobs_mode": "raw_logprobs",
        "max_logprobs": -1,  # as many of the likeliest tokens as ranks need
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        **settings.model_dump(exclude={"kind", "long_prompt"}, exclude_none=True),
    }
    if current_platform.is_cpu():
        # In vLLM 0.32 a request with a seed kills the engine where its prompt is cut into chunks.
        arguments["enable_chunked_prefill"] = False
        # Only whole blocks are found again: with vLLM's own 128 tokens, few beginnings of prompts.
        arguments["block_size"] = 32
        if settings.gpu_memory_utilization is None:
            arguments.setdefault("kv_cache_memory_bytes", CPU_CACHE)
    return arguments


def reasoning_config(tokenizer: Any) -> ReasoningConfig | None:
    """The tags of thoughts, without which vLLM refuses a `thinking_token_budget`.

    None for a tokenizer that cannot write them: vLLM would not load its model.
    """
    template = tokenizer.chat_template
    tag = tag_of(template if isinstance(template, str) else "", tokenizer.get_vocab())
    tags = f"<{tag}>", f"</{tag}>"
    if not all(tokenizer.encode(each, add_special_tokens=False) for each in tags):
        return None
    return ReasoningConfig(reasoning_start_str=tags[0], reasoning_end_str=tags[1])


def _adapter(source: ModelSource) -> LoRARequest | None:
    if len(source.adapters) > 1:
        raise ModelError(
            f"model '{source.name}' has {len(source.adapters)} adapters on top of each other "
            f"({', '.join(source.adapters)}), and vLLM can apply one; merge all but the last into "
            "the base model, or use engine.kind: transformers"
        )
    return LoRARequest("adapter", 1, source.adapters[0]) if source.adapters else None


def _rank(source: ModelSource) -> int:
    """The adapter's largest rank, rounded up to one that vLLM has room for."""
    file = Path(source.adapters[0]) / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    wanted = max([config["r"], *(config.get("rank_pattern") or {}).values()])
    ranks = sorted(get_args(MaxLoRARanks))
    fitting = [rank for rank in ranks if rank >= wanted]
    if not fitting:
        raise ValueError(f"its adapter has rank {wanted}; vLLM's largest is {ranks[-1]}")
    return int(fitting[0])


def _remedy(error: Exception) -> str:
    if "memory" not in str(error).lower() and not isinstance(error, MemoryError):
        return ""
    return (
        "; lower engine.max_model_len, engine.max_num_seqs or engine.gpu_memory_utilization (on a "
        "CPU engine.kv_cache_memory_bytes), share the model with engine.tensor_parallel_size, or "
        "set dtype: bfloat16"
    )
