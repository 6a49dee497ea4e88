"""One model at several addresses: requests are shared, and one that is away is done without."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest
from aiohttp import web
from pydantic import ValidationError

from llm_distill.engines.openai import addresses
from llm_distill.engines.openai.addresses import Addresses
from llm_distill.engines.openai.settings import OpenAISettings
from llm_distill.errors import ModelError
from tests.engines.loopback import Loopback, answer_to, nobody
from tests.engines.openai.test_openai import (
    closed,  # noqa: F401 (a fixture)
    open_on,
    request,
    requests,
)


@pytest.fixture
def second() -> Iterator[Loopback]:
    loopback = Loopback()
    yield loopback
    loopback.close()


def test_requests_are_shared(server, second):
    engine = open_on([server.url, second.url], max_concurrency=8)
    texts = {a.id: a.text for a in engine.generate(requests(60))}
    assert texts == {str(n): f"echo prompt {n}" for n in range(60)}
    assert len(server.calls) + len(second.calls) == 60
    assert min(len(server.calls), len(second.calls)) >= 10


def test_an_address_that_is_away_is_done_without(server, caplog):
    with nobody() as away, caplog.at_level(logging.WARNING, "llm_distill.waiting"):
        engine = open_on([away, server.url], max_concurrency=8)
        found = list(engine.generate(requests(40)))
    assert len(found) == 40
    assert all(a.error is None for a in found)
    assert sum("the others go on" in record.getMessage() for record in caplog.records) == 1


def test_a_server_that_goes_away_meanwhile_loses_nothing(server, second):
    engine = open_on([server.url, second.url], max_concurrency=4)
    found = []
    for number, answer in enumerate(engine.generate(requests(60))):
        found.append(answer)
        if number == 20:
            second.close()
            second.close = lambda: None
    assert len(found) == 60
    assert all(a.error is None for a in found)


def test_none_that_answers_ends_the_run():
    with nobody() as away, nobody() as gone, pytest.raises(ModelError, match="cannot be reached"):
        list(open_on([away, gone]).generate(requests(5)))


def test_one_beginning_goes_to_one_address():
    of = Addresses(["http://a/v1", "http://b/v1"])
    places = set()
    for n in range(6):
        with of.one_for(request(str(n // 100))) as url:
            places.add(url)
    assert len(places) == 1


def test_one_that_rested_is_tried_again(monkeypatch):
    of = Addresses(["http://a/v1", "http://b/v1"])
    assert of.unreachable("http://a/v1")
    assert not of.unreachable("http://a/v1")
    with of.one_for(request("1")) as url:
        assert url == "http://b/v1"
    monkeypatch.setattr(addresses.time, "monotonic", lambda: 1e12)
    seen = set()
    for n in range(4):
        with of.one_for(request(str(n))) as first, of.one_for(request(f"other {n}")) as other:
            seen |= {first, other}
    assert seen == {"http://a/v1", "http://b/v1"}


def test_each_is_asked_whether_it_gives_ids(server, second):
    async def answer(call):
        logprobs = {"token_logprobs": [-0.5, -1.0]}
        return web.json_response(answer_to(call, token_ids=[7, 2], logprobs=logprobs))

    server.answer = answer
    with pytest.raises(ModelError, match=re.escape(f"at {second.url}: its server does not give")):
        list(open_on([server.url, second.url]).generate([request(text=True, tokens=True)]))
    assert len(server.calls) == len(second.calls) == 1


@pytest.mark.parametrize("urls", [[], ["http://a/v1", "http://a/v1"], ["http://a/v1", "nowhere"]])
def test_what_is_no_list_of_addresses(urls):
    with pytest.raises(ValidationError, match="expected an address"):
        OpenAISettings(kind="openai", base_url=urls)
