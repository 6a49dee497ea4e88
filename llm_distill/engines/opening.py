"""From a model's settings to its engine: the one place that knows which is which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_distill.engines.config import ScriptedSettings, TransformersSettings

if TYPE_CHECKING:
    from llm_distill.engines.base import Engine
    from llm_distill.models import ModelSource


def open_engine(settings: TransformersSettings | ScriptedSettings, source: ModelSource) -> Engine:
    """The engine for a model. Loads the weights; close it to free them."""
    if isinstance(settings, ScriptedSettings):
        from llm_distill.engines.scripted import ScriptedEngine

        return ScriptedEngine(settings)
    from llm_distill.engines.transformers import TransformersEngine

    return TransformersEngine(source, settings)
