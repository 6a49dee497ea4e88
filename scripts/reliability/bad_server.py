"""A server of OpenAI's protocol that answers right in the end, and misbehaves before it does.

    python scripts/reliability/bad_server.py --faults 0.3

The same prompt has the same answer; whether a call fails, and how, is drawn anew for each call.
`GET /counts` gives {"calls", "prompts", "answered_twice", "faults"}.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import socket
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
FAULTS = (
    *("429", "429 with Retry-After", "500", "503 in HTML", "502 in a body of 200", "no choices"),
    *("an error inside a choice", "cut in the middle", "connection closed", "not JSON", "slow"),
    *("finish_reason error", "unknown finish_reason", "no usage", "absurd usage", "null usage"),
)


class Mischief:
    """What each call gets; faults by chance, at most three in a row for one prompt."""

    def __init__(self, share: float, seed: int) -> None:
        self.share = share
        self.drawn = random.Random(seed)
        self.lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.in_a_row: Counter[str] = Counter()

    def fault(self, prompt: str) -> str:
        with self.lock:
            self.calls[prompt] += 1
            if self.drawn.random() >= self.share or self.in_a_row[prompt] >= 3:
                self.in_a_row[prompt] = 0
                return ""
            self.in_a_row[prompt] += 1
            fault = self.drawn.choice(FAULTS)
            self.faults[fault] += 1
            return fault

    def counts(self) -> dict[str, Any]:
        twice = sum(count - 1 for count in self.answered.values())
        return {
            "calls": self.calls.total(),
            "prompts": len(self.calls),
            "answered_twice": twice,
            "faults": dict(self.faults),
        }


def answer_to(prompt: str) -> str:
    """A worked answer that depends on the prompt alone."""
    number = int(hashlib.sha256(prompt.encode()).hexdigest()[:4], 16) % 90
    return f"Start with {number}. Add {number % 7}. So it is <ans>{number + number % 7}</ans>"


def reply(text: str, fault: str) -> tuple[int, dict[str, str], bytes]:
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
    }
    body: dict[str, Any] = {"id": "x", "choices": [choice], "usage": dict(USAGE)}
    if fault.startswith("429"):
        headers = {"Retry-After": "0.2"} if "Retry" in fault else {}
        return 429, headers, b'{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}'
    if fault == "500":
        return 500, {}, b'{"error": {"message": "it broke"}}'
    if fault == "503 in HTML":
        return 503, {}, b"<html><body>Service unavailable</body></html>"
    if fault == "502 in a body of 200":
        return 200, {}, b'{"error": {"message": "upstream failed", "code": 502}}'
    if fault == "no choices":
        body["choices"] = []
    if fault == "an error inside a choice":
        body["choices"] = [{"index": 0, "error": {"message": "upstream failed", "code": 502}}]
    if fault == "finish_reason error":
        choice["finish_reason"], choice["message"]["content"] = "error", ""
    if fault == "unknown finish_reason":
        choice["finish_reason"] = "eos_token"
    if fault == "no usage":
        del body["usage"]
    if fault == "absurd usage":
        body["usage"] = {"prompt_tokens": -1, "completion_tokens": 2**63, "total_tokens": 1.5}
    if fault == "null usage":
        body["usage"] = {"prompt_tokens": None, "completion_tokens": None}
    if fault == "not JSON":
        return 200, {}, json.dumps(body).encode()[:-20]
    return 200, {}, json.dumps(body).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mischief: Mischief
    latency: float

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        found = self.mischief.counts() if self.path == "/counts" else {"data": [{"id": "m"}]}
        self._send(200, {}, json.dumps(found).encode())

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = json.dumps([asked["messages"], asked.get("seed")])
        fault = self.mischief.fault(prompt)
        time.sleep(self.latency * (20 if fault == "slow" else 1))
        if fault == "connection closed":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        status, headers, body = reply(answer_to(prompt), fault)
        if fault == "cut in the middle":
            self._send(status, headers, body, len(body) // 2)
            self.close_connection = True
            return
        if fault in ("", "slow", "unknown finish_reason", "no usage", "absurd usage", "null usage"):
            with self.mischief.lock:
                self.mischief.answered[prompt] += 1
        self._send(status, headers, body)

    def _send(
        self, status: int, headers: dict[str, str], body: bytes, n: int | None = None
    ) -> None:
        try:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[:n])
        except OSError:  # the client was killed
            self.close_connection = True


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def serve(share: float, seed: int, latency: float = 0.02) -> tuple[Server, Mischief]:
    """A server on a free port of loopback, in a thread."""
    mischief = Mischief(share, seed)
    handler = type("Bound", (Handler,), {"mischief": mischief, "latency": latency})
    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, mischief


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=float, default=0.3, help="share of calls that fail")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    server, _ = serve(asked.faults, asked.seed)
    print(f"http://127.0.0.1:{server.server_address[1]}/v1", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
