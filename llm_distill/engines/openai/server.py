"""One server: attempts at a request over HTTP until there is a completion, and what they cost."""

from __future__ import annotations

import json
import logging
import os
import time
from asyncio import sleep
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from llm_distill.engines.openai.addresses import Addresses
from llm_distill.engines.openai.answers import (
    BadAnswerError,
    PassingError,
    Refusal,
    UnfitServerError,
    is_about_model,
    is_about_structure,
    judge,
    read_refusal,
    refused_setting,
)
from llm_distill.engines.openai.exchange import Answer, Exchange
from llm_distill.engines.openai.failures import AttemptError, UselessError
from llm_distill.engines.openai.waiting import Pace, read_retry_after, wait_before
from llm_distill.errors import ModelError, first_line, nearest

if TYPE_CHECKING:
    from llm_distill.engines.budget import Budget
    from llm_distill.engines.openai.settings import OpenAISettings

log = logging.getLogger("llm_distill")
waiting = logging.getLogger("llm_distill.waiting")
"""What is said here is shown beside the bar until there is an answer."""

MOST_PATIENCE = 600.0  # seconds of Retry-After; a server that asks for more is a run's end
CONNECT_TIMEOUT = 30.0
# Shorter than servers keep an idle connection (5 s at the least): a request that is sent into one
# which is just being closed is lost.
KEEPALIVE = 4.0
SECONDS_BETWEEN_WARNINGS = 60.0
LEAVE_OUT = "engine.leave_out: [{name}], or leave it out of the stage's sampling"
REMEDIES = {"max_tokens": "engine.max_tokens_name: max_completion_tokens"}


