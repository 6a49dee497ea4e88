"""Copies of an engine on a local Ray cluster: beside one copy, and beside the engine in process.

    python benchmarks/replicas.py [--requests 10000]

The engine is scripted. With a fixed 20 ms for each answer, two copies beside one: the bar is 1.9
times the rows a second. Without a delay, one copy beside the same engine in the stage's process, as
a whole `generate` stage with templates and rows: the bar is 0.7 of its rows a second. Starting the
cluster and the copies is left out of both, and said apart.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hardware import describe
from table import show

from llm_distill.engines.base import Engine, Request, SamplingSettings
from llm_distill.engines.budget import Budget
from llm_distill.engines.ray.settings import RaySettings
from llm_distill.engines.scripted.settings import ScriptedSettings
from llm_distill.models.sources import ModelSource
from llm_distill.runtime.context import ModelInput, StageContext, StageInputs
from llm_distill.runtime.writer import write_rows
from llm_distill.stages.generate import Generate
from llm_distill.tracking import TrackedRun

DELAY = 0.02
SOURCE = ModelSource("m", "m")


def reply(request: Request) -> str:
    return f"{request.prompt} yes"


def slow(request: Request) -> str:
    time.sleep(DELAY)
    return "yes"


class Bar:
    def advance(
        self, n: int = 1, tokens: int = 0, cost: float = 0.0, requests: int | None = None
    ) -> None: ...


def engine(function: str, copies: int | None) -> tuple[Engine, float]:
    """None: in this process. With how long it took to start."""
    inner = ScriptedSettings(kind="scripted", function=f"replicas:{function}")
    settings = RaySettings(kind="ray", engine=inner, replicas=copies) if copies else inner
    began = time.perf_counter()
    return settings.open(SOURCE, Budget(None)), time.perf_counter() - began


def bare(opened: Engine, n: int) -> float:
    """Requests a second."""
    wanted = (Request(str(i), f"What is {i}?", SamplingSettings(), i) for i in range(n))
    began = time.perf_counter()
    assert sum(1 for _ in opened.generate(wanted)) == n
    return n / (time.perf_counter() - began)


def stage(opened: Engine, n: int) -> float:
    """Rows a second of a whole `generate` stage."""
    place = Path(tempfile.mkdtemp())
    rows = ({"id": str(i), "question": f"What is {i} times {i}?"} for i in range(n))
    from llm_distill.rows.columns import features
    from llm_distill.stage import RowsOutput

    write_rows(RowsOutput(rows, features(["id", "question"])), place / "rows")
    template = place / "ask.jinja"
    template.write_text("{{ question }}")
    inputs = StageInputs(
        seed=0,
        work_dir=place / "work",
        store=place / "store.sqlite",
        tracked=TrackedRun("b", "b/now/s", place),
        rows={"rows": place / "rows"},
        models={"m": ModelInput(SOURCE, ScriptedSettings(kind="scripted"))},
    )
    context = StageContext(inputs, lambda model: opened, lambda *_: nullcontext(Bar()))
    context.close_engines = lambda: None  # type: ignore[method-assign]
    made = Generate(stage="generate", model="m", rows="rows", template=str(template))
    began = time.perf_counter()
    output: Any = made.run(context)
    assert write_rows(output, place / "out") == n
    return n / (time.perf_counter() - began)


def measured(n: int) -> Iterator[list[str]]:
    one, started = engine("slow", 1)
    few = max(200, n // 20)
    of_one = bare(one, few)
    one.close()
    two, _ = engine("slow", 2)
    of_two = bare(two, few)
    two.close()
    yield ["20 ms each", f"{of_one:.1f}", f"{of_two:.1f}", f"{of_two / of_one:.2f}", "1.9"]
    here, _ = engine("reply", None)
    there, _ = engine("reply", 1)
    rates: dict[str, list[float]] = {"here": [], "there": []}
    for name in ("here", "there", "there", "here"):
        rates[name].append(stage(here if name == "here" else there, n))
    there.close()
    of_here, of_there = (sum(each) / 2 for each in rates.values())
    yield ["no delay", f"{of_here:.0f}", f"{of_there:.0f}", f"{of_there / of_here:.2f}", "0.7"]
    yield ["seconds to start", "0", f"{started:.1f}", "", ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    options = parser.parse_args()
    print(describe("ray"))
    header = ["", "one, or in process", "two, or on Ray", "ratio", "bar"]
    show(header, list(measured(options.requests)))


if __name__ == "__main__":
    main()
