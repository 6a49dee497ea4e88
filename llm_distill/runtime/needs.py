"""What each stage that is to run needs of the machine: devices, memory on each, disk.

    tailored_student    8 GPUs, on each 4.0 GB weights, 4.0 GB gradients, 8.0 GB optimizer

Lower bounds: activations are not in it, and what is not known is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from llm_distill.engines.ray.settings import RaySettings
from llm_distill.engines.settings import EngineSettings
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.engines.vllm.settings import VLLMSettings
from llm_distill.engines.vllm_server.settings import VLLMServerSettings
from llm_distill.models.hub import cached_folder
from llm_distill.models.size import ModelSize, size_of
from llm_distill.models.sources import CONTEXT_NAMES
from llm_distill.paths import find_resource
from llm_distill.pipeline.graph import base_model
from llm_distill.pipeline.problems import Path as Place
from llm_distill.pipeline.problems import parts
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.runtime.artifact import Artifact
from llm_distill.runtime.hardware import Hardware
from llm_distill.stage import Stage, models_of, references
from llm_distill.stages.merge_adapter import MergeAdapter
from llm_distill.stages.train_distill import TrainDistill
from llm_distill.stages.train_relations import TrainRelations
from llm_distill.stages.transfer_tokenizer import TransferTokenizer
from llm_distill.training.footprint import Footprint, footprint
from llm_distill.training.launch import processes
from llm_distill.training.settings import LaunchedSettings, PreferenceSettings, TrainingSettings

CPU_CACHE = 2 * 2**30
"""Of vLLM's keys and values on a CPU, unless set."""

Kind = Literal["GPU", "CPU"]


@dataclass(frozen=True)
class Memory:
    """On each of `devices`. parts: bytes by what they are for.

    kind: None where it is not known on which it runs.
    place: the setting to change if there are too few devices or too little memory.
    share: of a device's memory that it may use.
    is_sure: whether it takes at least this, whatever else is set.
    """

    parts: Mapping[str, int]
    devices: int
    kind: Kind | None
    place: Place
    share: float = 1.0
    is_sure: bool = True

    @property
    def on_each(self) -> int:
        return sum(self.parts.values())


@dataclass(frozen=True)
class Needs:
    """memory: for each model that is in memory at another time than the others.

    output: bytes of the model that it gives. checkpoints: bytes on the way to it.
    """

    memory: tuple[Memory, ...] = ()
    output: int | None = None
    checkpoints: int | None = None

    @property
    def largest(self) -> Memory | None:
        return max(self.memory, key=lambda memory: memory.on_each, default=None)

    @property
    def gpus(self) -> int:
        return max((m.devices for m in self.memory if m.kind == "GPU"), default=0)

    @property
    def disk(self) -> int | None:
        known = [part for part in (self.output, self.checkpoints) if part is not None]
        return sum(known) if known else None


