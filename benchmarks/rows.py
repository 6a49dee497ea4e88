"""Memory and time of many rows through load_dataset → generate (scripted) → parse → verify.

    python benchmarks/rows.py
    python benchmarks/rows.py --rows 10000 100000

The same pipeline with fewer and with more rows. Bars: the peak with more is at most 1.3 times that
with fewer, and seconds a row differ by at most 15 %. Memory is the proportional set size (PSS) of
the process and its children, looked at five times a second; `own` is the part that no file stands
behind, as pages of files are the system's cache: it takes them back when memory is short.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from hardware import describe
from table import show

STAGES = ("rows", "answers", "read", "checked")
PIPELINE = """
name: rows
models:
  teacher:
    model_name_or_path: scripted/teacher
    engine: {kind: scripted, answers: answers.jsonl}
stages:
  rows: {stage: load_dataset, path: rows.jsonl}
  answers:
    stage: generate
    rows: rows
    model: teacher
    template: question.jinja
    sampling: {temperature: 0, max_tokens: 256}
  read: {stage: parse, rows: answers, tags: {answer: ans}, keep_text_as: rationale}
  checked: {stage: verify, rows: read}
"""
ANSWER = {"contains": "", "completion": "Each has the same, so we add them. <ans>42</ans>"}
PAUSE = 0.2


@dataclass
class Run:
    """Peaks in MiB, seconds of each stage and of the whole process."""

    pss: float
    own: float
    stages: dict[str, float]
    seconds: float


def measure(n_rows: int) -> Run:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pipeline.yaml").write_text(PIPELINE, encoding="utf-8")
        (folder / "answers.jsonl").write_text(json.dumps(ANSWER), encoding="utf-8")
        (folder / "question.jinja").write_text("Question: {{ question }}", encoding="utf-8")
        with (folder / "rows.jsonl").open("w", encoding="utf-8") as out:
            for i in range(n_rows):
                question = f"Anna has {i} marbles and Ben has {i} more. How many are there in all?"
                row = {"id": f"q{i}", "question": question, "reference_answer": str(i)}
                out.write(json.dumps(row) + "\n")
        tool = str(Path(sys.executable).with_name("llm-distill"))
        command = [tool, "run", "pipeline.yaml", "--workspace", "data"]
        start = time.perf_counter()
        with (folder / "log.txt").open("wb") as log:
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        pss = own = 0.0
        while process.poll() is None:
            now = [memory(pid) for pid in family(process.pid)]
            pss = max(pss, sum(found for found, _ in now))
            own = max(own, sum(found for _, found in now))
            time.sleep(PAUSE)
        seconds = time.perf_counter() - start
        if process.returncode != 0:
            raise RuntimeError((folder / "log.txt").read_text(encoding="utf-8")[-2000:])
        stages = {}
        for stage in STAGES:
            (path,) = folder.glob(f"data/artifacts/{stage}-*/manifest.json")
            manifest = json.loads(path.read_text(encoding="utf-8"))
            if manifest["rows_out"] != n_rows:
                raise RuntimeError(f"{stage}: {manifest['rows_out']} rows of {n_rows}")
            stages[stage] = manifest["seconds"]
    return Run(pss, own, stages, seconds)


def family(pid: int) -> list[int]:
    """The process and what it started."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found.extend(map(int, task.read_text().split()))
            except OSError:  # it has ended
                continue
    return found


def memory(pid: int) -> tuple[float, float]:
    """PSS, and the part of it without a file, in MiB; nothing for a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0.0, 0.0
    sizes = {line.split()[0].rstrip(":"): int(line.split()[1]) / 1024 for line in lines}
    return sizes.get("Pss", 0.0), sizes.get("Pss_Anon", 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs=2, default=[100_000, 1_000_000])
    fewer, more = parser.parse_args().rows
    print(describe("datasets", "pyarrow", "llm-distill"))
    small, large = measure(fewer), measure(more)
    lines = [
        (
            "peak PSS, MiB (bar 1.3)",
            f"{small.pss:,.0f}",
            f"{large.pss:,.0f}",
            f"{large.pss / small.pss:.2f}",
        ),
        (
            "of it own, MiB",
            f"{small.own:,.0f}",
            f"{large.own:,.0f}",
            f"{large.own / small.own:.2f}",
        ),
    ]
    times = {f"{stage}, us/row": (small.stages[stage], large.stages[stage]) for stage in STAGES}
    times["all stages, us/row (bar 0.85 to 1.15)"] = (
        sum(small.stages.values()),
        sum(large.stages.values()),
    )
    times["whole process, us/row"] = (small.seconds, large.seconds)
    for name, (first, second) in times.items():
        a, b = 1e6 * first / fewer, 1e6 * second / more
        lines.append((name, f"{a:,.0f}", f"{b:,.0f}", f"{b / a:.2f}"))
    show(("", f"{fewer:,} rows", f"{more:,} rows", "ratio"), lines)


if __name__ == "__main__":
    main()
