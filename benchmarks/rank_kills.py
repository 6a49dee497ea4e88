"""Kill one of the processes that share a training, at random moments, and see what comes of it.

    python benchmarks/rank_kills.py --times 20 [--strategy fsdp2]

Each time a training by two processes is started, one of them is sent SIGKILL after a random time,
and the same training is run again to its end. What counts is that the stage ends with one message
that names the rank, that no process stays, and that the weights are those of a training that was
left alone. Prints a line each, and how many seconds passed between the kill and the error.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from datasets import Dataset
from safetensors.torch import load_file

from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource
from llm_distill.runtime.context import ModelInput, StageInputs
from llm_distill.runtime.perform import Done
from llm_distill.runtime.worker import perform_in_worker
from llm_distill.stages.train_sft import TrainSft
from llm_distill.tracking import TrackedRun

MODEL = "data/models/tiny-student"


class Bar:
    def advance(
        self, n: int = 1, tokens: int = 0, cost: float = 0.0, requests: int | None = None
    ) -> None: ...


def train(stage: TrainSft, folder: Path) -> Done:
    """In `folder`, from its last checkpoint if there is one."""
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    inputs = StageInputs(
        seed=0,
        work_dir=work,
        store=folder / "store.sqlite",
        tracked=TrackedRun("kills", "kills/now/stage", folder / "tracking"),
        rows={"rows": folder.parent / "rows"},
        models={"m": ModelInput(ModelSource("m", MODEL, prompt_format="text"), None)},  # type: ignore[arg-type]
        log=folder / "stage.log",
    )
    return perform_in_worker(stage, inputs, lambda *_: nullcontext(Bar()))


def ranks() -> dict[int, psutil.Process]:
    found = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if "llm_distill.runtime.rank" in process.cmdline():
                found[int(process.environ()["RANK"])] = process
    return found


def left_alone(stage: TrainSft, folder: Path) -> tuple[Done, float]:
    """And the seconds for which there were ranks."""
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(train, stage, folder)
        wait_for_ranks()
        since = time.monotonic()
        return training.result(), time.monotonic() - since


def wait_for_ranks() -> None:
    while len(ranks()) < 2:
        time.sleep(0.02)


def killed(stage: TrainSft, folder: Path, after: float, rank: int) -> tuple[float, str]:
    """Seconds from the kill to the error, and its message."""
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(train, stage, folder)
        wait_for_ranks()
        time.sleep(after)
        if rank not in (alive := ranks()):
            training.result()
            return 0.0, "it had ended"
        alive[rank].kill()
        at = time.monotonic()
        try:
            training.result()
        except ModelError as error:
            return time.monotonic() - at, str(error)
        return time.monotonic() - at, "it had ended"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--strategy", default="ddp")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    launch = {"processes": 2, "strategy": arguments.strategy}
    settings = {"max_steps": 300, "save_steps": 20, "learning_rate": 1e-3, "on_collapse": "ignore"}
    stage = TrainSft(
        stage="train_sft",
        model="m",
        rows="rows",
        **{"train_batch_size": 8, "launch": launch, **settings},
    )
    place = Path(tempfile.mkdtemp(prefix="kills-"))
    texts = [{"id": str(n), "prompt": f"{n} + 1 =", "completion": f" {n + 1}"} for n in range(60)]
    Dataset.from_list(texts).save_to_disk(str(place / "rows"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, {arguments.strategy}", flush=True)
    done, seconds = left_alone(stage, place / "whole")
    whole = load_file(done.directory / "model.safetensors")
    print(f"left alone: {seconds:.1f} s", flush=True)
    right, waits = 0, []
    for number in range(arguments.times):
        folder = place / str(number)
        rank, after = draw.randrange(2), draw.uniform(0, 0.9 * seconds)
        wait, message = killed(stage, folder, after, rank)
        left = len(ranks())
        again = train(stage, folder)
        found = load_file(again.directory / "model.safetensors")
        same = all(found[name].equal(weight) for name, weight in whole.items())
        told = f"rank {rank} of 2 was killed (SIGKILL)" in message
        ended = message == "it had ended"
        right += same and not left and (told or ended)
        waits += [] if ended else [wait]
        print(
            f"{number + 1:2}: rank {rank} after {after:4.1f} s: "
            f"{'it had ended' if ended else f'told after {wait:.1f} s' if told else message}; "
            f"{left} left; resumed from {again.manifest['metrics']['resumed_from_step']}; "
            f"{'same weights' if same else 'OTHER WEIGHTS'}",
            flush=True,
        )
        shutil.rmtree(folder)
    shutil.rmtree(place)
    print(
        f"{right} of {arguments.times} right; {len(waits)} killed in time, told after at most "
        f"{max(waits, default=0):.1f} s"
    )


if __name__ == "__main__":
    main()
