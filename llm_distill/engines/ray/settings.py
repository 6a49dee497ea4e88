"""The settings of an engine whose copies run on the nodes of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from llm_distill.engines.scripted.settings import ScriptedSettings
from llm_distill.engines.settings import EngineSettings, Place
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.engines.vllm.settings import VLLMSettings
from llm_distill.errors import ModelError
from llm_distill.stage import execution_setting

if TYPE_CHECKING:
    from llm_distill.engines.base import Engine
    from llm_distill.engines.budget import Budget
    from llm_distill.models.sources import ModelSource

Inner = Annotated[
    TransformersSettings | VLLMSettings | ScriptedSettings, Field(discriminator="kind")
]


class RaySettings(EngineSettings):
    """Copies of an engine on any nodes of a Ray cluster, which share the requests.

    What a model writes is known by the inner engine's settings, wherever it runs.
    """

    loads_weights: ClassVar[bool] = True

    kind: Literal["ray"]
    engine: Inner = Field(description="the engine of each copy: transformers, vllm or scripted")
    replicas: int | tuple[int, int] = execution_setting(
        1, "copies; or [fewest, most]: it begins with the fewest and takes more as nodes come"
    )
    address: str | None = execution_setting(
        None,
        "of the cluster, such as auto or 10.0.0.1:6379; null: RAY_ADDRESS, or else one is started "
        "on this machine",
    )
    num_cpus: float = execution_setting(1, "cores that Ray sets aside for a copy", ge=0)
    num_gpus: float | None = execution_setting(
        None, "GPUs for a copy; null: as many as its engine uses, where the cluster has any", ge=0
    )
    max_concurrency: int = execution_setting(
        1024, "requests that a copy has at once; they are asked again if it is lost", ge=1
    )

    @field_validator("replicas")
    @classmethod
    def _is_a_range(cls, value: int | tuple[int, int]) -> int | tuple[int, int]:
        fewest, most = (value, value) if isinstance(value, int) else value
        if not 1 <= fewest <= most:
            raise ValueError("expected a number from 1, or [fewest, most] with fewest first")
        return value

    def fewest_and_most(self) -> tuple[int, int]:
        return (self.replicas, self.replicas) if isinstance(self.replicas, int) else self.replicas

    def gpus_used(self) -> int:
        """By each copy, where there are any."""
        if isinstance(self.engine, VLLMSettings):
            return self.engine.tensor_parallel_size * self.engine.pipeline_parallel_size
        return int(isinstance(self.engine, TransformersSettings))

    def answering(self) -> EngineSettings:
        return self.engine

    def check(self, model_name_or_path: str) -> Iterator[tuple[Place, str]]:
        """What the inner engine finds, and whether Ray is there."""
        from importlib.util import find_spec

        for place, message in self.engine.check(model_name_or_path):
            inner = ("engine", *place) if place[:1] == ("engine",) else place
            yield inner, message
        if find_spec("ray") is None:
            yield ("engine", "kind"), "Ray is not installed: pip install 'llm-distill[ray]'"

    def weights_identity(self, model_name_or_path: str) -> dict[str, Any] | None:
        return self.engine.weights_identity(model_name_or_path)

    def open(self, source: ModelSource, budget: Budget) -> Engine:
        """See `EngineSettings.open`."""
        try:
            from llm_distill.engines.ray.engine import RayEngine
        except ImportError as error:
            raise ModelError(
                f"model '{source.name}' has engine.kind: ray, and Ray cannot be imported "
                f"({error}): pip install 'llm-distill[ray]'"
            ) from error
        return RayEngine(source, self)
