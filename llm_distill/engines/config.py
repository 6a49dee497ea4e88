"""Engine settings as the pipeline file has them.

No heavy import here: checking a pipeline needs the settings only.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


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


EngineSettings = Annotated[TransformersSettings | ScriptedSettings, Field(discriminator="kind")]
