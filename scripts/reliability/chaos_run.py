"""A small pipeline that is run as a command, and what a run of it has to hold."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

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
KEPT = Path("chaos-failures")
ALLOWED = {0, 5}
"""Exit codes after damage: done, or the workspace is damaged and a message says where."""


class Run:
    """The command in a workspace."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "chaos.yaml"
        self.file.write_text(PIPELINE.format(url=url, concurrency=CONCURRENCY))
        self.workspace = folder / "workspace"

    def copied(self, folder: Path) -> Run:
        """The same pipeline and a copy of the workspace in another folder."""
        shutil.copytree(self.folder, folder)
        return Run(folder, self.url)

    def start(self, largest_file: int | None = None) -> subprocess.Popen[str]:
        """largest_file: bytes; nothing can be written beyond them, as on a disk that is full."""

        def limit() -> None:
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        command = [sys.executable, "-m", "llm_distill", "run", str(self.file)]
        return subprocess.Popen(
            [*command, "--workspace", str(self.workspace)],
            cwd=ROOT,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=limit,
        )

    def finish(self, largest_file: int | None = None) -> tuple[int, str]:
        process = self.start(largest_file)
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

    def killed_in_training(self) -> bool:
        """Killed as soon as there are two checkpoints; whether it came to that."""
        process = self.start()
        while process.poll() is None:
            if len(list(self.workspace.glob("artifacts/.work/*/checkpoints/*/digests.json"))) > 1:
                os.killpg(process.pid, signal.SIGKILL)
                break
            time.sleep(0.02)
        process.communicate()
        return process.returncode < 0

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

    def note(self, kind: str, problem: str, run: Run | None = None) -> None:
        """Count a case, and keep what a run that failed has left, but for models."""
        self.counts[kind, "failed" if problem else "held"] += 1
        if problem:
            print(f"  {kind}: {problem}", flush=True)
        if problem and run is not None:
            left_out = shutil.ignore_patterns("*.safetensors", "*.pt", "*.pth")
            place = KEPT / run.folder.name
            shutil.copytree(run.folder, place, ignore=left_out, dirs_exist_ok=True)
            (place / "problem.txt").write_text(f"{kind}: {problem}\n")

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
