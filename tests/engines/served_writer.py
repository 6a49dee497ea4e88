"""A program with vLLM's arguments that writes as `writing_server` does. It prints what it is given.

`python -m tests.engines.served_writer --model=… --port=…`; without --enable-lora, or without the
variable by which vLLM may load adapters, it loads none.
"""

from __future__ import annotations

import json
import os
import sys
import threading

from aiohttp import web

from llm_distill.models.sources import ModelSource
from tests.engines.writing_server import WritingServer

given = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[1:])


class ServedWriter(WritingServer):
    """Called as --served-model-name says."""

    port = int(given["port"])

    def __init__(self) -> None:
        super().__init__(ModelSource("served", given["model"], prompt_format="text"))
        self.models = [given["served-model-name"]]
        self.base = self.models[0]
        self.most = int(given.get("max-lora-rank", 0))
        if os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") != "1":
            self.fault = "updating"
        elif "enable-lora" not in given:
            self.fault = "lora"

    def add_routes(self, router: web.UrlDispatcher) -> None:
        super().add_routes(router)
        router.add_get("/health", self._health)

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()


if __name__ == "__main__":
    seen = {**given, "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}
    print("given", json.dumps(seen), flush=True)
    server = ServedWriter()
    threading.Event().wait()
