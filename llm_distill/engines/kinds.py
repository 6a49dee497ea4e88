"""The engines that a pipeline file can name: the one list of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, get_args

from pydantic import Field

from llm_distill.engines.openai.settings import OpenAISettings
from llm_distill.engines.ray.settings import RaySettings
from llm_distill.engines.scripted.settings import ScriptedSettings
from llm_distill.engines.settings import EngineSettings
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.engines.vllm.settings import VLLMSettings
from llm_distill.engines.vllm_server.settings import VLLMServerSettings

OfVLLM = VLLMSettings | VLLMServerSettings
Kinds = TransformersSettings | OfVLLM | OpenAISettings | ScriptedSettings | RaySettings
EngineOfKind = Annotated[Kinds, Field(discriminator="kind")]
"""The type of a model's `engine:`, chosen by its `kind`."""


def settings_class(kind: str | None) -> type[EngineSettings]:
    """The settings of an engine by its kind, for a record whose settings may be incomplete.

    Of a kind that is not given or not known, those of an engine that loads weights.
    """
    return _by_kind().get(kind or "", EngineSettings)


def kinds_that_can(asked: str) -> list[str]:
    """The kinds of engine that can do what a stage `asks` of one."""
    return [kind for kind, settings in _by_kind().items() if settings.can(asked)]


def recorded_engine(engine: Mapping[str, Any]) -> type[EngineSettings]:
    """The settings of what answered, from a record of a model's `engine:`."""
    kind = settings_class(engine.get("kind"))
    return recorded_engine(engine.get("engine") or {}) if kind is RaySettings else kind


def _by_kind() -> dict[str, type[EngineSettings]]:
    classes: tuple[type[EngineSettings], ...] = get_args(Kinds)
    return {name: c for c in classes for name in get_args(c.model_fields["kind"].annotation)}
