"""Wall time of the commands that people wait for, beside a Python that does nothing.

    python benchmarks/commands.py

Bars: --help 0.25 s, validate 0.6 s, a rerun with nothing changed 2 s, each the median of 5.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hardware import describe

FILE = "pipelines/arte.yaml"


def seconds(command: list[str], repeats: int = 5) -> float:
    """Median wall time; one run before, not counted, fills the file cache."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    tool = str(Path(sys.executable).with_name("llm-distill"))
    with tempfile.TemporaryDirectory() as workspace:
        run = [tool, "run", FILE, "--workspace", workspace]
        start = time.perf_counter()
        subprocess.run(run, check=True, capture_output=True)
        first = time.perf_counter() - start
        nothing = seconds([sys.executable, "-c", "pass"])
        bars = {
            "--help": ([tool, "--help"], 0.25),
            "validate": ([tool, "validate", FILE], 0.6),
            "plan, all done": ([tool, "plan", FILE, "--workspace", workspace], None),
            "run, all done": (run, 2.0),
        }
        print(describe("torch", "transformers", "trl"))
        print(f"{'run, from nothing':18} {first:7.2f} s")
        print(f"{'python -c pass':18} {nothing:7.3f} s")
        for name, (command, bar) in bars.items():
            found = seconds(command)
            said = f"   bar {bar} s" if bar else ""
            print(f"{name:18} {found:7.3f} s   {found / nothing:5.1f} x{said}")


if __name__ == "__main__":
    main()
