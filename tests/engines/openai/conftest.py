"""A server on loopback, without proxies or keys of this machine, and without long waits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llm_distill.engines.openai import waiting
from tests.engines.loopback import Loopback


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(waiting, "FIRST_BACKOFF", 0.001)
    loopback = Loopback()
    yield loopback
    loopback.close()