@dataclass
class NeedsOf:
    """Says what stages need. ready: the artifacts that are reused."""

    pipeline: PipelineConfig
    ready: Mapping[str, Artifact]
    hardware: Hardware
    _sizes: dict[Path, ModelSize | None] = field(default_factory=dict)

    def stage(self, name: str) -> Needs:
        stage = self.pipeline.stages[name]
        if isinstance(stage, LaunchedSettings):
            return self._of_training(name, stage)
        memory: list[Memory] = []
        for place, model, kind in references(stage):
            if kind != "model":
                continue
            if stage.loads(place):
                memory += self._of_loading(name, stage, place, model)
            elif (asked := self.of_engine(model)) is not None:
                memory.append(asked)
        output = self._output_of_merging(stage) if isinstance(stage, MergeAdapter) else None
        return Needs(tuple(memory), output)

    def of_engine(self, model: str) -> Memory | None:
        """Of the engine that writes for a model; None where its weights are not here."""
        base = base_model(model, self.pipeline.stages)
        engine = self.pipeline.models[base].engine
        place: Place = ("models", base, "engine")
        inner = engine.answering()
        if not inner.loads_weights:
            return None
        copies = engine.fewest_and_most()[0] if isinstance(engine, RaySettings) else 1
        inner_place = (*place, "engine") if inner is not engine else place
        here = self._device(getattr(inner, "device", "auto"))
        each, share, is_sure = 1, 1.0, True
        held: dict[str, int] = {}
        size, dtype = self.size(model), self.dtype(model)
        if isinstance(inner, VLLMSettings):
            each = inner.tensor_parallel_size * inner.pipeline_parallel_size
            share = inner.gpu_memory_utilization or 1.0
            is_sure = inner.quantization is None
            inner_place = (*inner_place, "tensor_parallel_size")
            held = {} if size is None else _of_vllm(inner, size, dtype, each, here)
        elif isinstance(inner, VLLMServerSettings):
            each, copies = inner.gpus_used() // inner.data_parallel_size, inner.data_parallel_size
            is_sure = inner.quantization is None
            inner_place = (*inner_place, "tensor_parallel_size")
            held = {} if size is None else {"weights": size.bytes(dtype) // each}
        elif size is not None and isinstance(inner, TransformersSettings):
            held = {"weights": size.bytes(dtype)}
        if isinstance(engine, RaySettings) and engine.num_gpus is not None and here == "GPU":
            devices = int(copies * engine.num_gpus)
            place = (*place, "replicas")
        else:
            devices = copies * each
            many = "replicas" if isinstance(engine, RaySettings) else "data_parallel_size"
            place = (*place, many) if copies > 1 else inner_place
        return Memory(held, max(1, devices), here, place, share, is_sure)

    def size(self, model: str) -> ModelSize | None:
        """Of a model or of what a stage makes of one; None where it is not known."""
        folder = self.folder(model)
        if folder is None:
            return None
        if folder not in self._sizes:
            self._sizes[folder] = size_of(folder)
        return self._sizes[folder]

    def folder(self, model: str) -> Path | None:
        """Where the files of a whole model are from which this one is made without a new size."""
        stages = self.pipeline.stages
        while model in stages:
            artifact = self.ready.get(model)
            if artifact is not None and (artifact.path / "config.json").is_file():
                return artifact.path
            if not stages[model].keeps_size:
                return None
            model = models_of(stages[model])[0]
        config = self.pipeline.models[model]
        local = find_resource(config.model_name_or_path)
        return local or cached_folder(config.model_name_or_path, config.revision)

    def dtype(self, model: str) -> str:
        """In which it is loaded: that of `models:`, or as it is saved."""
        stages = self.pipeline.stages
        given = self.pipeline.models[base_model(model, stages)].dtype
        while model in stages and given == "auto":
            stage = stages[model]
            if isinstance(stage, MergeAdapter):
                return stage.dtype
            if isinstance(stage, TrainingSettings) and stage.peft is None:
                return "float32"
            model = models_of(stage)[0]
        return given

    def _has_adapters(self, model: str) -> bool:
        """Whether an adapter lies on it, which a training merges first."""
        stage = self.pipeline.stages.get(model)
        return isinstance(stage, TrainingSettings) and stage.peft is not None

    def _device(self, wanted: str) -> Kind | None:
        if wanted == "cpu":
            return "CPU"
        if self.hardware.gpus is None:
            return None
        return "GPU" if self.hardware.gpus or wanted == "cuda" else "CPU"

    def _of_loading(self, name: str, stage: Stage, place: str, model: str) -> Iterable[Memory]:
        is_tokenizer_only = isinstance(stage, TransferTokenizer) and place == "tokenizer"
        size = None if is_tokenizer_only else self.size(model)
        if size is None:
            return
        made_on_cpu = stage.output == "model"
        dtype = "float32" if made_on_cpu else self.dtype(model)
        device = "cpu" if made_on_cpu else getattr(stage, "device", None)
        kind = self._device(device) if device is not None else None
        at = ("stages", name, *parts(place))
        yield Memory({"weights": size.bytes(dtype)}, 1, kind, at)

    def _output_of_merging(self, stage: MergeAdapter) -> int | None:
        size = self.size(stage.model)
        return None if size is None else size.bytes(stage.dtype)

    def _of_training(self, name: str, stage: LaunchedSettings) -> Needs:
        """Of a stage whose first model is trained."""
        assert isinstance(stage, Stage)
        launch, visible = stage.launch, self.hardware.gpus
        kind = self._device("auto")
        model = models_of(stage)[0]
        size = self.size(model)
        devices = launch.stated()
        if devices is None and visible is not None:
            alone = stage.depends_on_processes()
            devices = 1 if alone else processes(launch, stage.step_rows(), visible)
        place: Place = ("stages", name, "launch", "processes")
        if size is None:
            return Needs((Memory({}, devices or 1, kind, place),))
        found = self._footprint(stage, model, size)
        strategy = launch.strategy
        if isinstance(strategy, Path):
            strategy = "fsdp2" if launch.is_sharded() else "ddp"
        held = found.on_each(devices or 1, strategy)
        if isinstance(stage, TrainDistill) and stage.online is True and stage.teacher is not None:
            teacher = self.size(stage.teacher)
            if teacher is not None:
                held["teacher"] = teacher.bytes(self.dtype(stage.teacher))
        if isinstance(stage, TrainRelations) and (above := self.size(stage.teacher)) is not None:
            held["teacher"] = above.bytes("float32")
        watch = stage.watch_hacking if isinstance(stage, TrainDistill) else None
        if watch is not None and watch.golden is not None:
            oracle = self.size(watch.golden)
            if oracle is not None:
                held["oracle"] = oracle.bytes(self.dtype(watch.golden))
        is_sure = devices is not None and isinstance(launch.strategy, str)
        memory = Memory(held, devices or 1, kind, place, is_sure=is_sure)
        return Needs((memory,), found.saved, stage.save_total_limit * found.checkpoint)

    def _footprint(self, stage: LaunchedSettings, model: str, size: ModelSize) -> Footprint:
        lies_still = not stage.trains_weights() and not self._has_adapters(model)
        dtype = self.dtype(model)
        if stage.quantization is None and (
            not lies_still or (dtype == "auto" and self._device("auto") == "CPU")
        ):
            dtype = "float32"
        return footprint(
            stage,
            size,
            dtype,
            bits=stage.quantization.bits if stage.quantization is not None else None,
            has_reference=isinstance(stage, PreferenceSettings) and stage.peft is None,
        )


def _of_vllm(
    settings: VLLMSettings, size: ModelSize, dtype: str, devices: int, kind: Kind | None
) -> dict[str, int]:
    """The weights, and the cache of one sequence as long as may be: with less it does not start."""
    parts = {"weights": size.bytes(dtype) // devices}
    if kind == "CPU" or settings.kv_cache_memory_bytes is not None:
        return {**parts, "cache": settings.kv_cache_memory_bytes or CPU_CACHE}
    lengths = (size.text_config.get(name) for name in CONTEXT_NAMES)
    length = settings.max_model_len or next((n for n in lengths if isinstance(n, int)), None)
    cache = size.cache_bytes(length) if length is not None else None
    return parts if cache is None else {**parts, "cache": cache // devices}


def is_elsewhere(engine: EngineSettings, address: str | None) -> bool:
    """Whether an engine's copies may be on other machines than this. address: RAY_ADDRESS."""
    return isinstance(engine, RaySettings) and bool(engine.address or address)
