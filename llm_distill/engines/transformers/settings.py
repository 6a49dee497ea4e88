"""The transformers engine's settings. No heavy import here."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from llm_distill.engines.settings import LONG_PROMPT, EngineSettings, LongPrompt
from llm_distill.models.sources import Device
from llm_distill.stage import execution_setting

if TYPE_CHECKING:
    from llm_distill.engines.base import Engine
    from llm_distill.engines.budget import Budget
    from llm_distill.models.sources import ModelSource


class TransformersSettings(EngineSettings):
    """Generation with transformers, in process: one CPU or one GPU."""

    gives_likelihoods: ClassVar[bool] = True

    kind: Literal["transformers"] = "transformers"
    batch_size: int = execution_setting(64, "prompts in one batch on the device", ge=1)
    device: Device = execution_setting("auto", "auto takes a GPU where there is one")
    long_prompt: LongPrompt = LONG_PROMPT

    def open(self, source: ModelSource, budget: Budget) -> Engine:
        """See `EngineSettings.open`."""
        from llm_distill.engines.transformers.engine import TransformersEngine

        return TransformersEngine(source, self)
