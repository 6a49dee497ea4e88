"""The same requests through Ray Data and through copies of an engine that are Ray actors.

    python benchmarks/ray_data.py [--requests 2000]

The work is a scripted engine's: one that takes 20 ms for an answer, in two copies, and one without
a delay, in one copy, of five times as many requests. Ray Data maps batches of 16 over as many
actors, which is what its processor for vLLM is built on. Then an actor of either is killed when a
third of the answers are there: how many requests were made twice.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
import ray.data
from hardware import describe
from table import show

from llm_distill.engines.base import Request, SamplingSettings
from llm_distill.engines.budget import Budget
from llm_distill.engines.ray.settings import RaySettings
from llm_distill.engines.scripted.settings import ScriptedSettings
from llm_distill.models.sources import ModelSource

BATCH = 16
SOURCE = ModelSource("m", "m")


def quick(request: Request) -> str:
    return f"{request.prompt} yes"


def slow(request: Request) -> str:
    """Notes that it was asked, and by whom, in the file that the prompt names."""
    time.sleep(0.02)
    with Path(str(request.prompt).split()[-1]).open("a") as lines:
        lines.write(f"{request.id} {os.getpid()}\n")
    return "yes"


class Copy:
    """What Ray Data keeps in an actor."""

    def __init__(self, function: str) -> None:
        settings = ScriptedSettings(kind="scripted", function=f"ray_data:{function}")
        self._engine = settings.open(SOURCE, Budget(None))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        pairs = zip(batch["id"], batch["prompt"], strict=True)
        asked = [Request(i, prompt, SamplingSettings(), 0) for i, prompt in pairs]
        answers = list(self._engine.generate(asked))
        return {"id": [a.id for a in answers], "text": [a.text for a in answers]}


def rows(n: int, log: Path) -> list[dict[str, str]]:
    return [{"id": str(i), "prompt": f"What is {i}? {log}"} for i in range(n)]


def through_data(function: str, copies: int, n: int, log: Path) -> Iterator[str]:
    """Ids as they come."""
    found = ray.data.from_items(rows(n, log)).map_batches(
        Copy,
        fn_constructor_args=[function],
        batch_size=BATCH,
        compute=ray.data.ActorPoolStrategy(size=copies),
    )
    for row in found.iter_rows():
        yield row["id"]


def through_engine(function: str, copies: int, n: int, log: Path) -> Iterator[str]:
    inner = ScriptedSettings(kind="scripted", function=f"ray_data:{function}")
    settings = RaySettings(kind="ray", engine=inner, replicas=copies, max_concurrency=BATCH)
    opened = settings.open(SOURCE, Budget(None))
    asked = (Request(r["id"], r["prompt"], SamplingSettings(), 0) for r in rows(n, log))
    try:
        for answer in opened.generate(asked):
            yield answer.id
    finally:
        opened.close()


def rate(found: Iterator[str], n: int) -> tuple[float, float]:
    """Rows a second from the first to the last, and seconds until the first."""
    began = time.perf_counter()
    next(found)
    first = time.perf_counter()
    assert sum(1 for _ in found) == n - 1
    return (n - 1) / max(time.perf_counter() - first, 1e-9), first - began


def killed(found: Iterator[str], n: int, log: Path) -> tuple[int, int]:
    """Requests that were made twice or more, and answers that came."""
    count, dead = 0, False
    for _ in found:
        count += 1
        if not dead and len(log.read_text().splitlines()) > n // 3:
            os.kill(int(log.read_text().splitlines()[-1].split()[1]), signal.SIGKILL)
            dead = True
    asked = Counter(line.split()[0] for line in log.read_text().splitlines())
    return sum(1 for times in asked.values() if times > 1), count


def measured(n: int) -> Iterator[list[str]]:
    ways = {"actors": through_engine, "Ray Data": through_data}
    for name, way in ways.items():
        place = Path(tempfile.mkdtemp())
        slowly, wait = rate(way("slow", 2, n, place / "log"), n)
        quickly, _ = rate(way("quick", 1, 5 * n, place / "none"), 5 * n)
        twice, came = killed(way("slow", 2, n, place / "killed"), n, place / "killed")
        yield [name, f"{slowly:.1f}", f"{wait:.1f}", f"{quickly:.0f}", f"{twice}", f"{came} of {n}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    options = parser.parse_args()
    found_by_nodes = {"env_vars": {"PYTHONPATH": os.pathsep.join(["benchmarks", "."])}}
    ray.init(include_dashboard=False, log_to_driver=False, runtime_env=found_by_nodes)
    ray.data.DataContext.get_current().enable_progress_bars = False
    print(describe("ray"))
    header = ["", "20 ms, two copies: rows/s", "first after, s", "no delay, one copy: rows/s"]
    show(
        [*header, "asked twice after a kill", "answers that came"], list(measured(options.requests))
    )


if __name__ == "__main__":
    main()
