"""One answer a prompt from the loopback server: the job, and how each tool is told to do it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from peers.environments import interpreter

HERE = Path(__file__).parent
OURS, BARE, PEERS = "llm-distill", "bare client", ("data-designer", "distilabel")

PIPELINE = """
name: loopback
models:
  teacher:
    model_name_or_path: loopback
    engine: {{kind: openai, base_url: "{url}", model: loopback, max_concurrency: {concurrency}}}
stages:
  prompts: {{stage: load_dataset, path: prompts.jsonl}}
  answers:
    stage: generate
    rows: prompts
    model: teacher
    template: question.jinja
    sampling: {{temperature: 0, max_tokens: 256}}
"""
FILES = {"pipeline.yaml": PIPELINE, "question.jinja": "{{ question }}"}


@dataclass(frozen=True)
class Server:
    """A running loopback server. url: ends in /v1."""

    url: str

    def counts(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.url.removesuffix('/v1')}/counts") as answer:
            counts: dict[str, int] = json.load(answer)
        return counts


@contextmanager
def serving(latency: float, answer: str | None = None) -> Iterator[Server]:
    """A server of its own process. latency: milliseconds."""
    command = [sys.executable, str(HERE / "loopback_server.py"), "--latency", str(latency)]
    command += [] if answer is None else ["--answer", answer]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Server(process.stdout.readline().strip())
        finally:
            process.terminate()


class Job:
    """Prompts in a folder, to be answered by one tool; run again, the tool goes on.

    files: what llm-distill needs, by name; pipeline.yaml is a format, and the calls are those of
        its stage `answers`.
    """

    def __init__(
        self,
        tool: str,
        folder: Path,
        n_rows: int,
        url: str,
        concurrency: int,
        files: Mapping[str, str] = FILES,
    ) -> None:
        self.tool, self.n_rows, self._folder = tool, n_rows, folder
        self._log = folder / "log.txt"
        folder.mkdir(parents=True)
        prompts = folder / "prompts.jsonl"
        with prompts.open("w", encoding="utf-8") as out:
            for i in range(n_rows):
                row = {"id": f"q{i}", "question": f"What is {i} plus {i}?"}
                out.write(json.dumps(row) + "\n")
        if tool == OURS:
            pipeline = files["pipeline.yaml"].format(url=url, concurrency=concurrency)
            for name, text in {**files, "pipeline.yaml": pipeline}.items():
                (folder / name).write_text(text, encoding="utf-8")
            llm_distill = str(Path(sys.executable).with_name("llm-distill"))
            self._command = [llm_distill, "run", "pipeline.yaml", "--workspace", "data"]
        else:
            is_bare = tool == BARE
            python = sys.executable if is_bare else str(interpreter(tool))
            name = "bare_client" if is_bare else f"run_{tool.replace('-', '_')}"
            script = str(HERE / "peers" / f"{name}.py")
            self._command = [python, script, "prompts.jsonl", url, "out", str(concurrency)]

    def start(self) -> subprocess.Popen[bytes]:
        """The tool's process, the first of a group of its own."""
        with self._log.open("wb") as log:
            return subprocess.Popen(
                self._command,
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def result(self, process: subprocess.Popen[bytes]) -> tuple[int, float]:
        """Rows that were answered, and seconds by the tool's own account, when it has ended.

        Of llm-distill these are the seconds of the stage `answers`, from its manifest.

        Raises:
            RuntimeError: it failed; with the end of what it said.
        """
        code = process.wait()
        said = self._log.read_text(encoding="utf-8", errors="replace")
        if code != 0:
            raise RuntimeError(f"{self.tool} ended with {code}:\n{said[-2000:]}")
        if self.tool != OURS:
            # Peers may have more to say after their last line.
            line = next(ln for ln in reversed(said.splitlines()) if ln.startswith('{"rows"'))
            done = json.loads(line)
            return done["rows"], done["seconds"]
        (path,) = self._folder.glob("data/artifacts/answers-*/manifest.json")
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return manifest["rows_out"] - manifest["metrics"]["errors"], manifest["seconds"]

    def run(self) -> tuple[int, float, float]:
        """Rows, seconds by the tool's own account, and seconds of the whole process."""
        began = time.perf_counter()
        rows, seconds = self.result(self.start())
        return rows, seconds, time.perf_counter() - began
