"""What makes a run impossible: models, devices, memory, disk and rows that are not there.

Nothing is said of what cannot be known.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llm_distill.digests import fingerprint
from llm_distill.engines.store.file import knows_model
from llm_distill.engines.vllm_server.settings import VLLMServerSettings
from llm_distill.errors import (
    DataError,
    LLMDistillError,
    ModelError,
    WorkspaceError,
    counted,
    sized,
)
from llm_distill.hints import hint
from llm_distill.models.hub import why_not_there
from llm_distill.paths import find_resource
from llm_distill.pipeline.graph import base_model
from llm_distill.pipeline.outside import place_of
from llm_distill.pipeline.problems import Path as Place
from llm_distill.pipeline.problems import parts
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.hardware import Hardware
from llm_distill.runtime.needs import Memory, NeedsOf, is_elsewhere
from llm_distill.runtime.resolve import Resolver
from llm_distill.stage import Stage, models_of, references
from llm_distill.stages.transfer_tokenizer import TransferTokenizer
from llm_distill.training.launch import too_many
from llm_distill.training.settings import LaunchedSettings, TrainingSettings

UNLIKELY = 1.2
"""A bound on rows that is less than this times what is wanted is close: filters come before."""


@dataclass(frozen=True)
class Problem:
    """kind: the error that is raised if all problems are of it."""

    place: Place
    message: str
    kind: type[LLMDistillError]


@dataclass
class Look:
    """Looks at the stages that are to run. resolver: with the artifacts that are reused."""

    resolver: Resolver
    workspace: Workspace
    hardware: Hardware
    to_run: Sequence[str]

    def __post_init__(self) -> None:
        self.pipeline = self.resolver.pipeline
        self.of = NeedsOf(self.pipeline, self.resolver.ready, self.hardware)
        self.needs = {name: self.of.stage(name) for name in self.to_run}
        self._answered: dict[str, bool] = {}

    def stages(self) -> Iterator[tuple[str, Stage]]:
        for name in self.to_run:
            yield name, self.pipeline.stages[name]

    def models(self) -> Iterator[tuple[str, Stage, str, str]]:
        """(stage, the same, place, model) of each model that a stage needs the weights of."""
        for name, stage in self.stages():
            for place, model, kind in references(stage):
                if kind == "model" and (stage.loads(place) or self._is_asked_here(model)):
                    yield name, stage, place, model

    def missing_models(self) -> Iterator[Problem]:
        said = set()
        for _, stage, place, model in self.models():
            base = self.outside(model)
            if base is None or base in said:
                continue
            config = self.pipeline.models[base]
            if config.engine.answering().is_stand_in and not isinstance(stage, TrainingSettings):
                continue  # where nothing writes in earnest, nothing may be loaded either
            reads_weights = not (isinstance(stage, TransferTokenizer) and place == "tokenizer")
            if find_resource(config.model_name_or_path) is not None or not (
                reads_weights or self.of.folder(model) is None
            ):
                continue
            said.add(base)
            why = why_not_there(config.model_name_or_path, config.revision)
            if why is not None:
                yield Problem(("models", base, "model_name_or_path"), why, ModelError)
        for name, stage in self.stages():
            for model, revision in stage.hub_models():
                why = None if model in said else why_not_there(model, revision)
                said.add(model)
                if why is not None:
                    yield Problem(("stages", name, *place_of(model, stage)), why, ModelError)

    def missing_devices(self) -> Iterator[Problem]:
        """GPUs, and memory on what there is."""
        said = set()
        for name, stage in self.stages():
            if isinstance(stage, LaunchedSettings):
                place: Place = ("stages", name, "launch", "processes")
                refused = too_many(stage.launch, self.hardware.gpus or 0)
                if refused is not None:
                    yield Problem(place, refused, ModelError)
                elif stage.launch.machines == 1:
                    yield from self._memory(self.needs[name].memory, ("stages", name))
                continue
            for place_in, model, kind in references(stage):
                if kind != "model":
                    continue
                if stage.loads(place_in):
                    at = ("stages", name, *parts(place_in))
                    yield from self._memory(
                        [m for m in self.needs[name].memory if m.place == at], at
                    )
                elif model not in said and self._is_asked_here(model):
                    said.add(model)
                    yield from self._engine(model)

    def missing_disk(self) -> Iterator[Problem]:
        """For the models that the stages give: at least these are written."""
        free = _free_bytes(self.workspace.root)
        wanted = {name: needs.output for name, needs in self.needs.items() if needs.output}
        total = sum(wanted.values())
        if free is not None and total > free:
            largest = max(wanted, key=lambda name: wanted[name])
            of = f"the {len(wanted)} models of this run" if len(wanted) > 1 else "its model"
            yield Problem(
                ("stages", largest),
                f"{of} will take {sized(total)} on the disk of {self.workspace.root}, which has "
                f"{sized(free)} free; make room, choose another place with --workspace DIR, or "
                "train adapters (peft)",
                WorkspaceError,
            )

    def missing_rows(self, rows: Mapping[str, int | None]) -> Iterator[Problem]:
        for name, stage in self.stages():
            may_be_empty = set(stage.may_be_empty())
            for place, target, n in stage.fewest_rows():
                there = rows.get(target)
                if there is not None and there < n:
                    yield Problem(
                        ("stages", name, *parts(place)),
                        f"{counted(n, 'row')} {'is' if n == 1 else 'are'} wanted, and '{target}' "
                        f"will have {there:,} at most; lower it, or make more rows before",
                        DataError,
                    )
            for place, target, kind in references(stage):
                is_empty = kind == "rows" and rows.get(target) == 0
                if is_empty and target in self.resolver.ready and target not in may_be_empty:
                    yield Problem(
                        ("stages", name, *parts(place)),
                        f"its input '{target}' has no rows; what has been dropped before it: "
                        f"{hint('status')}",
                        DataError,
                    )

    def unlikely(self, rows: Mapping[str, int | None]) -> Iterator[str]:
        for name, stage in self.stages():
            for place, target, n in stage.fewest_rows():
                there = rows.get(target)
                is_bound = target not in self.resolver.ready
                if there is not None and n <= there < UNLIKELY * n and is_bound:
                    problems = self.pipeline.problems()
                    problems.add(
                        ("stages", name, *parts(place)),
                        f"{counted(n, 'row')} wanted of '{target}', which will have {there:,} at "
                        "most: if the stages before it drop more than "
                        f"{there - n:,}, the run stops here",
                    )
                    yield from problems.found

    def _engine(self, model: str) -> Iterator[Problem]:
        base = base_model(model, self.pipeline.stages)
        engine = self.pipeline.models[base].engine
        needed = self.of.of_engine(model)
        if needed is None or is_elsewhere(engine, os.environ.get("RAY_ADDRESS")):
            return
        visible = self.hardware.gpus
        if visible == 0 and needed.kind == "GPU":
            what = "device: cuda, but there is no CUDA device; use auto or cpu"
            yield Problem(("models", base, "engine"), what, ModelError)
            return
        there = f"{counted(visible or 0, 'GPU')} {'is' if visible == 1 else 'are'} visible"
        inner = engine.answering()
        gpus = inner.gpus if isinstance(inner, VLLMServerSettings) else None
        if visible and gpus is not None and max(gpus) >= visible:
            what = f"gpus names {max(gpus)}, but {there}, counted from 0"
            yield Problem(("models", base, "engine", "gpus"), what, ModelError)
        elif visible and needed.kind == "GPU" and needed.devices > visible:
            is_server = isinstance(inner, VLLMServerSettings)
            copies = "data_parallel_size" if is_server else "replicas"
            yield Problem(
                needed.place,
                f"the engine needs {counted(needed.devices, 'GPU')}, but {there}; lower "
                f"tensor_parallel_size, pipeline_parallel_size or {copies}",
                ModelError,
            )
        else:
            yield from self._memory([needed], ("models", base))

    def _memory(self, needed: Sequence[Memory], place: Place) -> Iterator[Problem]:
        """What does not fit into the memory of the devices."""
        for memory in needed:
            has = self._has(memory)
            wanted = memory.on_each * (memory.devices if memory.kind == "CPU" else 1)
            if has is None or not memory.is_sure or wanted <= has:
                continue
            listed = ", ".join(f"{name} {sized(size)}" for name, size in memory.parts.items())
            on = f"each of {memory.devices} GPUs" if memory.devices > 1 else "the GPU"
            if memory.kind == "CPU":
                on = f"{memory.devices} processes" if memory.devices > 1 else "memory"
                there = f"and this machine has {sized(has)}"
            else:
                there = f"and a GPU has {sized(has)}"
                there += f" for it ({memory.share:.0%})" if memory.share < 1 else ""
            yield Problem(
                place,
                f"it needs at least {sized(memory.on_each)} in {on} without activations "
                f"({listed}), {there}; take a smaller model or dtype: bfloat16, divide it among "
                "more devices, or train an adapter (peft)",
                ModelError,
            )

    def _has(self, memory: Memory) -> int | None:
        if memory.kind == "CPU":
            return self.hardware.ram_bytes
        if memory.kind == "GPU" and self.hardware.gpu_bytes is not None:
            return int(self.hardware.gpu_bytes * memory.share)
        return None

    def outside(self, model: str) -> str | None:
        """The entry under `models:` whose files are needed; None where a stage is to make them.

        A stage that is to run needs the files of what it starts from itself.
        """
        stages = self.pipeline.stages
        while model in stages:
            artifact = self.resolver.ready.get(model)
            if artifact is None or (artifact.path / "config.json").is_file():
                return None
            model = models_of(stages[model])[0]
        return model

    def _is_asked_here(self, model: str) -> bool:
        """Whether an engine is sure to load it: it has not written for this workspace before.

        What is stored is not asked again, on whatever machine it was written.
        """
        base = base_model(model, self.pipeline.stages)
        engine = self.pipeline.models[base].engine
        if not engine.answering().loads_weights:
            return False
        return not self.has_answers(model)

    def has_answers(self, model: str) -> bool:
        """Whether answers of it are stored, or that cannot be known."""
        if model not in self._answered:
            is_ready = model not in self.pipeline.stages or model in self.resolver.ready
            found: bool | None = False
            if is_ready and self.workspace.completions.is_file():
                digest = fingerprint(self.resolver.writer_identity(model)[0])
                found = knows_model(self.workspace.completions, digest)
            self._answered[model] = found is not False
        return self._answered[model]


def _free_bytes(root: Path) -> int | None:
    place = root.absolute()
    while not place.is_dir() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None
