"""The pipeline file as types: models, stages, and the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from llm_distill.engines.kinds import EngineOfKind
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.errors import counted, nearest
from llm_distill.methods.seeds import derive_seed
from llm_distill.models.attention import Attention
from llm_distill.models.sources import DType, PromptFormat, SystemRole
from llm_distill.pipeline.problems import Path, Problems
from llm_distill.pipeline.rounds import Block, End
from llm_distill.stage import Stage, execution_setting, later_setting
from llm_distill.tracking import Tracker


class ModelConfig(BaseModel):
    """One entry under `models:`."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model_name_or_path: str = Field(description="a directory, a bundled one, or a name on the Hub")
    revision: str | None = Field(None, description="branch, tag or commit on the Hub")
    dtype: DType = Field("auto", description="as saved, or cast to this")
    attn_implementation: Attention | None = execution_setting(
        None,
        "how transformers computes attention, in training too; the last two have to be installed; "
        "null: sdpa, or eager for a model that caps its attention logits, as Gemma 2 does",
    )
    prompt_format: PromptFormat = Field(
        "chat", description="chat: through the chat template; text: continue plain text"
    )
    system_role: SystemRole = later_setting(
        "refuse",
        "for a chat template without a system role: fold puts a system message before the first "
        "question; refuse leaves it to the template, which refuses",
    )
    chat_template: str | None = later_setting(
        None,
        "a file with a chat template in place of the model's own, such as "
        "chat/chatml_tools.jinja; a model that is trained keeps it",
    )
    engine: EngineOfKind = Field(
        default_factory=TransformersSettings, description="what answers for the model, by its kind"
    )


class Header(BaseModel):
    """The pipeline file without its stages, which are validated by their own classes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=200, description="names the runs"
    )
    seed: int = Field(0, ge=0, description="every random choice of the pipeline derives from it")
    models: dict[str, ModelConfig] = Field(
        default_factory=dict, description="what is asked and trained, by name"
    )
    variables: dict[str, Any] = Field(
        default_factory=dict, description="constants for every template that reads them"
    )
    today: date | None = Field(
        None,
        description="what chat templates that ask for the present date are told; unless set, the "
        "day on which the pipeline first ran in the workspace",
    )
    report_to: Tracker = Field(
        "none", description="experiment tracker that gets the run's figures and training's curves"
    )


@dataclass(frozen=True, repr=False)
class PipelineConfig:
    """A checked pipeline: its references, columns and templates fit.

    stages: in the order of the file, in which each stage refers to earlier ones only; those of a
        `repeat` once for each round, as `x@1`, `x@2`.
    source: the file, for messages. profile: the one that was merged in, if any.
    assignments: what `--set` and overrides set, as text.
    unread: the optional stages that no stage reads, which are not among `stages`.
    resolved: the merged and expanded file as plain values, with its `repeat`s not unrolled, for the
        run's record.
    lines, rounds: where its places are written; see `Problems`.
    loops: each `repeat` that may end before its last round and has not yet.
    ends: by (stage, place), the references that are settled once these have.
    """

    name: str
    seed: int
    models: dict[str, ModelConfig]
    report_to: Tracker
    stages: dict[str, Stage]
    source: str
    profile: str | None
    resolved: dict[str, object]
    today: date | None = None
    unread: tuple[str, ...] = ()
    assignments: tuple[str, ...] = ()
    lines: Mapping[Path, str] = field(default_factory=dict)
    rounds: Mapping[Path, Path] = field(default_factory=dict)
    loops: tuple[Block, ...] = ()
    ends: Mapping[tuple[str, str], End] = field(default_factory=dict)

    def __repr__(self) -> str:
        profile = f", profile {self.profile}" if self.profile else ""
        return (
            f"<pipeline {self.name}: {counted(len(self.stages), 'stage')}, {self.source}{profile}>"
        )

    def problems(self) -> Problems:
        """To collect what is wrong with it after all, each with its place in the file."""
        return Problems(self.source, self.lines, rounds=dict(self.rounds))

    def last_round(self, name: str) -> str:
        """Of `x@last` the last round that there may be, which an `until` may pass over.

        Any other name stays as it is.
        """
        stage, _, which = name.partition("@")
        rounds = [each for each in self.stages if each.startswith(f"{stage}@")]
        return rounds[-1] if which == "last" and rounds else name

    def why_no_stage(self, name: str) -> str:
        """What to say of a name that is not among the stages that run."""
        if name in self.unread:
            return "it is optional and no stage reads it; name it in one, or set optional: false"
        return f"no such stage; {nearest(name, self.stages)}"

    def seed_of(self, stage: str) -> int:
        """The seed that a stage derives its own from.

        Each round of a `repeat` has another: otherwise each would draw what the first has drawn.
        """
        number = stage.partition("@")[2]
        return derive_seed(self.seed, "round", int(number)) if number else self.seed