class Server:
    """The address, the key, the rates and the session. Everything runs in one event loop.

    model: what requests call the model; it may change between them.
    """

    def __init__(self, settings: OpenAISettings, name: str, model: str, budget: Budget) -> None:
        """name: the model's in the pipeline. model: its name on the server."""
        self._settings = settings
        self._name = name
        self.model = model
        self._budget = budget
        self._key = read_key(settings.api_key_env)
        requests, tokens = settings.requests_per_minute, settings.tokens_per_minute
        self._requests = Pace(requests) if requests is not None else None
        self._tokens = Pace(tokens) if tokens is not None else None
        self._session: aiohttp.ClientSession | None = None
        self._addresses = Addresses(settings.addresses())
        self._proxies = {url: _proxy(url) for url in self._addresses.urls}
        self._hold_until = 0.0
        self._limited_since: float | None = None
        self._warned_at = -SECONDS_BETWEEN_WARNINGS

    def to_ask(self) -> tuple[str | None, ...]:
        """Each address that has to be asked by itself what it can; None for the only one."""
        urls = self._addresses.urls
        return urls if len(urls) > 1 else (None,)

    def left_out(self, at: str | None) -> bool:
        """Whether an address could not be reached, and so will be sent nothing any more.

        Nobody could ask it whether it does what the others do.
        """
        is_last = len(self._addresses.urls) == 1
        if at is None or is_last or not self._addresses.is_away(at):
            return False
        self._addresses.leave_out(at)
        said = "model '%s': %s cannot be reached, and is sent nothing in this stage: what it can "
        log.warning(said + "was not asked", self._name, at)
        return True

    def reserve(self, exchange: Exchange[Any]) -> float:
        """Set the worst case of a request aside, and return it.

        Raises:
            BudgetError: the budget does not hold it.
        """
        amount = self._cost(exchange.most_prompt_tokens, exchange.max_tokens)
        self._budget.reserve(amount)
        return amount

    async def answer(self, exchange: Exchange[Answer], reserved: float) -> Answer:
        """The answer, or a bad row after the last attempt.

        An attempt that was lost counts with its worst case: the server may have charged for it.

        Args:
            exchange: what is asked.
            reserved: what `reserve` returned; it is settled here.

        Raises:
            UselessError: no request will be answered.
            BudgetError: the budget does not hold another attempt.
        """
        body = json.dumps(exchange.body(self.model, self._settings)).encode()
        held, lost, n_malformed, n_limits, attempt = reserved, 0.0, 0, 0, 0
        actual = reserved  # if we are cancelled, the server may go on
        try:
            while True:
                try:
                    await self._wait_for_turn(exchange)
                    answer = await self._attempt(exchange, body, reserved)
                    break
                except AttemptError as error:
                    if error.is_lost:
                        self._budget.settle(held, held)
                        lost, held, actual = lost + held, 0.0, 0.0
                    n_malformed += error.is_malformed
                    if error.is_limit:
                        n_limits += 1
                        self._check_patience(error, exchange)
                    else:
                        attempt += 1
                    if attempt == self._settings.max_attempts or n_malformed == 2:
                        answer = self._given_up(exchange, attempt, error)
                        break
                    if error.is_lost:
                        self._budget.reserve(reserved)
                        held = actual = reserved
                    await self._back_off(n_limits if error.is_limit else attempt, error)
            actual = answer.cost
            return replace(answer, cost=actual + lost) if lost else answer
        except UselessError:
            actual = 0.0
            raise
        finally:
            self._budget.settle(held, actual)

    def _check_patience(self, error: AttemptError, exchange: Exchange[Any]) -> None:
        """End a run whose server answers nothing but that it is too much.

        Raises:
            UselessError: there was no answer for as long as the settings say.
        """
        now = time.monotonic()
        self._limited_since = self._limited_since or now
        if now - self._limited_since > self._settings.max_wait:
            waited = f"{error}; it has answered no request for {self._settings.max_wait:g} s"
            raise UselessError(f"{waited} (engine.max_wait): run it again later", None, exchange)

    async def _wait_for_turn(self, exchange: Exchange[Any]) -> None:
        if self._requests is not None:
            await self._requests.wait(1)
        if self._tokens is not None:
            await self._tokens.wait(exchange.most_prompt_tokens + exchange.max_tokens)
        wait = self._hold_until - time.monotonic()
        if wait > 0:
            await sleep(wait)

    async def _back_off(self, attempt: int, error: AttemptError) -> None:
        now = time.monotonic()
        wait = wait_before(attempt, error.retry_after)
        if error.retry_after is not None:  # it is the server's wish, not this request's
            self._hold_until = max(self._hold_until, now + error.retry_after)
        if now - self._warned_at >= SECONDS_BETWEEN_WARNINGS:
            self._warned_at = now
            reason = self._without_key(str(error))
            said = "model '%s' waits %.0f s before it asks again: %s"
            waiting.warning(said, self._name, wait, reason)
        await sleep(wait)

    async def _attempt(self, exchange: Exchange[Answer], body: bytes, worst: float) -> Answer:
        with self._addresses.one_for(exchange.asked, exchange.at) as address:
            return await self._attempt_at(address, exchange, body, worst)

    async def _attempt_at(
        self, address: str, exchange: Exchange[Answer], body: bytes, worst: float
    ) -> Answer:
        session, proxy = self._open_session(), self._proxies[address]
        url = self._url(address, exchange.endpoint)
        try:
            async with session.post(url, data=body, allow_redirects=False, proxy=proxy) as response:
                self._addresses.reached(address)
                content = self._redacted(await response.read())
                retry_after = read_retry_after(response.headers)
                moved_to = response.headers.get("Location", "")
        except (
            aiohttp.ClientConnectorError,
            aiohttp.ConnectionTimeoutError,
            aiohttp.InvalidURL,  # of a proxy: nothing was sent
        ) as error:
            reason = f"{address} cannot be reached ({first_line(error)})"
            is_news = self._addresses.unreachable(address)
            if self._addresses.is_hopeless:
                raise UselessError(reason, None, exchange) from error
            if exchange.at is not None:  # nobody waits for one of several to be there
                return exchange.failed(reason)
            if is_news and len(self._addresses.urls) > 1:
                waiting.warning("model '%s': %s; the others go on", self._name, reason)
            raise AttemptError(reason) from error  # it may be restarting
        except TimeoutError as error:
            reason = f"no answer in {self._settings.timeout:g} s"
            raise AttemptError(reason, is_lost=True) from error
        except (aiohttp.ClientError, OSError) as error:
            reason = f"the connection broke off ({first_line(error)})"
            raise AttemptError(reason, is_lost=True) from error
        if response.status == 200:
            return self._read(exchange, content, worst)
        if 300 <= response.status < 400:
            content = f"moved to {moved_to}; correct base_url".encode()
        return self._read_refusal(exchange, response.status, content, retry_after)

    def _read(self, exchange: Exchange[Answer], content: bytes, worst: float) -> Answer:
        try:
            answer, usage = exchange.read(content)
        except BadAnswerError as error:
            raise AttemptError(str(error), is_lost=True, is_malformed=True) from error
        except UnfitServerError as error:
            raise UselessError(str(error), None, exchange, error.todo) from error
        except PassingError as error:
            if error.refusal is not None:
                return self._judged(exchange, error.refusal, str(error), None)
            raise AttemptError(str(error), is_lost=True) from error
        self._limited_since = None  # not at any 200: its body may say that the rate is exceeded
        if usage is None:
            return replace(answer, cost=worst)
        if self._tokens is not None:
            most = exchange.most_prompt_tokens + exchange.max_tokens
            self._tokens.give_back(most - sum(usage))
        return replace(answer, cost=self._cost(*usage))

    def _read_refusal(
        self, exchange: Exchange[Answer], status: int, content: bytes, retry_after: float | None
    ) -> Answer:
        refusal = read_refusal(status, content)
        return self._judged(exchange, refusal, f"HTTP {status}: {refusal.words}", retry_after)

    def _judged(
        self, exchange: Exchange[Answer], refusal: Refusal, reason: str, retry_after: float | None
    ) -> Answer:
        verdict = judge(refusal, exchange.fields(), exchange.has_structure)
        if verdict == "bad row":
            return exchange.failed(f"the server answers {reason}")
        if verdict == "retry" and retry_after is not None and retry_after > MOST_PATIENCE:
            reason += f" (it asks to wait {retry_after:.0f} s; run it again then)"
            raise UselessError(reason, refusal, exchange)
        if verdict == "retry":
            is_limit = refusal.status == 429
            said = f"the server answers {reason}"
            raise AttemptError(said, retry_after=retry_after, is_limit=is_limit)
        raise UselessError(reason, refusal, exchange)

    def _given_up(self, exchange: Exchange[Answer], attempt: int, error: AttemptError) -> Answer:
        attempts = "1 attempt" if attempt == 1 else f"{attempt} attempts"
        reason = self._without_key(f"gave up after {attempts}; at last {error}")
        return exchange.failed(reason, is_passing=True)

    async def explain(self, error: UselessError) -> ModelError:
        """The one message for the user, whose server this is."""
        url, variable = " or ".join(self._addresses.urls), self._settings.api_key_env
        refusal, said = error.refusal, f"{url} answers {error}"
        if error.todo:
            said, todo = f"{url}: {error}", error.todo
        elif refusal is None:
            said = f"{error}"
            todo = f"it should serve '{self.model}': start it, or correct engine.base_url"
        elif is_about_model(refusal):
            todo = await self._what_is_served(error.exchange)
        elif refusal.status in (401, 403):
            todo = f"asked for '{self.model}': "
            if self._key is None:
                todo += f"set the environment variable {variable} to a key for it"
            else:
                todo += f"it refuses the key in the environment variable {variable}"
        elif error.exchange.has_structure and is_about_structure(refusal):
            todo = (
                "it does not take the structure of the answers; leave it out of the stage's "
                "settings (structured_output, constrain)"
            )
        elif name := refused_setting(refusal, error.exchange.fields()):
            remedy = REMEDIES.get(name, LEAVE_OUT.format(name=name))
            todo = f"it does not take '{name}'; set {remedy}"
        elif refusal.code == "insufficient_quota" or refusal.status == 402:
            todo = "the account has no credit left: add some, and run again"
        else:
            todo = f"no other request for '{self.model}' would be answered either"
        return ModelError(f"model '{self._name}': {said}; {todo}")

    async def _what_is_served(self, exchange: Exchange[Any]) -> str:
        """What to do about a 404, by the list of models that the server gives."""
        wrong = "is engine.base_url right? It usually ends in /v1"
        address, patience = self._addresses.urls[0], aiohttp.ClientTimeout(CONNECT_TIMEOUT)
        url, proxy = self._url(address, "models"), self._proxies[address]
        try:
            async with self._open_session().get(url, timeout=patience, proxy=proxy) as response:
                answer = json.loads(await response.read())
            models = [str(entry["id"]) for entry in answer["data"]]
        except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError):
            return f"asked for '{self.model}'; the server gives no list of its models; {wrong}"
        if self.model in models:
            return f"it serves '{self.model}', but has no /{exchange.endpoint}; {wrong}"
        hint = nearest(self.model, models).replace("allowed:", "it serves:")
        return f"it does not serve '{self.model}' (engine.model); {hint}"

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _url(self, address: str, place: str) -> str:
        version = self._settings.api_version
        return f"{address}/{place}" + (f"?api-version={version}" if version else "")

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            own = self._settings
            headers = {"Content-Type": "application/json", **own.extra_headers}
            if self._key is not None and own.api_key_header == "Authorization":
                headers["Authorization"] = f"Bearer {self._key}"
            elif self._key is not None:
                headers[own.api_key_header] = self._key
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=own.timeout, sock_connect=CONNECT_TIMEOUT),
            )
        return self._session

    def _cost(self, n_prompt: int, n_completion: int) -> float:
        price = self._settings.price
        if price is None:
            return 0.0
        return (n_prompt * price.input + n_completion * price.output) / 1e6

    def _redacted(self, content: bytes) -> bytes:
        """Before anything is cut out of it: half a key would be left otherwise."""
        return content.replace(self._key.encode(), b"***") if self._key else content

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def read_key(variable: str) -> str | None:
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ModelError(f"the environment variable {variable} holds odd characters, not a key")
    return key or None


def _proxy(url: str) -> str | None:
    """The proxy that the environment names.

    aiohttp's own way (`trust_env`) also reads .netrc, whose entry would clash with the key.
    """
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    proxy = getproxies().get(parts.scheme)
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy
