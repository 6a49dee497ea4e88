"""Completions from a server that speaks OpenAI's protocol, as many at once as it takes.

There are no threads: the engine's own event loop runs only while somebody waits for the next
completion. It uses aiohttp, since the official client spends several times the processor time on a
request, which would limit the rows a second.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Generic

from llm_distill.engines.base import Completion, Request, Score, ScoreRequest
from llm_distill.engines.openai.exchange import Answer, Exchange, Writing
from llm_distill.engines.openai.failures import UselessError
from llm_distill.engines.openai.hot_loading import served_with
from llm_distill.engines.openai.scoring import PROBE, Probe, Reading, Scoring
from llm_distill.engines.openai.server import Server, read_key
from llm_distill.errors import BudgetError, ConfigError, ModelError
from llm_distill.methods.chat_format import folded

if TYPE_CHECKING:
    from llm_distill.engines.budget import Budget
    from llm_distill.engines.codec import Codec
    from llm_distill.engines.openai.settings import OpenAISettings
    from llm_distill.models.sources import ModelSource


class OpenAIEngine:
    """Text for prompts, chat completions for messages; see `docs/engines.md`.

    Raises:
        ConfigError: there is a limit to the cost, but no price.
    """

    def __init__(self, settings: OpenAISettings, source: ModelSource, budget: Budget) -> None:
        if budget.limit is not None and settings.price is None:
            raise ConfigError(
                f"model '{source.name}': --max-cost needs engine.price: {{input, output}}, "
                "per million tokens; price: {input: 0, output: 0} where it costs nothing"
            )
        self._name, self._source, self._settings = source.name, source, settings
        self._most = settings.max_concurrency
        self._folds_system = source.system_role == "fold"
        self._server = Server(settings, source.name, self._served(source), budget)
        self._flights: set[_Flight[Any]] = set()
        self._scorer: Codec | None = None
        self._gives_ids = False
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_report)

    def _served(self, source: ModelSource) -> str:
        """What the server calls a model; its adapters are loaded before, where it takes any."""
        settings = self._settings
        if settings.adapters is None:
            return settings.served_name(source.path)
        return served_with(settings, source, read_key(settings.api_key_env))

    def change_adapters(self, source: ModelSource) -> None:
        """See `engines.base.AdapterEngine`."""
        self._source = source
        self._server.model = self._served(source)

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Completions as they come.

        Raises:
            ModelError: the server is not there, or will answer no request, or does not give the ids
                of tokens that are asked for.
            BudgetError: the budget does not hold the next request; all that were sent are answered.
        """
        source = iter(requests)
        first = next(source, None)
        if first is None:
            return
        if first.tokens and not self._gives_ids:
            self._check_ids(first)
        yield from self._answers(map(Writing, self._spoken(chain([first], source))), deque())

    def _check_ids(self, first: Request) -> None:
        """Ask for one token in the form of `first`, so that no row is paid for in vain.

        At each address: servers of one model may be started differently.
        """
        sampling = first.sampling.model_copy(update={"max_tokens": 1})
        chat = [{"role": "user", "content": "What is 1 + 1?"}]
        prompt: Any = chat if first.is_chat else "1 + 1 ="
        request = Request("probe", prompt, sampling, tokens=True)
        for at in self._server.to_ask():
            (found,) = self._answers(iter([Writing(request, at)]), deque())
            why = found.error or ""
            if self._server.left_out(at):
                continue
            if "token_ids" in why or "log-prob" in why or "logprob" in why:
                raise ModelError(
                    f"{self._named(at)}: its server does not give the ids of the tokens that it "
                    f"writes (return_token_ids), as vLLM's does: {why}; write with kind: "
                    "transformers, vllm or vllm_server, or leave keep_tokens "
                    "(rollouts.writer: engine) out"
                )
        self._gives_ids = True

    def _answers(
        self, exchanges: Iterator[Exchange[Answer]], known: deque[Answer]
    ) -> Iterator[Answer]:
        """Answers as they come. known: those that nobody has to be asked for; filled meanwhile."""
        flight = _Flight(self._loop, self._server, exchanges, self._most)
        self._flights.add(flight)
        n_came = 0
        try:
            while True:
                flight.fill()
                while known:
                    yield known.popleft()
                if flight.is_over:
                    break
                flight.wait()
                if flight.done:
                    n_came += 1
                    yield flight.done.popleft()
            if flight.useless is not None:
                flight.cancel()
                explanation = self._server.explain(flight.useless)
                raise self._loop.run_until_complete(explanation) from flight.useless
            if flight.refusal is not None:
                raise BudgetError(
                    f"model '{self._name}': {flight.refusal}; {n_came} answers came. "
                    "A higher --max-cost goes on from here"
                )
        finally:
            flight.cancel()
            self._flights.discard(flight)

    def _spoken(self, requests: Iterable[Request]) -> Iterator[Request]:
        for request in requests:
            if self._folds_system and request.is_chat:
                request = replace(request, prompt=folded(request.prompt))  # type: ignore[arg-type]
            yield request

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Score]:
        """Scores as they come, from vLLM's server; the tokenizer is loaded here.

        Before the first each server is asked for a text whose tokens are known: `scoring.Probe`.

        Raises:
            ModelError: the server gives no likelihoods, or those of another model; or as `generate`
                says.
            BudgetError: as `generate` says.
        """
        source = iter(requests)
        first = next(source, None)
        if first is None:
            return
        codec = self._scorer = self._scorer or self._probed(first)
        known: deque[Score] = deque()

        def exchanges() -> Iterator[Scoring]:
            for request in chain([first], source):
                row = codec.read_scored(request)
                if isinstance(row, Score):
                    known.append(row)
                    continue
                yield Scoring(row)

        yield from self._answers(exchanges(), known)

    def _probed(self, first: ScoreRequest) -> Codec:
        """What reads texts as the server does; it was asked at each address whether it does."""
        from llm_distill.engines.openai.tokens import codec_and_ids

        source = self._source.readable
        codec, ids = codec_and_ids(source, PROBE)
        probe = Probe(source.path, ids)
        for at in self._server.to_ask():
            (read,) = self._answers(iter([Reading(at=at)]), deque())
            request = probe.forced(first.ranks, first.top_k, at)
            (forced,) = self._answers(iter([request]), deque())
            if self._server.left_out(at):
                continue
            why_not = probe.why_not(read, forced, request.n_likeliest)
            if why_not is not None:
                raise ModelError(f"{self._named(at)}: {why_not}")
        return codec

    def _named(self, at: str | None) -> str:
        return f"model '{self._name}'" + (f" at {at}" if at is not None else "")

    def close(self) -> None:
        """Close all connections, even of requests that nobody waits for any more."""
        if self._loop.is_closed():
            return
        for flight in self._flights:
            flight.cancel()
        self._loop.run_until_complete(self._server.close())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


