"""An OpenAI-compatible server that answers at once, or after a set time, always the same.

    python benchmarks/loopback_server.py --latency 50

Prints its base URL when it listens on a free port of 127.0.0.1. Besides /v1/chat/completions,
/v1/completions and /v1/models it has GET /counts, in calls since the start:

    {"calls": 12, "prompts": 10, "repeated": 2, "now": 1, "most_at_once": 5}

It is as bare as can be: on few cores, what a server costs is missing from its clients.

prompts: distinct ones. repeated: calls for a prompt that had been asked before.
now, most_at_once: calls that wait for their answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from typing import Any

import httptools

ANSWER = "The answer is <ans>42</ans>."
USAGE = {"prompt_tokens": 12, "completion_tokens": 8, "total_tokens": 20}
MODEL = "loopback"
WAITING_CONNECTIONS = 4096
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def _body(kind: str, choice: dict[str, Any]) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None, **choice}
    head = {"id": "loopback-0", "object": kind, "created": 0, "model": MODEL}
    return json.dumps({**head, "choices": [choice], "usage": USAGE}).encode()


MODELS = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode()


class Loopback:
    """What has been asked, over all connections. latency: in seconds, from a request's arrival."""

    def __init__(self, latency: float, answer: str) -> None:
        self.latency = latency
        message = {"role": "assistant", "content": answer}
        self.chat = _body("chat.completion", {"message": message})
        self.text = _body("text_completion", {"text": answer})
        self.now = self.most = 0
        self._calls: Counter[str] = Counter()

    def asked(self, prompt: Any) -> None:
        self._calls[prompt if isinstance(prompt, str) else json.dumps(prompt)] += 1
        self.now += 1
        self.most = max(self.most, self.now)

    def counts(self) -> bytes:
        calls, prompts = self._calls.total(), len(self._calls)
        state = {"calls": calls, "prompts": prompts, "repeated": calls - prompts}
        return json.dumps({**state, "now": self.now, "most_at_once": self.most}).encode()


class Connection(asyncio.Protocol):
    """One client's: requests come one after the other. httptools parses, nothing else is done."""

    def __init__(self, loopback: Loopback) -> None:
        self._loopback = loopback
        self._parser = httptools.HttpRequestParser(self)
        self._url, self._body = b"", b""
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._loopback.now -= 1

    def on_url(self, url: bytes) -> None:
        self._url, self._body = url, b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._url == b"/counts":
            self._write(self._loopback.counts())
        elif self._url == b"/v1/models":
            self._write(MODELS)
        else:
            asked = json.loads(self._body)
            is_chat = self._url == b"/v1/chat/completions"
            self._loopback.asked(asked["messages"][-1]["content"] if is_chat else asked["prompt"])
            answer = self._loopback.chat if is_chat else self._loopback.text
            loop = asyncio.get_running_loop()
            if self._loopback.latency:
                self._waiting = loop.call_later(self._loopback.latency, self._answer, answer)
            else:
                self._answer(answer)

    def _answer(self, body: bytes) -> None:
        self._waiting = None
        self._loopback.now -= 1
        self._write(body)

    def _write(self, body: bytes) -> None:
        self._transport.write(HEAD % len(body) + body)


async def serve(latency: float, answer: str) -> None:
    loopback = Loopback(latency, answer)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(loopback), "127.0.0.1", 0, backlog=WAITING_CONNECTIONS
    )
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--latency", type=float, default=0.0, help="milliseconds")
    parser.add_argument("--answer", default=ANSWER)
    options = parser.parse_args()
    asyncio.run(serve(options.latency / 1000, options.answer))


if __name__ == "__main__":
    main()
