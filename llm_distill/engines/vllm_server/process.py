"""A server in a process of its own: started, waited for, watched and stopped."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from llm_distill.errors import ModelError

HOST = "127.0.0.1"
LAST_LINES = 12
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_STOP = 20.0
NO_STATISTICS = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}

log = logging.getLogger("llm_distill.server")


class ServerProcess:
    """A server that answers `/health` once it is ready.

    Raises:
        ModelError: it cannot be started, ends, or does not answer in time.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        port: int,
        *,
        host: str = HOST,
        key: str | None = None,
        called: str = "its server",
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        own_group: bool = False,
        on_line: Callable[[str], None] = lambda line: log.info("server: %s", line),
    ) -> None:
        """Start it.

        Args:
            name: the model's, for messages.
            command: the program and its arguments.
            port: where it listens.
            host: of which it listens there.
            key: what `/health` is asked with.
            called: what a message calls the program.
            environment: variables on top of this process's.
            folder: where it runs; here unless given.
            own_group: it and all that it starts are stopped together; a Ctrl-C does not reach it.
                Otherwise it is in the group of this process.
            on_line: is given each line that it prints.
        """
        self.port = port
        self._name, self._host, self._key, self._own_group = name, host, key, own_group
        self._said: deque[str] = deque(maxlen=LAST_LINES)
        self._on_line = on_line
        log.info("starting %s", " ".join(command))
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={**os.environ, **NO_STATISTICS, **(environment or {})},
                cwd=folder,
                start_new_session=own_group,
            )
        except OSError as error:
            raise ModelError(
                f"model '{name}': {called} cannot be started: {error.strerror}"
            ) from error
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip():
                self._said.append(line.strip())
                self._on_line(line.rstrip())

    def wait(self, seconds: float, advice: str) -> None:
        """Until it answers. advice: what to do where it does not."""
        until = time.monotonic() + seconds
        while not self._answers():
            self.check("before it answered")
            if time.monotonic() > until:
                raise ModelError(
                    f"model '{self._name}': its server does not answer after {seconds:.0f} s; "
                    f"{advice}; {self._last()}"
                )
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def watch(self) -> None:
        """Until it ends, which is an error: it was not told to."""
        while True:
            self.check("by itself")
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def _answers(self) -> bool:
        request = urllib.request.Request(f"http://{self._host}:{self.port}/health")
        if self._key is not None:
            request.add_header("Authorization", f"Bearer {self._key}")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with suppress(urllib.error.URLError, OSError), opener.open(request, timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    def check(self, when: str, then: str = "") -> None:
        """Raises:
        ModelError: it has ended. then: what that means.
        """
        code = self._process.poll()
        if code is None:
            return
        self._reader.join(2.0)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        after = f"{then}; " if then else ""
        raise ModelError(
            f"model '{self._name}': its server ended ({how}) {when}; {after}{self._last()}"
        )

    def _last(self) -> str:
        if not self._said:
            return "it printed nothing"
        telling = [line for line in self._said if "rror" in line] or list(self._said)
        return f"it said: {telling[-1][:300]}"

    def stop(self) -> None:
        """End it; kill it if it takes too long."""
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
        if self._own_group:  # what it has left behind
            self._signal(signal.SIGKILL)
        self._reader.join(2.0)

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            if self._own_group:
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)


def free_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        return int(found.getsockname()[1])