class _Flight(Generic[Answer]):
    """The requests of one `generate` or `score` that are in flight, and the answers that came.

    Attributes:
        done: answers that nobody has taken yet.
        refusal: why the budget does not hold the next request.
        useless: why no request will be answered.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        server: Server,
        source: Iterator[Exchange[Answer]],
        most: int,
    ) -> None:
        self.done: deque[Answer] = deque()
        self.refusal: BudgetError | None = None
        self.useless: UselessError | None = None
        self._loop = loop
        self._server = server
        self._source = source
        self._most = most
        self._next: Exchange[Answer] | None = None
        self._bug: BaseException | None = None
        self._is_closed = self._is_given_up = False
        self._tasks: set[asyncio.Task[Answer]] = set()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come, or should: answers that are here are taken first."""
        return not self.done and (not self._tasks or self.useless is not None)

    def fill(self) -> None:
        """Send requests until as many are in flight as may be, or the budget refuses the next.

        A refused request is tried again when answers come, which cost less than their worst case.
        Answers that nobody has taken count too, since they are not stored yet: a process that is
        killed loses no more than may be in flight.
        """
        while not self._is_closed and len(self._tasks) + len(self.done) < self._most:
            if self._next is None:
                self._next = next(self._source, None)
                if self._next is None:
                    self._is_closed = True
                    return
            try:
                reserved = self._server.reserve(self._next)
            except BudgetError as error:
                self.refusal = error
                return
            self.refusal = None
            task = self._loop.create_task(self._server.answer(self._next, reserved))
            task.add_done_callback(self._ended)
            self._tasks.add(task)
            self._next = None

    def wait(self) -> None:
        """Run the loop until a completion is here; if one is, for one pass.

        That pass sends what was just filled in and reads what has come meanwhile, so that the
        server is kept busy while the completions are taken one by one. The loop is stopped and
        started by hand: a task for each wait would cost as much as the request's own.
        """
        if self.done:
            self._loop.stop()
        self._loop.run_forever()
        if self._bug is not None:
            raise self._bug

    def cancel(self) -> None:
        """Give up what is in flight, and wait until it has let go of its connection."""
        self._is_given_up = True
        while self._tasks and not self._loop.is_closed():
            for task in self._tasks:
                task.cancel()
            # A stop that was asked for just before Ctrl-C came ends the first try.
            with suppress(RuntimeError):
                self._loop.run_until_complete(asyncio.wait(set(self._tasks)))

    def _ended(self, task: asyncio.Task[Answer]) -> None:
        self._tasks.discard(task)
        if not self._is_given_up:
            self._loop.stop()
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self.done.append(task.result())
            return
        self._is_closed = True
        if isinstance(error, UselessError):
            self.useless = self.useless or error
        elif isinstance(error, BudgetError):
            self.refusal = error
        else:
            self._bug = error


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report what went wrong in a task, but not a Ctrl-C: that is being handled already."""
    if not isinstance(context.get("exception"), (KeyboardInterrupt, SystemExit)):
        loop.default_exception_handler(context)
