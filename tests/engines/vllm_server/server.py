"""A server with vLLM's arguments, which answers `echo PROMPT`; what it does else, FAULT says.

It ends after the answers that FAULT=after:N counts, never answers (never), or does not start
(start). The arguments that it was given are written to the file that ARGUMENTS names.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

FAULT = os.environ.get("FAULT", "")
given = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[1:])
count = 0


async def complete(request: web.Request) -> web.Response:
    global count
    assert request.headers["Authorization"] == f"Bearer {os.environ['VLLM_API_KEY']}"
    body: dict[str, Any] = await request.json()
    name = given.get("lora-modules", "").partition("=")[0] or given["served-model-name"]
    assert body["model"] == name
    count += 1
    if f"after:{count - 1}" == FAULT:
        print("RuntimeError: out of luck", flush=True)
        os._exit(3)
    choice = {"index": 0, "text": f"echo {body['prompt']}", "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    return web.json_response({"id": "1", "choices": [choice], "usage": usage})


async def health(request: web.Request) -> web.Response:
    return web.Response(status=503 if FAULT == "never" else 200)


if os.environ.get("ARGUMENTS"):
    Path(os.environ["ARGUMENTS"]).write_text(json.dumps([os.getpid(), given]))
if FAULT == "start":
    print("ValueError: the model is too large", flush=True)
    sys.exit(1)
application = web.Application()
application.router.add_post("/v1/completions", complete)
application.router.add_get("/health", health)
web.run_app(application, host=given["host"], port=int(given["port"]), print=None)
