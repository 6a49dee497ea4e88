"""Which models may be in memory together, where a stage asks them in turn, turn after turn.

The rule is one model at a time: an engine takes what memory there is, and nothing says how much its
batches will need. A dialogue would then load its models anew for each turn. So small models are
kept beside each other: what they take is far below what the rule keeps free.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

from llm_distill.engines.settings import EngineSettings
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.models.hub import cached_folder
from llm_distill.models.size import size_of
from llm_distill.models.sources import ModelSource
from llm_distill.paths import find_resource
from llm_distill.runtime.hardware import Hardware

SHARE = 0.2
"""Of a device's memory that the weights of all of them may take."""


def fit_side_by_side(
    models: Iterable[tuple[ModelSource, EngineSettings]], hardware: Hardware
) -> bool:
    """Whether they can stay in memory together.

    True where they lie apart: one at most has its weights here, or servers have GPUs of their own.
    False where there are more and one has an engine of its own memory (vLLM), or a size or device
    that is not known.
    """
    here = [(source, engine) for source, engine in models if engine.answering().loads_weights]
    if all(one.lies_apart(other) for (_, one), (_, other) in combinations(here, 2)):
        return True
    taken = {"cpu": 0, "gpu": 0}
    for source, engine in here:
        n_bytes = _bytes_of(source)
        if not isinstance(engine, TransformersSettings) or n_bytes is None:
            return False
        if engine.device != "cpu" and hardware.gpus is None:
            return False
        on_gpu = engine.device != "cpu" and (engine.device == "cuda" or hardware.gpus)
        taken["gpu" if on_gpu else "cpu"] += n_bytes
    there = {"cpu": hardware.ram_bytes, "gpu": hardware.gpu_bytes}
    return all(n <= SHARE * (there[device] or 0) for device, n in taken.items())


def _bytes_of(source: ModelSource) -> int | None:
    """Of its weights; an adapter is laid into them and hardly adds to it."""
    folder = find_resource(source.path) or cached_folder(source.path, source.revision)
    size = size_of(folder) if folder is not None else None
    return None if size is None else size.bytes(source.dtype)
