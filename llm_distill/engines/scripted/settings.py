"""The scripted engine's settings: which table or function answers."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from llm_distill.engines.settings import EngineSettings, Place
from llm_distill.errors import ConfigError
from llm_distill.paths import find_resource

if TYPE_CHECKING:
    from llm_distill.engines.base import Engine
    from llm_distill.engines.budget import Budget
    from llm_distill.models.sources import ModelSource


class ScriptedSettings(EngineSettings):
    """Deterministic answers from a table or a function: for tests and for trying a pipeline."""

    loads_weights: ClassVar[bool] = False
    is_stand_in: ClassVar[bool] = True
    # A table's answers are free, and a function may look at more than the request's key.
    is_kept: ClassVar[bool] = False

    kind: Literal["scripted"]
    answers: str | None = Field(
        None,
        description="JSON Lines of contains and completion; the first one that the prompt contains",
    )
    function: str | None = Field(
        None, description="package.module:name, called with the Request; returns the text"
    )

    def weights_identity(self, model_name_or_path: str) -> dict[str, Any]:
        """Digests of what answers: the table, or the function's module."""
        table = find_resource(self.answers) if self.answers else None
        module = _module_file(self.function) if self.function else None
        return {
            "answers": _file_digest(table),
            "function": self.function,
            "module": _file_digest(module),
        }

    def check(self, model_name_or_path: str) -> Iterator[tuple[Place, str]]:
        """A table that cannot be read, or two sources of answers, or none.

        A function's module is the user's code: it is imported in the run, not here.
        """
        from llm_distill.engines.scripted.engine import ScriptedEngine

        if self.function is not None and self.answers is None:
            return
        try:
            ScriptedEngine(self)
        except ConfigError as error:
            at: Place = () if self.answers is None else ("answers",)
            yield ("engine", *at), str(error).removeprefix("engine.answers: ")

    def open(self, source: ModelSource, budget: Budget) -> Engine:
        """See `EngineSettings.open`."""
        from llm_distill.engines.scripted.engine import ScriptedEngine

        return ScriptedEngine(self, source)


def _module_file(function: str) -> Path | None:
    """The source file of `module:name`, without running it; None where there is none."""
    try:
        spec = importlib.util.find_spec(function.partition(":")[0])
    except (ImportError, ValueError):  # a parent package that cannot be imported; an odd name
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


def _file_digest(path: Path | None) -> str | None:
    if path is None or not path.is_file():
        return None  # the engine says what is wrong with it
    return hashlib.sha256(path.read_bytes()).hexdigest()
