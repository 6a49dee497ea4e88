"""The least that a client must do: post the prompts with aiohttp, read the answers, write them.

    python bare_client.py PROMPTS.jsonl BASE_URL OUTPUT CONCURRENCY

What the machine and the server allow. Nothing is durable before the end; no retries, no checks.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import aiohttp


async def work(
    session: aiohttp.ClientSession, url: str, rows: Iterator[dict[str, Any]], out: TextIO
) -> None:
    for row in rows:
        body = {
            "model": "loopback",
            "messages": [{"role": "user", "content": row["question"]}],
            "max_tokens": 256,
            "temperature": 0,
        }
        async with session.post(url, json=body) as response:
            answer = await response.json()
        text = answer["choices"][0]["message"]["content"]
        out.write(json.dumps({"id": row["id"], "completion": text}) + "\n")


async def ask(prompts: Path, base_url: str, output: Path, concurrency: int) -> None:
    lines = prompts.read_text(encoding="utf-8").splitlines()
    rows = map(json.loads, lines)
    connections = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connections) as session:
        with output.open("w", encoding="utf-8") as out:
            url = f"{base_url}/chat/completions"
            await asyncio.gather(*(work(session, url, rows, out) for _ in range(concurrency)))


def main() -> None:
    prompts, base_url, output, concurrency = sys.argv[1:]
    start = time.perf_counter()
    asyncio.run(ask(Path(prompts), base_url, Path(output), int(concurrency)))
    seconds = time.perf_counter() - start
    n_rows = len(Path(output).read_text(encoding="utf-8").splitlines())
    print(json.dumps({"rows": n_rows, "seconds": seconds}))


if __name__ == "__main__":
    main()
