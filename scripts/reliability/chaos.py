"""Kill, damage, fill and double a run, and see that nothing is lost and nothing is changed.

    python scripts/reliability/chaos.py --kills 20 --damages 20

A small pipeline with a server, a training and an exam runs once undisturbed. Then, each in a
workspace of its own: it is killed (SIGKILL, its whole process group) at random moments until it
ends; two runs share a workspace; files of every kind get a flipped bit, are cut or deleted, and it
runs again. All the while the server misbehaves (see bad_server.py). In the end every artifact is
equal to the undisturbed run's, byte for byte, or a message says what is damaged. The exit code is 1
where that did not hold.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from bad_server import Mischief, serve

ROOT = Path(__file__).resolve().parents[2]
CONCURRENCY = 4
PIPELINE = """
name: chaos
seed: 7
variables: {{task_description: "Solve the word problem."}}
models:
  teacher:
    model_name_or_path: m
    engine: {{kind: openai, base_url: "{url}", max_concurrency: {concurrency}, max_attempts: 8}}
  student: {{model_name_or_path: data/models/tiny-student, prompt_format: text}}
stages:
  train: {{stage: load_dataset, path: data/word_problems, split: "train[:48]"}}
  test: {{stage: load_dataset, path: data/word_problems, split: "test[:16]"}}
  written:
    stage: generate
    rows: train
    model: teacher
    template: arte/rationale_procedure.jinja
    sampling: {{temperature: 0.7, max_tokens: 64}}
    parse: {{tags: {{answer: ans}}, keep_text_as: rationale}}
  kept: {{stage: select, rows: written, n: 40, order: random}}
  trained:
    stage: train_sft
    model: student
    rows: kept
    prompt_template: arte/exam.jinja
    completion_column: rationale
    num_train_epochs: 2
    per_device_train_batch_size: 4
    save_steps: 3
    max_length: 256
  exam:
    stage: evaluate
    rows: test
    models: [student, trained]
    template: arte/exam.jinja
    sampling: {{temperature: 0, max_tokens: 40}}
"""
ALLOWED = {0, 5}
"""Exit codes after damage: done, or the workspace is damaged and a message says where."""


class Run:
    """The command in a workspace."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "chaos.yaml"
        self.file.write_text(PIPELINE.format(url=url, concurrency=CONCURRENCY))
        self.workspace = folder / "workspace"

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "llm_distill", "run", str(self.file)]
        return subprocess.Popen(
            [*command, "--workspace", str(self.workspace)],
            cwd=ROOT,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def finish(self) -> tuple[int, str]:
        process = self.start()
        said, _ = process.communicate()
        return process.returncode, said

    def killed_after(self, seconds: float) -> bool:
        """Whether the kill came before the end."""
        process = self.start()
        try:
            process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return True
        return False

    def contents(self) -> dict[str, str]:
        """Digest of every file of the newest run's artifacts.

        But for manifests, which have times, and the random name that datasets gives its files.
        """
        (newest, *_) = sorted(self.workspace.glob("runs/chaos/*/run.json"), reverse=True)
        found = {}
        for name, stage in json.loads(newest.read_text())["stages"].items():
            artifact = self.workspace / "artifacts" / stage["artifact"]
            for path in sorted(artifact.rglob("*")):
                if path.is_file() and path.name not in ("manifest.json", "state.json"):
                    place = f"{name}/{path.relative_to(artifact)}"
                    found[place] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found


class Report:
    """What held and what did not, counted."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def note(self, kind: str, problem: str) -> None:
        self.counts[kind, "failed" if problem else "held"] += 1
        if problem:
            print(f"  {kind}: {problem}", flush=True)

    def show(self) -> int:
        for kind in dict.fromkeys(kind for kind, _ in self.counts):
            print(f"{kind}: {self.counts[kind, 'held']} held, {self.counts[kind, 'failed']} failed")
        return int(any(verdict == "failed" for _, verdict in self.counts))


def differs(run: Run, wanted: dict[str, str]) -> str:
    found = run.contents()
    if found == wanted:
        return ""
    other = [place for place in wanted | found if wanted.get(place) != found.get(place)]
    return f"{len(other)} files differ, such as {other[0]}"


def complaint(code: int, said: str) -> str:
    """What is wrong with how a run ended; nothing if it is done, or says what is damaged."""
    if "Traceback (most recent call last)" in said:
        return f"a traceback, exit code {code}: {said.strip().splitlines()[-1][:300]}"
    return "" if code in ALLOWED else f"exit code {code}: {said.strip()[-300:]}"


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
        report.note(f"runs of {n} kills", problem)
        done += max(here, 1)
        shutil.rmtree(run.folder)


def doubled(folder: Path, url: str, wanted: dict[str, str], report: Report) -> None:
    """Two runs of one pipeline in one workspace at once."""
    run = Run(folder / "doubled", url)
    both = [run.start(), run.start()]
    ends = [(process.communicate()[0], process.returncode) for process in both]
    problem = next((c for said, code in ends if (c := complaint(code, said))), "")
    report.note("two runs at once", problem or differs(run, wanted))


def damages(
    folder: Path, made: Run, n: int, wanted: dict[str, str], drawn: random.Random, report: Report
) -> None:
    """A finished workspace in which one file is damaged; then it runs again."""
    url = made.file.read_text().partition('base_url: "')[2].partition('"')[0]
    files = [p for p in sorted(made.workspace.rglob("*")) if p.is_file() and p.stat().st_size]
    kinds: dict[str, list[Path]] = {}
    for file in files:
        kinds.setdefault(f"{file.suffix or file.name}", []).append(file)
    for number in range(n):
        kind = sorted(kinds)[number % len(kinds)]
        file = drawn.choice(kinds[kind])
        run = Run(folder / f"damage-{number}", url)
        shutil.copytree(made.workspace, run.workspace)
        target = run.workspace / file.relative_to(made.workspace)
        how = drawn.choice(("a flipped bit", "cut", "deleted"))
        data = bytearray(target.read_bytes())
        if how == "deleted":
            target.unlink()
        elif how == "cut":
            target.write_bytes(data[: drawn.randrange(len(data))])
        else:
            data[drawn.randrange(len(data))] ^= 1 << drawn.randrange(8)
            target.write_bytes(data)
        code, said = run.finish()
        problem = complaint(code, said) or ("" if code else differs(run, wanted))
        if problem:
            problem = f"{target.relative_to(run.workspace)}: {problem}"
        report.note(f"{how}", problem)
        shutil.rmtree(run.folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--damages", type=int, default=20)
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
        damages(folder, made, asked.damages, wanted, drawn, report)
        faults = ", ".join(f"{n} × {name}" for name, n in sorted(mischief.faults.items()))
        print(f"the server's faults: {faults}")
    return report.show()


if __name__ == "__main__":
    sys.exit(main())
