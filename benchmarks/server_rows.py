"""Rows a second from a server, beside a bare client, other tools and what the latency allows.

    python benchmarks/server_rows.py
    python benchmarks/server_rows.py --rows 2000 --latency 0 --repeats 1 --peers distilabel

Without latency, at the first concurrency: llm-distill, a bare aiohttp client and the peers, in
turn, the median of `--repeats`. Bars: 1,500 rows/s, 5 x data-designer, 8 x distilabel. With
latency: llm-distill and the bare client beside concurrency / latency, each once, at each
concurrency. Bar: 95 % of that limit.

`rows/s` counts the seconds that a tool spends on the rows by its own account (llm-distill: the
stage in its manifest; peers: their run call), `process` those from start to end of the process
with imports. `CPU` is the process's and its children's, which other work disturbs least.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hardware import describe
from loopback import BARE, OURS, PEERS, Job, serving
from peers.environments import version
from table import show

PACKAGES = ("aiohttp", "datasets", "llm-distill")


@dataclass(frozen=True)
class Rate:
    """Rows a second by the tool's own account and of the whole process; CPU ms a row."""

    own: float
    process: float
    cpu: float


def measure(tool: str, n_rows: int, latency: float, concurrency: int) -> Rate:
    """One run from nothing against a server of its own. latency: milliseconds."""
    with tempfile.TemporaryDirectory() as folder, serving(latency) as server:
        job = Job(tool, Path(folder) / "job", n_rows, server.url, concurrency)
        before = _cpu_of_children()
        rows, seconds, process = job.run()
        cpu = _cpu_of_children() - before
        counts = server.counts()
    if rows != n_rows or counts["prompts"] < n_rows:
        raise RuntimeError(f"{tool}: {rows} of {n_rows} rows, {counts}")
    if latency and counts["most_at_once"] > concurrency:
        raise RuntimeError(f"{tool}: {counts['most_at_once']} calls at once, not {concurrency}")
    return Rate(rows / seconds, rows / process, 1000 * cpu / rows)


def _cpu_of_children() -> float:
    """Seconds of the children that were waited for; a server still runs and is not among them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def at_once(tools: Sequence[str], n_rows: int, concurrency: int, repeats: int) -> None:
    runs: dict[str, list[Rate]] = {tool: [] for tool in tools}
    for _ in range(repeats):
        for tool in tools:
            runs[tool].append(measure(tool, n_rows, 0, concurrency))
    rates = {
        tool: Rate(
            statistics.median(r.own for r in found),
            statistics.median(r.process for r in found),
            statistics.median(r.cpu for r in found),
        )
        for tool, found in runs.items()
    }
    ours = rates[OURS]
    print(f"\n{n_rows:,} rows, no latency, concurrency {concurrency}, median of {repeats}")
    show(
        ("", "rows/s", "ours is", "process rows/s", "ours is", "CPU ms/row", "of ours"),
        [
            (
                tool,
                f"{rate.own:,.0f}",
                f"{ours.own / rate.own:.2f} x",
                f"{rate.process:,.0f}",
                f"{ours.process / rate.process:.2f} x",
                f"{rate.cpu:.2f}",
                f"{rate.cpu / ours.cpu:.2f} x",
            )
            for tool, rate in rates.items()
        ],
    )


def delayed(n_rows: int, latency: float, concurrencies: Sequence[int]) -> None:
    lines = []
    for concurrency in concurrencies:
        limit = concurrency / latency * 1000
        for tool in (OURS, BARE):
            rate = measure(tool, n_rows, latency, concurrency)
            lines.append(
                (
                    tool,
                    str(concurrency),
                    f"{rate.own:,.0f}",
                    f"{limit:,.0f}",
                    f"{100 * rate.own / limit:.1f} %",
                    f"{rate.cpu:.2f}",
                )
            )
    print(f"\n{n_rows:,} rows, {latency:g} ms latency")
    show(("", "concurrency", "rows/s", "limit", "of the limit", "CPU ms/row"), lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--latency", type=float, nargs="+", default=[0, 50, 500], help="ms")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[50, 500])
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument("--repeats", type=int, default=3, help="runs without latency")
    options = parser.parse_args()
    print(describe(*PACKAGES))
    print(", ".join(f"{peer} {version(peer)}" for peer in options.peers))
    for latency in options.latency:
        if latency:
            delayed(options.rows, latency, options.concurrency)
        else:
            tools = (OURS, BARE, *options.peers)
            at_once(tools, options.rows, options.concurrency[0], options.repeats)


if __name__ == "__main__":
    main()
