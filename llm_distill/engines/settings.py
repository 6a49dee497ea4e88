"""What an engine's settings answer about it. The rest of the package asks these, never its kind.

No heavy import here or in any engine's `settings.py`: checking a pipeline needs the settings only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from llm_distill.models.files import why_not_a_model

if TYPE_CHECKING:
    from llm_distill.engines.base import Engine
    from llm_distill.engines.budget import Budget
    from llm_distill.models.sources import ModelSource

Place = tuple[str, ...]
"""Where in a model's entry under `models:` something is written: ("engine", "answers")."""

LongPrompt = Literal["skip", "truncate", "fail"]
LONG_PROMPT: LongPrompt = Field(
    "skip",
    description="a prompt that fills the context: a bad row, or its end is kept, or an error",
)


@dataclass(frozen=True)
class Found:
    """What is wrong at a place in a model's entry; is_certain: no request would be answered."""

    place: Place
    message: str
    is_certain: bool = False


class EngineSettings(BaseModel):
    """Base of every engine's settings: what stands under a model's `engine:`.

    The defaults fit an engine that loads weights. One that asks a server sets `loads_weights` to
    False, and its model is then known by its name alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    loads_weights: ClassVar[bool] = True
    """Whether it takes the weights at `model_name_or_path` into this machine's memory."""
    is_stand_in: ClassVar[bool] = False
    """Whether it answers in place of the model: no model wrote the texts, and a stage may still
    load what `model_name_or_path` names."""
    is_kept: ClassVar[bool] = True
    """Whether its answers are worth keeping in the completion store."""
    holds_structure: ClassVar[bool] = False
    """Whether it heeds a request's `structure`."""
    gives_likelihoods: ClassVar[bool] = False
    """Whether its engine's `score` tells how likely given completions are."""
    gives_likeliest: ClassVar[bool] = False
    """Whether it also tells the likeliest tokens at each place (`ScoreRequest.top_k`)."""
    loads_adapters: ClassVar[bool] = False
    """Whether there are settings with which it `takes_adapters_alone`."""

    kind: str

    @classmethod
    def is_served(cls) -> bool:
        """Whether the model is on a server: there are no weights that a stage could load."""
        return not cls.loads_weights and not cls.is_stand_in

    def has_weights_here(self) -> bool:
        """Whether a stage can load what `model_name_or_path` names, whoever answers for it."""
        return not self.is_served()

    @property
    def takes_adapters_alone(self) -> bool:
        """Whether, of a model that a stage has trained, it takes an adapter and nothing else."""
        return False

    def lies_apart(self, other: EngineSettings) -> bool:
        """Whether the settings keep it and another, of another model, from sharing memory."""
        return not (self.answering().loads_weights and other.answering().loads_weights)

    def answering(self) -> EngineSettings:
        """The settings of what answers: those within, where these only say where it runs."""
        return self

    def served_name(self, model_name_or_path: str) -> str:
        """What the server calls the model."""
        return model_name_or_path

    def weights_identity(self, model_name_or_path: str) -> dict[str, Any] | None:
        """What identifies the model that answers, as JSON; None: the digest of its weights.

        Of a server's model its name is all that can be known; the server's address may change.
        """
        if self.has_weights_here():
            return None
        return {"served": self.served_name(model_name_or_path)}

    def check(self, model_name_or_path: str) -> Iterator[tuple[Place, str]]:
        """What would stop a run, each with its place in the model's entry. Reads no weights."""
        message = why_not_a_model(model_name_or_path) if self.loads_weights else None
        if message is not None:
            yield ("model_name_or_path",), message

    def look(self, model_name_or_path: str) -> Iterator[Found]:
        """As `check`, right before a run, by asking what costs nothing: a server for its models."""
        yield from ()

    @classmethod
    def can(cls, asked: str) -> bool:
        """Whether it can do what a stage `asks` of an engine. A stand-in's texts have any form."""
        if asked == "structure":
            return cls.holds_structure or cls.is_stand_in
        if asked == "likeliest":
            return cls.gives_likeliest
        if asked == "adapters":
            return cls.loads_adapters
        return asked != "likelihoods" or cls.gives_likelihoods

    def open(self, source: ModelSource, budget: Budget) -> Engine:
        """The engine for a model. Loads the weights, if any; close it to free them.

        Import the engine here, not at the top of the module.

        Args:
            source: the model's weights, or its name on the server.
            budget: what the engines of a run may spend together; only a server costs anything.

        Raises:
            ModelError: the model cannot be loaded, or the engine's package is not installed.
        """
        raise TypeError(f"{type(self).__name__} has no open()")
