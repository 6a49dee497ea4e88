"""Kill, damage, fill and double a run, and see that nothing is lost and nothing is changed.

    python scripts/reliability/chaos.py --kills 12 --damages 1 --full 6

A small pipeline with a server, a training and an exam runs once undisturbed. Then, each in a
workspace of its own: it is killed (SIGKILL, its whole process group) at random moments until it
ends; two runs share a workspace; files cannot grow, as on a full disk, and then can again; of every
kind of file one gets a flipped bit, and one is cut or deleted, and it runs again. All the while the
server misbehaves (see bad_server.py). In the end every artifact is equal to the undisturbed run's,
byte for byte, or a message says what to do. The exit code is 1 where that did not hold.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from bad_server import Mischief, serve
from chaos_run import CONCURRENCY, Report, Run, complaint, differs
from damage import damages, full_disks


def kills(
    folder: Path,
    url: str,
    mischief: Mischief,
    n: int,
    whole: float,
    wanted: dict[str, str],
    drawn: random.Random,
    report: Report,
) -> None:
    """Runs that are killed again and again until one ends, with `n` kills in all."""
    done = 0
    while done < n:
        run = Run(folder / f"kills-{done}", url)
        here = 0
        mischief.answered.clear()
        while here < 5 and done + here < n and run.killed_after(drawn.uniform(0.5, 1.2 * whole)):
            here += 1
        code, said = run.finish()
        problem = complaint(code, said) if code else differs(run, wanted)
        twice = mischief.counts()["answered_twice"]
        if not problem and twice > max(here, 1) * CONCURRENCY:
            problem = f"{twice} answers were asked for twice in {here} kills"
        report.note(f"runs of {n} kills", problem, run)
        done += max(here, 1)
        shutil.rmtree(run.folder)


def doubled(folder: Path, url: str, wanted: dict[str, str], report: Report) -> None:
    """Two runs of one pipeline in one workspace at once."""
    run = Run(folder / "doubled", url)
    both = [run.start(), run.start()]
    ends = [(process.communicate()[0], process.returncode) for process in both]
    problem = next((c for said, code in ends if (c := complaint(code, said))), "")
    report.note("two runs at once", problem or differs(run, wanted), run)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--damages", type=int, default=1, help="of each kind of file, in each way")
    parser.add_argument("--full", type=int, default=6, help="disks that are full")
    parser.add_argument("--faults", type=float, default=0.2, help="share of the server's calls")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    drawn, report = random.Random(asked.seed), Report()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        server, mischief = serve(0.0, asked.seed)
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        made = Run(folder / "undisturbed", url)
        began = time.monotonic()
        code, said = made.finish()
        if code:
            print(said)
            return 1
        whole, wanted = time.monotonic() - began, made.contents()
        print(f"undisturbed: {len(wanted)} files, {whole:.0f} s", flush=True)
        mischief.share = asked.faults
        kills(folder, url, mischief, asked.kills, whole, wanted, drawn, report)
        doubled(folder, url, wanted, report)
        full_disks(folder, url, asked.full, wanted, mischief, drawn, report)
        cut_short = Run(folder / "in-training", url)
        if asked.damages and not cut_short.killed_in_training():
            report.note("a kill within a training", "it ended before")
        both = [made, cut_short]
        for hows in (("a flipped bit",), ("cut", "deleted")):
            damages(folder, both, asked.damages, hows, wanted, mischief, drawn, report)
        faults = ", ".join(f"{n} × {name}" for name, n in sorted(mischief.faults.items()))
        print(f"the server's faults: {faults}")
    return report.show()


if __name__ == "__main__":
    sys.exit(main())
