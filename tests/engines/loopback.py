"""A server on loopback that speaks OpenAI's protocol, counts its calls, and fails as it is told."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

MODELS = ("served-model", "other-model")


@dataclass(frozen=True)
class Call:
    """A request as the server saw it."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    request: web.Request

    @property
    def prompt(self) -> str:
        return str(self.body.get("prompt") or self.body["messages"][-1]["content"])


Answer = Callable[[Call], Awaitable[web.StreamResponse]]


class Loopback:
    """Answers `echo PROMPT`, with 5 prompt and 3 completion tokens.

    faults: answers that are given instead, each to one call, in the order in which calls arrive.
    answer: answers all other calls.
    """

    port = 0
    """Any that is free."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.faults: deque[Answer] = deque()
        self.answer: Answer = echo
        self.at_once = 0
        self.most_at_once = 0
        self.models_asked = 0
        self.models = list(MODELS)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner, self.url = self._run(self._start())

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """What a server has beside these."""

    def close(self) -> None:
        self._run(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self) -> tuple[web.AppRunner, str]:
        app = web.Application()
        app.router.add_post("/v1/completions", self._handle)
        app.router.add_post("/v1/chat/completions", self._handle)
        app.router.add_get("/v1/models", self._list)
        self.add_routes(app.router)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    async def _list(self, request: web.Request) -> web.Response:
        self.models_asked += 1
        return web.json_response({"object": "list", "data": [{"id": name} for name in self.models]})

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = Call(request.path, await request.json(), dict(request.headers), request)
        self.calls.append(call)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            fault = self.faults.popleft() if self.faults else self.answer
            return await fault(call)
        finally:
            self.at_once -= 1


def answer_to(call: Call, text: Any = None, **choice: Any) -> dict[str, Any]:
    """A good answer's JSON, with the given text and other fields of its choice."""
    text = f"echo {call.prompt}" if text is None else text
    holder = {"text": text}
    if call.path.endswith("/chat/completions"):
        holder = {"message": {"role": "assistant", "content": text}}
    return {
        "object": "completion",
        "choices": [{"index": 0, "finish_reason": "stop", **holder, **choice}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
    }


async def echo(call: Call) -> web.StreamResponse:
    return web.json_response(answer_to(call))


def refuse(status: int, message: str = "no", headers: Any = None, **error: Any) -> Answer:
    """An error as OpenAI and vLLM send it."""

    async def answer(call: Call) -> web.StreamResponse:
        body = {"error": {"message": message, **error}}
        return web.json_response(body, status=status, headers=headers)

    return answer


def say(text: str, status: int = 200) -> Answer:
    """Any text in place of JSON."""

    async def answer(call: Call) -> web.StreamResponse:
        return web.Response(text=text, status=status)

    return answer


async def hang(call: Call) -> web.StreamResponse:
    await asyncio.sleep(3600)
    raise AssertionError


async def cut(call: Call) -> web.StreamResponse:
    """Hang up without a word."""
    assert call.request.transport is not None
    call.request.transport.abort()
    return web.Response()


async def cut_in_the_middle(call: Call) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(call.request)
    await response.write(b'{"choices": [')
    return await cut(call)


async def dribble(call: Call) -> web.StreamResponse:
    """Never silent for long, and never at an end."""
    response = web.StreamResponse()
    await response.prepare(call.request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.02)


@contextmanager
def nobody() -> Iterator[str]:
    """An address that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
