"""On how many processes a training runs, what each of them does, and how accelerate starts them.

    launch: {processes: 8, strategy: fsdp2}

The rows of an optimizer step are what the file says, however many processes share them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from llm_distill.errors import ModelError, counted
from llm_distill.paths import find_resource
from llm_distill.stage import Launch
from llm_distill.training.steps import StepRows

if TYPE_CHECKING:
    from datasets import Dataset

Strategy = Literal["ddp", "fsdp2", "zero2", "zero3"]

DEEPSPEED = ("--use_deepspeed", "--deepspeed_multinode_launcher=standard")
ARGUMENTS: dict[Strategy, tuple[str, ...]] = {
    "ddp": ("--multi_gpu",),
    "fsdp2": (
        "--use_fsdp",
        "--fsdp_version=2",
        "--fsdp_auto_wrap_policy=TRANSFORMER_BASED_WRAP",
        "--fsdp_reshard_after_forward=true",
        "--fsdp_cpu_ram_efficient_loading=true",
        "--fsdp_state_dict_type=SHARDED_STATE_DICT",
    ),
    "zero2": (*DEEPSPEED, "--zero_stage=2"),
    "zero3": (*DEEPSPEED, "--zero_stage=3", "--zero3_init_flag=true"),
}
"""Of `accelerate launch`."""


class LaunchSettings(BaseModel):
    """The devices that a training uses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    processes: int | None = Field(
        None,
        ge=1,
        description="one for each device, of all machines together; null: as many as GPUs are "
        "visible and share the rows of a step evenly, or without a GPU one on each machine",
    )
    machines: int = Field(
        1,
        ge=1,
        description="of the Ray cluster at RAY_ADDRESS, which share a file system; as many "
        "processes run on each",
    )
    strategy: Strategy | Path = Field(
        "ddp",
        description="ddp: the whole model on each device; fsdp2, zero2 and zero3 (DeepSpeed): its "
        "weights, gradients and optimizer are divided among them; or the file of an accelerate "
        "config",
    )

    @field_validator("strategy")
    @classmethod
    def _is_there(cls, value: Strategy | Path) -> Strategy | Path:
        if isinstance(value, Path):
            accelerate_config(value)
        return value

    @model_validator(mode="after")
    def _the_config_is_for_as_many(self) -> Self:
        stated = self._config().get("num_processes")
        if self.processes is not None and stated not in (None, self.processes):
            raise ValueError(
                f"{self.strategy} is for num_processes: {stated}, and processes is "
                f"{self.processes}; say it once"
            )
        stated = self._config().get("num_machines") or 1
        if stated not in (1, self.machines):
            raise ValueError(f"{self.strategy} is for {stated} machines; set machines to as many")
        if (self.stated() or self.machines) % self.machines:
            raise ValueError(
                f"{self.stated()} processes cannot be divided evenly among {self.machines} machines"
            )
        return self

    def _config(self) -> dict[str, Any]:
        return {} if isinstance(self.strategy, str) else accelerate_config(self.strategy)

    def stated(self) -> int | None:
        """How many processes are asked for; None where it depends on the machine."""
        return self.processes or self._config().get("num_processes")

    def is_sharded(self) -> bool:
        """Whether the weights are divided among the processes."""
        if isinstance(self.strategy, str):
            return self.strategy != "ddp"
        return self._config()["distributed_type"] in ("FSDP", "DEEPSPEED")

    def missing(self) -> Iterator[tuple[str, str]]:
        """The setting, and what to say, where a package that it needs is not installed."""
        if self.machines > 1 and find_spec("ray") is None:
            yield "machines", "Ray is not installed: pip install 'llm-distill[ray]'"
        of_config = self._config().get("distributed_type") == "DEEPSPEED"
        is_deepspeed = self.strategy in ("zero2", "zero3") or of_config
        if is_deepspeed and find_spec("deepspeed") is None:
            yield (
                "strategy",
                f"{self.strategy} needs DeepSpeed, which is not installed: pip install deepspeed; "
                "fsdp2 divides a model without it",
            )

    def arguments(self, processes: int) -> tuple[str, ...]:
        """Of `accelerate launch`; without the machine, and the module that it starts."""
        if isinstance(self.strategy, str):
            chosen = ARGUMENTS[self.strategy]
        else:
            chosen = (f"--config_file={find_resource(str(self.strategy))}",)
        return (*chosen, f"--num_processes={processes}", f"--num_machines={self.machines}")


