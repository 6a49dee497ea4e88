"""What `run --log-format json` prints: one event per line, for machines.

{"event": "stage_started", "time": "2026-01-17T09:30:12.345+00:00", "stage": "seeds", "why": "…"}

The events and their keys are in docs/following-along.md.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from llm_distill.errors import LLMDistillError
from llm_distill.manifest import Pace
from llm_distill.runtime.artifact import Artifact
from llm_distill.runtime.plan import Decision
from llm_distill.runtime.progress import Work, told_of_waiting
from llm_distill.runtime.record import RunRecord, Totals
from llm_distill.runtime.scalars import metric_scalars
from llm_distill.secrets import without_secrets
from llm_distill.stage import Progress

SECONDS_BETWEEN_EVENTS = 1.0
STOPPED = 130
BUG = 1


class EventDisplay:
    """Implements `runtime.execute.Display` with lines of JSON."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self.record: RunRecord | None = None
        self.report: Path | None = None
        self._stage: str | None = None
        self._paces: Mapping[str, Pace] = {}

    def starts(self, record: RunRecord) -> None:
        self.record = record
        self.emit(
            "run_started",
            run=record.name,
            directory=str(record.directory),
            pipeline=record.pipeline,
            profile=record.profile,
            stages=list(record.stages),
        )

    def begins(self, decision: Decision) -> None:
        self._stage = decision.name
        self._paces = decision.last.paces if decision.last is not None else {}
        self.emit("stage_started", **self._place(decision.name), why=decision.why)

    def ends(self, name: str, artifact: Artifact, state: str, seconds: float) -> None:
        manifest = artifact.manifest
        gave = {
            **self._place(name),
            "artifact": str(artifact.path),
            "rows": manifest.rows_out,
            "dropped": manifest.dropped,
            "metrics": metric_scalars(manifest.metrics),
        }
        if state == "reused":
            self.emit("stage_reused", **gave)
        else:
            for warning in manifest.warnings:
                self.emit("warning", stage=name, message=warning)
            took = {
                "requests": manifest.completions.get("made", 0),
                "tokens": manifest.tokens_out,
                "cost": manifest.cost,
                "seconds": round(seconds, 3),
            }
            self.emit("stage_finished", **gave, **took, **self._so_far())
        self._stage = None

    def says(self, message: str) -> None:
        self.emit("notice", message=message)

    @contextmanager
    def progress(
        self, description: str, total: int | None, unit: str, done: int
    ) -> Iterator[Progress]:
        about = {"stage": self._stage, "what": description, "unit": unit, "total": total}
        told = time.monotonic()

        def tell(work: Work) -> None:
            nonlocal told
            told = time.monotonic()
            left = work.left()
            counts = {"done": work.now, "requests": work.requests, "tokens": work.tokens}
            self.emit(
                "progress",
                **about,
                **counts,
                cost=work.cost,
                seconds=round(work.seconds, 3),
                seconds_left=None if left is None else round(left, 1),
                **self._so_far(),
            )

        def advanced(work: Work) -> None:
            if time.monotonic() - told >= SECONDS_BETWEEN_EVENTS:
                tell(work)

        work = Work(description, total, unit, done, self._paces.get(description), advanced)
        try:
            with told_of_waiting(lambda why: self.emit("waiting", stage=self._stage, message=why)):
                yield work
        finally:
            if work.n or work.seconds >= SECONDS_BETWEEN_EVENTS:
                tell(work)

    def finished(self) -> None:
        assert self.record is not None
        seconds = round(time.time() - self.record.started, 3)
        self.emit("run_finished", run=self.record.name, seconds=seconds, **self._end(0))

    def failed(self, message: str, exit_code: int) -> None:
        run = self.record.name if self.record else None
        self.emit("run_failed", run=run, stage=self._stage, message=message, **self._end(exit_code))

    def _place(self, name: str) -> dict[str, Any]:
        number, of = self.record.place(name) if self.record else (1, 1)
        return {"stage": name, "number": number, "of": of}

    def _so_far(self) -> dict[str, Any]:
        """What the run has asked, had written and paid by now, the stage that goes on included."""
        totals = self.record.totals() if self.record else Totals()
        return {
            "run_requests": totals.requests,
            "run_tokens": totals.tokens,
            "run_cost": totals.cost,
        }

    def _end(self, exit_code: int) -> dict[str, Any]:
        totals = self.record.totals() if self.record else Totals()
        return {
            "stages_run": totals.run,
            "stages_reused": totals.reused,
            **self._so_far(),
            "report": str(self.report) if self.report else None,
            "exit_code": exit_code,
        }

    def emit(self, event: str, **values: Any) -> None:
        """Write one line. If the reader is gone the run ends, as it would with text."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        try:
            print(json.dumps({"event": event, "time": now, **values}), file=self._out, flush=True)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())
            raise SystemExit(BUG) from None


@contextmanager
def event_lines() -> Iterator[EventDisplay]:
    """Events, and nothing else, on stdout; the last is how the run ended.

    Raises:
        SystemExit: with 130, after Ctrl-C and the like.
        Exception: what came, after its event.
    """
    display = EventDisplay(sys.stdout)
    with redirect_stdout(sys.stderr):  # a library may print
        try:
            yield display
        except KeyboardInterrupt:
            display.failed("stopped; finished stages are kept", STOPPED)
            raise SystemExit(STOPPED) from None
        except LLMDistillError as error:
            display.failed(str(error), error.exit_code)
            raise
        except Exception as error:
            display.failed(without_secrets(f"{type(error).__name__}: {error}"), BUG)
            raise
        display.finished()
