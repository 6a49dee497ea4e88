"""Throw damaged input at everything that is read: only the project's own errors may come out.

    python scripts/reliability/fuzz.py --cases 300
    python scripts/reliability/fuzz.py --only pipelines --seed 7 --cases 5000

Each target runs in a process of its own with limits of memory and time, so that a crash of the
interpreter, endless work and a bomb count as what they are: failures. A failing input is kept in
`fuzz-failures/`, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from targets import TARGETS, mutated

from llm_distill.errors import LLMDistillError

MOST_SECONDS = 10
"""For one input; a mutated file of some kB that takes longer would hang a user's terminal."""
MOST_MEMORY = 6 * 2**30
"""Bytes of address space, of which Python, Arrow and torch take half before any input."""
SHOWN = 5
LONGEST_MESSAGE = 30_000
"""Characters: a pipeline file may have dozens of problems, and all are said at once."""


class TooSlowError(BaseException):
    """An input took more than its time. No `except Exception` may swallow it."""


def child(target: str, seed: int, n: int, start: int, folder: Path, kept: Path) -> None:
    """Run the cases from `start`; what is in `folder/case` and `folder/input` is being run."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))

    def too_slow(*_: object) -> None:
        raise TooSlowError

    signal.signal(signal.SIGALRM, too_slow)
    run, corpus = TARGETS[target](folder)
    for index in range(start, n):
        drawn = random.Random(f"{target} {seed} {index}")
        given = mutated(drawn.choice(corpus), corpus, drawn)
        (folder / "case").write_text(str(index))
        (folder / "input").write_bytes(given)
        verdict = _verdict(run, given)
        if verdict.startswith("failed"):
            _keep(folder, kept / f"{target}-{seed}-{index}")
        print(verdict, flush=True)


def _verdict(run: Callable[[bytes], object], given: bytes) -> str:
    """`accepted`, `refused`, or `failed` and why."""
    signal.alarm(MOST_SECONDS)
    try:
        run(given)
        return "accepted"
    except LLMDistillError as error:
        if len(str(error)) <= LONGEST_MESSAGE:
            return "refused"
        return f"failed a message of {len(str(error)):,} characters"
    except TooSlowError:
        return f"failed more than {MOST_SECONDS} s"
    except BaseException:
        last = traceback.format_exc().strip().splitlines()
        place = [line.strip() for line in last if line.strip().startswith("File ")][-1]
        return f"failed {last[-1][:200]} at {place}"
    finally:
        signal.alarm(0)


def fuzzed(target: str, seed: int, n: int, folder: Path, kept: Path) -> dict[str, int]:
    """Counts of what became of the inputs; failing ones are kept."""
    counts = {"accepted": 0, "refused": 0, "failed": 0}
    folder.mkdir(parents=True, exist_ok=True)
    start = 0
    while start < n:
        arguments = [target, str(seed), str(n), str(start), str(folder), str(kept)]
        done = subprocess.run(
            [sys.executable, __file__, "--child", *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        verdicts = [line.partition(" ") for line in done.stdout.splitlines()]
        found = [(verdict, why) for verdict, _, why in verdicts if verdict in counts]
        if done.returncode:
            if not (folder / "case").exists():
                raise RuntimeError(f"{target} cannot begin: {done.stderr}")
            crashed = (folder / "case").read_text()
            _keep(folder, kept / f"{target}-{seed}-{crashed}")
            found.append(("failed", f"the interpreter: {done.returncode}, {done.stderr[-300:]}"))
            start = int(crashed) + 1
        for verdict, why in found:
            counts[verdict] += 1
            if verdict == "failed" and counts["failed"] <= SHOWN:
                print(f"  {target}: {why}")
        if not done.returncode:
            break
    return counts


def _keep(folder: Path, place: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    shutil.copy(folder / "input", place)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=300, help="inputs for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=sorted(TARGETS), action="append")
    parser.add_argument("--child", nargs=6, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        target, seed, n, start, folder, place = asked.child
        child(target, int(seed), int(n), int(start), Path(folder), Path(place))
        return 0
    kept, failed = Path("fuzz-failures"), 0
    with tempfile.TemporaryDirectory() as scratch:
        for target in asked.only or sorted(TARGETS):
            began = monotonic()
            counts = fuzzed(target, asked.seed, asked.cases, Path(scratch) / target, kept)
            failed += counts["failed"]
            shown = ", ".join(f"{count:,} {name}" for name, count in counts.items())
            print(f"{target}: {shown}, {monotonic() - began:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
