"""From a model's settings to its engine: the one place that knows which is which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_distill.engines.config import (
    EngineSettings,
    OpenAISettings,
    ScriptedSettings,
    VLLMSettings,
)
from llm_distill.errors import ModelError

if TYPE_CHECKING:
    from llm_distill.engines.base import Engine
    from llm_distill.engines.budget import Budget
    from llm_distill.models.sources import ModelSource


def open_engine(settings: EngineSettings, source: ModelSource, budget: Budget) -> Engine:
    """The engine for a model. Loads the weights; close it to free them.

    budget: what the engines of a run may spend together; only a server costs anything.

    Raises:
        ModelError: the model cannot be loaded, or the engine's package is not installed.
    """
    if isinstance(settings, ScriptedSettings):
        from llm_distill.engines.scripted import ScriptedEngine

        return ScriptedEngine(settings)
    if isinstance(settings, OpenAISettings):
        try:
            from llm_distill.engines.openai.engine import OpenAIEngine
        except ModuleNotFoundError as error:
            if error.name != "aiohttp":
                raise
            raise ModelError(
                f"model '{source.name}': engine kind openai needs aiohttp, which is not "
                "installed; pip install 'llm-distill[openai]'"
            ) from error
        return OpenAIEngine(settings, source, budget)
    if isinstance(settings, VLLMSettings):
        try:
            from llm_distill.engines.vllm.engine import VLLMEngine
        except ImportError as error:
            raise ModelError(
                f"model '{source.name}' has engine.kind: vllm, and vLLM cannot be imported "
                f"({error}); on a machine with a GPU: pip install 'llm-distill[vllm]'; on a CPU: "
                "make setup-vllm in a clone of the repository"
            ) from error
        return VLLMEngine(source, settings)
    from llm_distill.engines.transformers.engine import TransformersEngine

    return TransformersEngine(source, settings)