def accelerate_config(path: Path) -> dict[str, Any]:
    """What `accelerate config` wrote.

    Raises:
        ValueError: it is not there, or not such a file.
    """
    import yaml

    found = find_resource(str(path))
    allowed = "allowed: ddp, fsdp2, zero2, zero3, or the file that `accelerate config` wrote"
    if found is None or not found.is_file():
        raise ValueError(f"'{path}' is not a strategy, and there is no such file; {allowed}")
    try:
        config = yaml.safe_load(found.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{found} cannot be read as YAML: {error}") from error
    if not isinstance(config, dict) or "distributed_type" not in config:
        raise ValueError(f"{found} is not an accelerate config: no distributed_type; {allowed}")
    return config


def launched(settings: LaunchSettings, rows: StepRows) -> Launch | None:
    """How to start a training's processes here; None where this one is enough.

    Raises:
        ModelError: there are not as many GPUs.
    """
    import torch

    visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
    refused = too_many(settings, visible)
    if refused is not None:
        raise ModelError(f"launch.processes: {refused}")
    machines, wanted = settings.machines, processes(settings, rows, visible)
    if wanted == 1 and not (settings.is_sharded() and visible):
        return None
    advice = (
        "lower per_device_train_batch_size and raise gradient_accumulation_steps by as much, or "
        "lower max_length"
    )
    if not settings.is_sharded():
        advice += ", or divide the model with launch.strategy: fsdp2"
    arguments = settings.arguments(wanted)
    return Launch(wanted, arguments, not visible, advice, machines)


def processes(settings: LaunchSettings, rows: StepRows, visible: int) -> int:
    """How many processes a training has. visible: GPUs of this machine."""
    machines = settings.machines
    able = [n for n in rows.processes() if n % machines == 0 and n <= visible * machines]
    return settings.stated() or max(able, default=machines)


def too_many(settings: LaunchSettings, visible: int) -> str | None:
    """Why the GPUs of this machine do not suffice; None where they do, or there are none at all."""
    wanted = settings.stated()
    if wanted is None or not visible or wanted <= visible * settings.machines:
        return None
    there = f"{counted(visible, 'GPU')} {'is' if visible == 1 else 'are'} visible"
    there += " on this machine" if settings.machines > 1 else ""
    return f"{wanted}, but {there}; a process needs one each"


def use_one_device() -> None:
    """Keep transformers from spreading the batches of one process over all GPUs.

    Before CUDA is started in it.
    """
    import torch

    if world_size() == 1 and torch.cuda.device_count() > 1 and not torch.cuda.is_initialized():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or "0"
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[0]


def world_size() -> int:
    """How many processes share this training; 1 unless accelerate has started them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_sharded() -> bool:
    """Whether the weights of what is trained are divided among this and other processes."""
    names = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    return any(os.environ.get(name) == "true" for name in names)


def own_device() -> str:
    """Where this process trains."""
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


@contextmanager
def whole_on_each_process() -> Iterator[None]:
    """Load what is not divided: transformers would load it on the first process alone."""
    name = "FSDP_CPU_RAM_EFFICIENT_LOADING"
    before = os.environ.pop(name, None)
    try:
        yield
    finally:
        if before is not None:
            os.environ[name] = before


def is_main() -> bool:
    """Whether this process writes what all of them have made."""
    return os.environ.get("RANK", "0") == "0"


def encoded_once(encode: Callable[[], Dataset], folder: Path, name: str = "rows") -> Dataset:
    """The rows that `encode` gives, which the first process does for all; they read its file.

    name: of the file, in `folder`.
    """
    if world_size() == 1:
        return encode()
    from accelerate import PartialState
    from datasets import load_from_disk

    if is_main():
        encode().save_to_disk(str(folder / "encoded" / name))
    PartialState().wait_for_everyone()
    return cast("Dataset", load_from_disk(str(folder / "encoded" / name)))
