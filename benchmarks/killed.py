"""Calls that are made twice when a run is killed and started again.

    python benchmarks/killed.py

SIGKILL to the whole process group when the server has had 10, 50 and 90 % of the calls, then the
same command again, to its end. The server counts. Bar: at most as many calls twice as were open at
the kill, so the concurrency. Peers go on by what they have for it: distilabel's cache and
data-designer's `resume`, as they come. A second run that asks nothing for `--patience` seconds and
does not end counts as hung.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from hardware import describe
from loopback import FILES, OURS, PEERS, Job, Server, serving
from peers.environments import version
from table import show

LATENCY = 20.0
"""Milliseconds: calls are open when the kill comes, as they would be with a real model."""


def killed_at(
    share: float,
    tool: str,
    n_rows: int,
    concurrency: int,
    patience: float,
    files: Mapping[str, str] = FILES,
    answer: str | None = None,
) -> list[str]:
    """One line of the table: calls before the kill, calls in all, calls twice, rows in the end."""
    with tempfile.TemporaryDirectory() as folder, serving(LATENCY, answer) as server:
        job = Job(tool, Path(folder) / "job", n_rows, server.url, concurrency, files)
        with _group(job) as process:
            while server.counts()["calls"] < share * n_rows:
                if process.poll() is not None:
                    job.result(process)  # says why, if it failed
                    raise RuntimeError(f"{tool} ended before {share:.0%} of {n_rows} calls")
                time.sleep(0.01)
        while server.counts()["now"]:
            time.sleep(0.01)
        before = server.counts()["calls"]
        with _group(job) as process:
            if _ends(process, server, patience):
                rows, _ = job.result(process)
                outcome = f"{rows:,}" if rows == n_rows else f"{rows:,}: {n_rows - rows:,} missing"
            else:
                outcome = f"hangs: no call for {patience:.0f} s"
        counts = server.counts()
    twice = counts["repeated"]
    verdict = "yes" if twice <= concurrency and outcome == f"{n_rows:,}" else "no"
    return [f"{share:.0%}", f"{before:,}", f"{counts['calls']:,}", f"{twice:,}", verdict, outcome]


def _ends(process: subprocess.Popen[bytes], server: Server, patience: float) -> bool:
    """Wait for the end; False where nothing has been asked of the server for `patience` seconds."""
    calls, since = -1, time.monotonic()
    while process.poll() is None:
        now = server.counts()["calls"]
        if now != calls:
            calls, since = now, time.monotonic()
        elif time.monotonic() - since > patience:
            return False
        time.sleep(0.1)
    return True


@contextmanager
def _group(job: Job) -> Iterator[subprocess.Popen[bytes]]:
    """The job's process; what is left of its group at the end is killed."""
    process = job.start()
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--at", type=float, nargs="+", default=[0.1, 0.5, 0.9], help="of the calls")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument("--patience", type=float, default=60, help="seconds without a call")
    options = parser.parse_args()
    print(describe("aiohttp", "datasets", "llm-distill"))
    print(", ".join(f"{peer} {version(peer)}" for peer in options.peers))
    n_rows, concurrency = options.rows, options.concurrency
    lines = []
    for tool in (OURS, *options.peers):
        for share in options.at:
            line = killed_at(share, tool, n_rows, concurrency, options.patience)
            lines.append([tool, *line])
    print(f"\n{n_rows:,} rows, concurrency {concurrency}, {LATENCY:g} ms latency")
    header = ("", "killed at", "calls before", "calls in all", "twice", f"<= {concurrency}", "rows")
    show(header, lines)


if __name__ == "__main__":
    main()
