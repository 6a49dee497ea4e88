"""Ranks on several machines of a Ray cluster: Ray Train has a place on each, and accelerate starts
them there.

The machines share a file system, on which the workspace, the models and the folder that the run was
started in have the same paths.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from pathlib import Path
from typing import Any

import ray
from ray.train import RunConfig, ScalingConfig, TrainingFailedError
from ray.train.collective import broadcast_from_rank_zero
from ray.train.v2.api.config import FailureConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.train.v2.api.exceptions import WorkerGroupError

from llm_distill.cluster import connect
from llm_distill.errors import LLMDistillError, ModelError, first_line
from llm_distill.runtime.ranks import MACHINE, Ranks, RanksFailedError, launch_here
from llm_distill.stage import Launch

SECONDS_TO_COME = 600
"""How long the machines may take to have room; a cluster may start them first."""
SECONDS_TO_SPEAK = 4.0
"""How long a machine whose ranks have raised waits for one where a rank was killed, which is why
others raise."""
SHARED = "is_shared"

log = logging.getLogger("llm_distill")


def connect_to_cluster() -> None:
    """Raises:
    ModelError: there is none.
    """
    if "RAY_ADDRESS" not in os.environ:
        raise ModelError(
            "launch.machines: a Ray cluster is needed, and RAY_ADDRESS does not name one; start it "
            "with `ray start --head` here and `ray start --address=HOST:6379` on the others, and "
            "set RAY_ADDRESS=auto"
        )
    connect(None, "launch.machines", "leave launch.machines out to train on this machine")


def own_address() -> str:
    """Of this machine, as others reach it."""
    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


def launch_on_each(ranks: Ranks, launch: Launch, folder: Path) -> None:
    """Start the ranks, and wait until all have ended.

    folder: of the stage, where the machines are to meet.

    Raises:
        RanksFailedError: see `launch_here`.
        ModelError: the cluster has no room, a machine is lost, or it does not share the folder.
    """
    on_each = launch.processes // launch.machines
    needs = {"CPU": on_each} if launch.on_cpu else {"CPU": 1, "GPU": on_each}
    _warn_without_room(launch.machines, needs)
    (folder / SHARED).touch()
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(SECONDS_TO_COME)
    trainer = DataParallelTrainer(
        _on_a_machine,
        train_loop_config={
            "variables": ranks.variables(),
            "launch": launch,
            "here": str(Path.cwd()),
            "shared": str((folder / SHARED).absolute()),
        },
        scaling_config=ScalingConfig(
            num_workers=launch.machines,
            use_gpu=not launch.on_cpu,
            resources_per_worker=needs,
            placement_strategy="STRICT_SPREAD",
        ),
        run_config=RunConfig(
            name="machines",
            storage_path=str((folder / "ray").absolute()),
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0),
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise _cause(error, launch.machines, needs) from error


def _on_a_machine(given: dict[str, Any]) -> None:
    """Ray Train's worker: it holds the machine's devices for the ranks that are started here."""
    launch: Launch = given["launch"]
    node, number = own_address(), ray.train.get_context().get_world_rank()
    enter(node, Path(given["here"]), Path(given["shared"]))
    host, port = broadcast_from_rank_zero((node, _free_port(node)) if number == 0 else None)
    place = (
        f"--machine_rank={number}",
        f"--main_process_ip={host}",
        f"--main_process_port={port}",
        "--same_network",
    )
    try:
        launch_here({**given["variables"], MACHINE: node}, launch, place)
    except RanksFailedError as error:
        if all(code > 0 for code in error.exit_codes.values()):
            time.sleep(SECONDS_TO_SPEAK)
        raise


def enter(node: str, folder: Path, shared: Path) -> None:
    """Go to the folder in which the run was started. shared: a file that it has made.

    Raises:
        ModelError: this machine has not both.
    """
    if not shared.is_file():
        raise ModelError(
            f"launch.machines: {node} does not see {shared.parent}, which the machine has where "
            "the run was started; put the workspace (--workspace) on a file system that all "
            "machines share, at the same path"
        )
    try:
        os.chdir(folder)
    except OSError as error:
        raise ModelError(
            f"launch.machines: {node} does not have the folder {folder} ({error.strerror}), in "
            "which the run was started; start it in one that all machines share"
        ) from error


def _free_port(host: str) -> int:
    with socket.socket() as found:
        found.bind((host, 0))
        return int(found.getsockname()[1])


def _warn_without_room(machines: int, needs: dict[str, int]) -> None:
    """A cluster that grows by itself may get it; of another nothing would be heard for minutes."""
    if (able := _able(needs)) < machines:
        log.warning("%s; waiting for %d s", _no_room(able, machines, needs), SECONDS_TO_COME)


def _able(needs: dict[str, int]) -> int:
    """How many machines of the cluster have what one needs, free or not."""
    known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    nodes = [node["Resources"] for node in known if node["Alive"]]
    return sum(all(node.get(name, 0) >= n for name, n in needs.items()) for node in nodes)


def _no_room(found: int, machines: int, needs: dict[str, int]) -> str:
    wanted = " and ".join(f"{name}: {n}" for name, n in needs.items())
    return (
        f"launch.machines: {machines}, and {found} machines of the cluster have {wanted} each; add "
        "machines (ray start --address=...), or lower launch.machines or launch.processes"
    )


def _cause(error: TrainingFailedError, machines: int, needs: dict[str, int]) -> Exception:
    """What was raised on a machine; of several, what the others followed from."""
    if not isinstance(error, WorkerGroupError):
        if "timeout" in str(error).lower():
            return ModelError(_no_room(_able(needs), machines, needs))
        return ModelError(f"launch.machines: Ray Train failed: {first_line(error)}")
    raised = list(error.worker_failures.values())
    causes = [getattr(found, "cause", None) or found for found in raised]
    for found in causes:
        if isinstance(found, LLMDistillError):
            return found
    failed = [found for found in causes if isinstance(found, RanksFailedError)]
    if failed:
        codes = {rank: code for found in failed for rank, code in found.exit_codes.items()}
        return RanksFailedError(codes, str(failed[0]))
    return ModelError(
        f"launch.machines: a machine of the cluster was lost: {first_line(causes[0])}. The next "
        "run goes on from the last checkpoint"
    )
