"""The engine for servers, against one on loopback that fails in every way that servers do."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web

from llm_distill.engines.base import (
    Completion,
    Request,
    SamplingSettings,
    StructuredOutput,
)
from llm_distill.engines.budget import Budget
from llm_distill.engines.openai import server as openai_server
from llm_distill.engines.openai import waiting
from llm_distill.engines.openai.engine import OpenAIEngine
from llm_distill.engines.openai.settings import OpenAISettings
from llm_distill.errors import BudgetError, ConfigError, ModelError
from llm_distill.models.sources import ModelSource
from tests.engines.loopback import (
    Call,
    Loopback,
    answer_to,
    cut,
    cut_in_the_middle,
    dribble,
    echo,
    hang,
    refuse,
    say,
)

KEY = "sk-very-secret-0123456789"
OPEN: list[OpenAIEngine] = []


@pytest.fixture(autouse=True)
def closed(server: Loopback) -> Iterator[None]:
    """All engines, before the server."""
    yield
    while OPEN:
        OPEN.pop().close()


def open_on(url: str, budget: float | None = None, **settings: Any) -> OpenAIEngine:
    settings = {"timeout": 20, **settings}
    engine = OpenAIEngine(
        OpenAISettings(kind="openai", base_url=url, **settings),
        ModelSource("teacher", "served-model"),
        Budget(budget),
    )
    OPEN.append(engine)
    return engine


def request(name: str = "0", text: bool = False, **more: Any) -> Request:
    sampling = SamplingSettings(max_tokens=10)
    prompt: Any = f"prompt {name}" if text else [{"role": "user", "content": f"prompt {name}"}]
    return Request(name, prompt, more.pop("sampling", sampling), **more)


def requests(n: int) -> list[Request]:
    return [request(str(index)) for index in range(n)]


def ask(server: Loopback, asked: Request | None = None, **settings: Any) -> Completion:
    (completion,) = open_on(server.url, **settings).generate([asked or request()])
    return completion


def refusal(server: Loopback, asked: Request | None = None, **settings: Any) -> str:
    with pytest.raises(ModelError) as error:
        ask(server, asked, **settings)
    return str(error.value)


@pytest.mark.parametrize("text", [False, True])
def test_text_goes_to_completions_and_messages_to_chat(server: Loopback, text: bool) -> None:
    completion = ask(server, request("a", text), price={"input": 2e6, "output": 1e6})
    assert completion == Completion("a", "echo prompt a", "stop", 5, 3, cost=13.0)
    (call,) = server.calls
    assert call.path == ("/v1/completions" if text else "/v1/chat/completions")
    assert call.body["model"] == "served-model"
    assert "Authorization" not in call.headers


def test_every_request_is_answered_once_with_no_more_in_flight_than_allowed(
    server: Loopback,
) -> None:
    full = asyncio.Event()

    async def wait_for_the_others(call: Call) -> web.StreamResponse:
        if server.at_once == 4:
            full.set()
        await full.wait()
        return await echo(call)

    server.answer = wait_for_the_others
    engine = open_on(server.url, max_concurrency=4)
    texts = {completion.id: completion.text for completion in engine.generate(requests(25))}
    assert texts == {str(index): f"echo prompt {index}" for index in range(25)}
    assert len(server.calls) == 25
    assert server.most_at_once == 4
    assert len(list(engine.generate(requests(3)))) == 3  # once more, over the same connections


@pytest.mark.parametrize("taken", range(1, 21))
def test_closing_while_answers_are_due(server: Loopback, taken: int) -> None:
    """As after an error in a stage, which still holds on to the completions that it was reading."""
    engine = open_on(server.url, max_concurrency=32)
    completions = engine.generate(requests(200))
    for _ in range(taken):
        next(completions)
    engine.close()  # answers may come in while it does
    completions.close()


def test_requests_are_read_no_further_than_needed(server: Loopback) -> None:
    read = 0

    def endless() -> Iterator[Request]:
        nonlocal read
        for read in itertools.count(1):
            yield request(str(read))

    completions = open_on(server.url, max_concurrency=3).generate(endless())
    assert read == 0
    for n_taken in range(1, 30):
        next(completions)
        assert read <= n_taken + 6  # in flight, and answered but not taken
        time.sleep(0.005)  # a slow reader: all that are in flight are answered meanwhile
    completions.close()


def test_a_slow_answer_does_not_keep_the_others_waiting(server: Loopback) -> None:
    others_came = threading.Event()

    async def first_waits(call: Call) -> web.StreamResponse:
        while call.prompt == "prompt 0" and not others_came.is_set():
            await asyncio.sleep(0.01)
        return await echo(call)

    server.answer = first_waits
    order = []
    for completion in open_on(server.url, max_concurrency=2).generate(requests(10)):
        order.append(completion.id)
        if len(order) == 9:
            others_came.set()
    assert order[-1] == "0"


@pytest.mark.parametrize(
    "fault",
    [refuse(429), refuse(500), say("gateway", 502), refuse(503), cut, cut_in_the_middle, say("{")],
)
def test_what_may_pass_is_tried_again(server: Loopback, fault: Any) -> None:
    server.faults.append(fault)
    completion = ask(server)
    assert (completion.text, completion.error) == ("echo prompt 0", None)
    assert len(server.calls) == 2


def test_a_rate_limit_is_no_attempt_and_has_its_own_patience(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "FIRST_BACKOFF", 0.01)
    server.faults += [refuse(429)] * 5
    assert ask(server, max_attempts=1).text == "echo prompt 0"
    server.answer = refuse(429, "slow down", headers={"Retry-After": "0.1"})
    with pytest.raises(ModelError, match=r"no request for 0.3 s \(engine.max_wait\): run it again"):
        ask(server, max_attempts=1, max_wait=0.3)


def test_a_rate_limit_inside_an_answer_has_an_end_too(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "FIRST_BACKOFF", 0.01)
    body = {"error": {"message": "slow down", "code": 429}}
    server.answer = say(json.dumps(body))
    with pytest.raises(ModelError, match="the server answers with an error inside: slow down; it"):
        ask(server, max_attempts=1, max_wait=0.3)


def test_an_error_in_an_answer_is_tried_again(server: Loopback) -> None:
    body = {"error": {"message": "upstream failed", "code": 502}}
    server.faults += [say(json.dumps(body)), say(json.dumps({"choices": []}))]
    assert ask(server).text == "echo prompt 0"
    assert len(server.calls) == 3


def test_one_flagged_prompt_is_a_bad_row_and_not_the_end(server: Loopback) -> None:
    server.faults.append(refuse(403, "this prompt was flagged", code="moderation"))
    first, second = open_on(server.url, max_concurrency=1).generate(requests(2))
    assert "flagged" in str(first.error)
    assert second.error is None


def test_a_proxy_without_a_scheme_is_a_proxy(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(ModelError, match=r"cannot be reached .*127\.0\.0\.1:9"):
        ask(server)
    assert server.calls == []


def test_not_even_half_a_key_is_shown(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-" + "k" * 60
    monkeypatch.setenv("OPENAI_API_KEY", key)
    server.faults.append(refuse(400, "x" * 280 + key))
    assert "kk" not in str(ask(server).error)


@pytest.mark.parametrize("fault", [hang, dribble])
def test_an_attempt_that_takes_too_long_is_given_up(server: Loopback, fault: Any) -> None:
    server.faults.append(fault)
    assert ask(server, timeout=0.5).text == "echo prompt 0"
    assert len(server.calls) == 2


@pytest.mark.parametrize(
    ("fault", "n_calls", "expected"),
    [
        (
            refuse(500, "out of\norder"),
            3,
            "after 3 attempts; at last the server answers HTTP 500",
        ),
        (cut, 3, "gave up after 3 attempts; at last the connection broke off"),
        (say("<html>"), 2, "gave up after 2 attempts; at last the answer is not JSON: <html>"),
    ],
)
def test_the_last_attempt_gives_a_bad_row(
    server: Loopback, fault: Any, n_calls: int, expected: str
) -> None:
    server.answer = fault
    bad = ask(server, max_attempts=3)
    assert (bad.text, bad.finish_reason, bad.is_passing) == ("", "error", True)
    assert expected in str(bad.error)
    assert len(server.calls) == n_calls


def test_retry_after_is_kept_by_all(
    server: Loopback, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[float] = []

    async def record(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(openai_server, "sleep", record)
    server.faults.append(refuse(429, headers={"Retry-After": "45"}))
    engine = open_on(server.url, max_concurrency=1)
    assert len(list(engine.generate(requests(2)))) == 2
    assert len(server.calls) == 3
    said = "model 'teacher' waits 45 s before it asks again: the server answers HTTP 429"
    assert said in caplog.text
    own, *rest = waits  # then what is left of the 45 s, by a clock that did not move
    assert 45 <= own < 45.1
    assert len(rest) == 2
    assert all(40 < wait <= 45 for wait in rest)


def test_headers_and_a_version_as_azure_wants_them(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_KEY", KEY)
    more = {"api_key_env": "AZURE_KEY", "api_key_header": "api-key", "api_version": "2024-10-21"}
    ask(server, extra_headers={"X-Title": "distil"}, **more)
    (call,) = server.calls
    assert call.request.query_string == "api-version=2024-10-21"
    assert (call.headers["api-key"], call.headers["X-Title"]) == (KEY, "distil")
    assert "Authorization" not in call.headers


@pytest.mark.parametrize("name", ["Authorization", "api-key", "X-API-KEY", "Cookie", "a b", "a:b"])
def test_no_secret_is_written_into_the_file(name: str) -> None:
    with pytest.raises(ValueError, match="holds a secret|is not the name"):
        OpenAISettings(kind="openai", base_url="http://x/v1", extra_headers={name: "abc"})


def test_a_server_that_asks_to_come_back_tomorrow_ends_the_run(server: Loopback) -> None:
    server.answer = refuse(429, "daily limit", headers={"Retry-After": "40000"})
    assert "it asks to wait 40000 s" in refusal(server)
    assert len(server.calls) == 1


def test_a_server_that_goes_away_later_is_waited_for(server: Loopback) -> None:
    engine = open_on(server.url, max_concurrency=1, max_attempts=2)
    completions = engine.generate(requests(2))
    assert next(completions).error is None
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        moved = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        engine._server._addresses.urls, engine._server._proxies = (moved,), {moved: None}
        assert "gave up after 2 attempts" in str(next(completions).error)


def test_a_server_that_is_not_there_is_said_at_once(server: Loopback) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(ModelError) as error:
            list(open_on(url).generate(requests(5)))
    assert f"model 'teacher': {url} cannot be reached" in str(error.value)
    assert "it should serve 'served-model'" in str(error.value)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_ends_the_run_and_is_never_shown(
    server: Loopback, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    server.answer = refuse(status, "who are you")
    assert "set the environment variable MY_KEY to a key" in refusal(server, api_key_env="MY_KEY")
    monkeypatch.setenv("MY_KEY", f"{KEY}\n")
    server.answer = refuse(status, f"Incorrect API key provided: {KEY}")
    message = refusal(server, api_key_env="MY_KEY")
    assert "refuses the key in the environment variable MY_KEY" in message
    assert "Incorrect API key provided: ***" in message
    assert server.calls[-1].headers["Authorization"] == f"Bearer {KEY}"


def test_a_key_is_in_no_bad_row_and_no_log(
    server: Loopback, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.answer = refuse(500, f"failed for {KEY}")
    with caplog.at_level(logging.DEBUG):
        bad = ask(server, max_attempts=2)
    assert "failed for ***" in str(bad.error)
    assert "failed for ***" in caplog.text  # one warning says that it asks again
    server.answer = refuse(400, f"bad for {KEY}")
    assert "bad for ***" in str(ask(server).error)
    server.answer = say(f"no json for {KEY}")
    assert "no json for ***" in str(ask(server).error)
    assert KEY not in caplog.text
    monkeypatch.setenv("OPENAI_API_KEY", "two\nlines")
    with pytest.raises(ModelError, match="OPENAI_API_KEY holds odd characters") as error:
        ask(server)
    assert "lines" not in str(error.value)


def test_an_unknown_model_is_told_what_there_is(server: Loopback) -> None:
    server.answer = refuse(404, "The model does not exist", code="model_not_found")
    engine = open_on(server.url, model="serve-model")
    with pytest.raises(ModelError) as error:
        list(engine.generate(requests(20)))
    assert "does not serve 'serve-model'" in str(error.value)
    assert "did you mean 'served-model'? it serves: other-model, served-model" in str(error.value)
    assert server.models_asked == 1


def test_a_wrong_address_is_told_how_it_usually_ends(server: Loopback) -> None:
    engine = open_on(server.url.removesuffix("/v1"))
    with pytest.raises(ModelError) as error:
        list(engine.generate([request()]))
    message = str(error.value)
    assert "HTTP 404" in message
    assert "It usually ends in /v1" in message


@pytest.mark.parametrize(
    ("fault", "asked", "expected"),
    [
        (refuse(429, "no money", code="insufficient_quota"), request(), "no credit left"),
        (refuse(402, "pay"), request(), "no credit left"),
        (refuse(400, "unknown", param="top_k"), request(), "engine.leave_out: [top_k]"),
        (
            refuse(400, "use max_completion_tokens", param="max_tokens"),
            request(),
            "engine.max_tokens_name: max_completion_tokens",
        ),
        (  # vLLM's own words
            refuse(400, "thinking_token_budget is set but reasoning_config is not configured."),
            request(sampling=SamplingSettings(thinking_token_budget=8)),
            "it does not take 'thinking_token_budget'; set engine.leave_out: "
            "[thinking_token_budget], or leave it out of the stage's sampling",
        ),
        (
            refuse(400, "Unrecognized request argument supplied: thinking_token_budget"),
            request(sampling=SamplingSettings(thinking_token_budget=8)),
            "engine.leave_out: [thinking_token_budget]",
        ),
        (refuse(405, "no"), request(), "no other request for 'served-model'"),
        (refuse(400, "no such model", code="model_not_found"), request(), "did you mean"),
        (
            refuse(400, "Invalid JSON schema: 'strin' is no type"),
            request(structure=StructuredOutput(json_schema={"type": "strin"})),
            "Invalid JSON schema: 'strin' is no type; it does not take the structure",
        ),
    ],
)
def test_what_would_fail_for_every_row_ends_the_run(
    server: Loopback, fault: Any, asked: Request, expected: str
) -> None:
    server.answer = fault
    message = refusal(server, asked, model=None if "mean" not in expected else "served-mode")
    assert expected in message
    assert len(server.calls) == 1


def test_a_redirect_is_not_followed(server: Loopback) -> None:
    async def move(call: Call) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect("http://127.0.0.1:1/v2")

    server.answer = move
    assert "moved to http://127.0.0.1:1/v2; correct base_url" in refusal(server)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (refuse(400, "This model's maximum context length is 8 tokens", param="input"), "is 8 tok"),
        (refuse(400, "too long", code="context_length_exceeded"), "HTTP 400: too long"),
        (refuse(400, "content management policy"), "HTTP 400: content management policy"),
    ],
)
def test_what_is_one_rows_fault_is_a_bad_row(server: Loopback, fault: Any, expected: str) -> None:
    server.faults.append(fault)
    bad, good = sorted(
        open_on(server.url, max_concurrency=1).generate(requests(2)), key=lambda c: c.id
    )
    assert expected in str(bad.error)
    assert (bad.finish_reason, good.text) == ("error", "echo prompt 1")
    assert len(server.calls) == 2


def test_the_budget_is_never_passed_and_what_is_in_flight_is_kept(server: Loopback) -> None:
    budget = Budget(25)  # worst case 10 a request, 3 in fact: the seventh could pass 25
    engine = open_on(server.url, max_concurrency=4, price={"input": 0, "output": 1e6})
    engine._server._budget = budget
    came: list[Completion] = []
    with pytest.raises(BudgetError) as error:
        came.extend(engine.generate(requests(100)))
    assert [completion.cost for completion in came] == [3.0] * 6
    assert len(server.calls) == 6
    assert budget.spent == 18
    for part in ("18 of 25 is spent", "could cost 10", "6 answers came", "higher --max-cost"):
        assert part in str(error.value)
    budget.limit = 28
    assert len(list(itertools.islice(engine.generate(requests(9)), 1))) == 1


def test_a_budget_that_holds_one_request_at_a_time_is_enough(server: Loopback) -> None:
    engine = open_on(server.url, price={"input": 0, "output": 1e6})
    engine._server._budget.limit = 16  # two of three are spent when the last sets 10 aside
    assert len(list(engine.generate(requests(3)))) == 3
    assert server.most_at_once == 1
    assert engine._server._budget.spent == 9


def test_a_refused_request_costs_nothing(server: Loopback) -> None:
    server.answer = refuse(401)
    engine = open_on(server.url, price={"input": 0, "output": 1e6}, max_concurrency=1)
    with pytest.raises(ModelError):
        list(engine.generate(requests(3)))
    assert engine._server._budget.spent == 0


def test_the_rates_hold_requests_back(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def record(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(waiting, "sleep", record)
    list(open_on(server.url, requests_per_minute=0.06).generate(requests(3)))
    assert waits == [pytest.approx(1000, abs=20), pytest.approx(2000, abs=20)]
    waits.clear()
    engine = open_on(server.url, tokens_per_minute=0.48, max_concurrency=1)
    list(engine.generate(requests(2)))
    assert waits == [pytest.approx(1000, abs=20)]  # for the 8 tokens that were used


def test_an_attempt_that_was_lost_counts_as_charged(server: Loopback) -> None:
    server.faults.extend([cut, refuse(500)])
    engine = open_on(server.url, price={"input": 0, "output": 1e6})
    (completion,) = engine.generate([request()])
    assert completion.cost == engine._server._budget.spent == 13  # 10 at worst, and 3 in fact
    server.faults.append(cut)
    engine._server._budget.limit = 13 + 19.5  # enough for one worst case, not for two
    with pytest.raises(BudgetError, match="0 answers came"):
        list(engine.generate([request()]))
    assert engine._server._budget.spent == 23
    engine._server._budget.reserve(9.5)  # nothing is still set aside


def test_a_limit_needs_a_price(server: Loopback) -> None:
    with pytest.raises(ConfigError, match="model 'teacher': --max-cost needs engine.price"):
        open_on(server.url, budget=1.0)


@pytest.mark.parametrize("how", ["close", "error"])
def test_an_early_end_leaves_nothing_behind(
    server: Loopback, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    server.faults.append(echo)
    server.answer = hang

    def source() -> Iterator[Request]:
        yield from requests(5)
        if how == "error":
            raise LookupError

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        engine = open_on(server.url, max_concurrency=5 if how == "close" else 6)
        completions = engine.generate(source())
        if how == "close":
            next(completions)
            completions.close()
        else:
            with pytest.raises(LookupError):
                next(completions)
        assert asyncio.all_tasks(engine._loop) == set()
        engine.close()
        engine.close()
        del completions, engine
        OPEN.clear()
        gc.collect()
    assert not [str(item.message) for item in warned if "unclosed" in str(item.message)]
    assert not caplog.records


def test_ctrl_c_leaves_nothing_behind(server: Loopback, caplog: pytest.LogCaptureFixture) -> None:
    async def interrupt(call: Call) -> web.StreamResponse:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return await hang(call)

    server.answer = hang
    server.faults.append(interrupt)
    engine = open_on(server.url)
    # Tests that run in the background of a shell inherit that Ctrl-C is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(engine.generate(requests(5)))
    finally:
        signal.signal(signal.SIGINT, before)
    assert asyncio.all_tasks(engine._loop) == set()
    engine.close()
    gc.collect()
    assert not caplog.records


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("engine", "server"):
        monkeypatch.delitem(sys.modules, f"llm_distill.engines.openai.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    settings = OpenAISettings(kind="openai", base_url="http://localhost:8000/v1")
    with pytest.raises(ModelError, match=r"pip install 'llm-distill\[openai\]'"):
        settings.open(ModelSource("teacher", "m"), Budget(None))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("localhost:8000/v1", "expected an address such as http://"),
        ("ftp://host/v1", "expected an address"),
        ("http:///v1", "expected an address"),
        ("http://host:99999/v1", "expected an address"),
        ("http://host/v1?key=1", r"without \? or #"),
        ("http://me:secret@host/v1", "api_key_env"),
    ],
)
def test_addresses_that_are_none(url: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        OpenAISettings(kind="openai", base_url=url)


def test_a_proxy_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    find: Callable[[str], str | None] = openai_server._proxy
    assert find("http://example.org/v1") is None
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "localhost")
    assert find("http://example.org/v1") == "http://proxy:3128"
    assert find("http://localhost:8000/v1") is None


@pytest.mark.parametrize("text", [True, False])
def test_the_tokens_that_a_server_wrote(server: Loopback, text: bool) -> None:
    async def answer(call: Call) -> web.StreamResponse:
        assert call.body["return_token_ids"] is True
        assert call.body["logprobs"] == (1 if text else True)
        logprobs = {"token_logprobs": [-0.5, -1.0]}
        if not text:
            logprobs = {"content": [{"token": "x", "logprob": v} for v in (-0.5, -1.0)]}  # type: ignore[dict-item]
        return web.json_response(answer_to(call, token_ids=[7, 2], logprobs=logprobs))

    server.answer = answer
    engine = open_on(server.url)
    for _ in range(2):
        (done,) = engine.generate([request(text=text, tokens=True)])
        assert (done.token_ids, done.logprobs) == ((7, 2), (-0.5, -1.0))
    assert [call.body["max_tokens"] for call in server.calls] == [1, 10, 10]


@pytest.mark.parametrize("content", ["", None])
def test_a_student_that_ends_at_once_has_written_its_end_token(
    server: Loopback, content: str | None
) -> None:
    """Which is what it learns from; without tokens an empty turn is no answer."""

    async def answer(call: Call) -> web.StreamResponse:
        logprobs = {"content": [{"token": "", "logprob": -0.5}]}
        found = answer_to(call, token_ids=[2], logprobs=logprobs)
        found["choices"][0]["message"]["content"] = content
        return web.json_response(found)

    server.answer = answer
    (done,) = open_on(server.url).generate([request(tokens=True)])
    assert (done.error, done.text, done.token_ids) == (None, "", (2,))
    (other,) = open_on(server.url).generate([request()])
    assert "the answer has no text" in str(other.error)


@pytest.mark.parametrize("logprobs", [None, {"token_logprobs": [-0.5]}])
def test_a_server_that_gives_no_ids_is_asked_for_one_token_only(
    server: Loopback, logprobs: Any
) -> None:
    async def answer(call: Call) -> web.StreamResponse:
        return web.json_response(answer_to(call, logprobs=logprobs))

    server.answer = answer
    with pytest.raises(ModelError, match=r"does not give the ids .*; write with kind: transf"):
        list(open_on(server.url).generate([request(text=True, tokens=True)]))
    assert [call.body["max_tokens"] for call in server.calls] == [1]


def test_ids_that_do_not_fit_their_log_probabilities_are_a_bad_row(server: Loopback) -> None:
    async def answer(call: Call) -> web.StreamResponse:
        n_ids = 1 if call.body["max_tokens"] == 1 else 3
        given = {"token_ids": [7] * n_ids, "logprobs": {"token_logprobs": [-0.5]}}
        return web.json_response(answer_to(call, **given))

    server.answer = answer
    (done,) = open_on(server.url).generate([request(text=True, tokens=True)])
    assert done.error == "the answer has 3 token_ids and 1 log-probabilities"
