"""An OpenAI-compatible server that answers at once, or after a set time, always the same.

    python benchmarks/loopback_server.py --latency 50

Prints its base URL when it listens on a free port of 127.0.0.1. Besides /v1/chat/completions,
/v1/completions and /v1/models it has GET /counts, in calls since the start:

    {"calls": 12, "prompts": 10, "repeated": 2, "now": 1, "most_at_once": 5}

prompts: distinct ones. repeated: calls for a prompt that had been asked before.
now, most_at_once: calls that wait for their answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
from collections import Counter
from typing import Any

from aiohttp import web

ANSWER = "The answer is <ans>42</ans>."
USAGE = {"prompt_tokens": 12, "completion_tokens": 8, "total_tokens": 20}
MODEL = "loopback"
WAITING_CONNECTIONS = 4096


def _body(kind: str, choice: dict[str, Any]) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None, **choice}
    head = {"id": "loopback-0", "object": kind, "created": 0, "model": MODEL}
    return json.dumps({**head, "choices": [choice], "usage": USAGE}).encode()


CHAT = _body("chat.completion", {"message": {"role": "assistant", "content": ANSWER}})
TEXT = _body("text_completion", {"text": ANSWER})
MODELS = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode()


class Loopback:
    """Answers and counts. latency: in seconds, from a request's arrival to its answer."""

    def __init__(self, latency: float) -> None:
        self._latency = latency
        self._calls: Counter[str] = Counter()
        self._now = self._most = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/v1/completions", self.text)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/counts", self.counts)
        return app

    async def chat(self, request: web.Request) -> web.Response:
        asked = json.loads(await request.read())["messages"][-1]["content"]
        return await self._answered(asked, CHAT)

    async def text(self, request: web.Request) -> web.Response:
        return await self._answered(json.loads(await request.read())["prompt"], TEXT)

    async def models(self, request: web.Request) -> web.Response:
        return _json(MODELS)

    async def counts(self, request: web.Request) -> web.Response:
        calls, prompts = self._calls.total(), len(self._calls)
        state = {"calls": calls, "prompts": prompts, "repeated": calls - prompts}
        return web.json_response({**state, "now": self._now, "most_at_once": self._most})

    async def _answered(self, asked: Any, body: bytes) -> web.Response:
        self._calls[asked if isinstance(asked, str) else json.dumps(asked)] += 1
        self._now += 1
        self._most = max(self._most, self._now)
        try:
            if self._latency:
                await asyncio.sleep(self._latency)
        finally:  # also where the client is gone
            self._now -= 1
        return _json(body)


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


async def serve(latency: float) -> None:
    runner = web.AppRunner(Loopback(latency).app(), access_log=None, handler_cancellation=True)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0), backlog=WAITING_CONNECTIONS) as listener:
        await web.SockSite(runner, listener, backlog=WAITING_CONNECTIONS).start()
        print(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--latency", type=float, default=0.0, help="milliseconds")
    asyncio.run(serve(parser.parse_args().latency / 1000))


if __name__ == "__main__":
    main()
