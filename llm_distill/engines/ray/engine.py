"""Copies of an engine as actors on a Ray cluster."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from llm_distill.cluster import connect, resources
from llm_distill.doing import doing
from llm_distill.engines.base import Completion, Request, Score, ScoreRequest
from llm_distill.engines.budget import Budget
from llm_distill.engines.replicas.serving import Serving
from llm_distill.engines.replicas.sharing import Lost, Sharing
from llm_distill.errors import LLMDistillError, ModelError, first_line

if TYPE_CHECKING:
    from llm_distill.engines.ray.settings import RaySettings
    from llm_distill.models.sources import ModelSource

SECONDS_TO_COME = 600.0
"""How long a cluster may take to have room for the first copy."""
CALLS_AT_ONCE = 4
"""Of a copy's methods: one may wait in `take` while others give it requests."""
TIMES_REPLACED = 3
"""How often a copy that is lost is started anew, on whatever node has room."""


class RayEngine:
    """Requests go to all copies, and answers come back as they are made.

    Raises:
        ModelError: no cluster answers, it has no room for a copy, or a copy cannot be opened.
    """

    def __init__(self, source: ModelSource, settings: RaySettings) -> None:
        self._was_connected = ray.is_initialized()
        connect(
            settings.address,
            "engine.kind: ray",
            "leave engine.address out to start one here",
        )
        self._pool = _Pool(_anywhere(source), settings)
        try:
            self._pool.wait_for(settings.fewest_and_most()[0])
        except BaseException:
            self.close()
            raise
        self._most = settings.max_concurrency

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """See `engines.base.Engine`."""
        return Sharing[Request, Completion](self._pool, self._most).answers(requests)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Score]:
        """See `engines.base.Engine`."""
        return Sharing[ScoreRequest, Score](self._pool, self._most).answers(requests)

    def close(self) -> None:
        """End the copies; their nodes' memory is free then."""
        self._pool.close()
        if not self._was_connected:
            ray.shutdown()


class Replica:
    """A copy of the engine, as an actor. See `replicas.serving.Serving`."""

    def __init__(self, source: ModelSource, settings: RaySettings) -> None:
        self._serving = Serving(lambda: settings.engine.open(source, Budget(None)))

    def ready(self) -> str:
        """The node that it is on, once it is open."""
        node = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        try:
            self._serving.ready()
        except LLMDistillError as error:
            raise ModelError(f"on node {node}: {error}") from error
        return str(node)

    def give(self, requests: Sequence[Request | ScoreRequest]) -> None:
        self._serving.give(requests)

    def take(self) -> list[Completion | Score]:
        return self._serving.take()


class _Pool:
    """See `replicas.sharing.Pool`."""

    def __init__(self, source: ModelSource, settings: RaySettings) -> None:
        n_gpus = settings.num_gpus
        if n_gpus is None:
            n_gpus = settings.gpus_used() if resources().get("GPU") else 0
        self._needs = {"CPU": settings.num_cpus, "GPU": n_gpus}
        self._given = source, settings
        kind: Any = ray.remote(Replica)
        self._kind = kind.options(
            num_cpus=settings.num_cpus, num_gpus=n_gpus, max_concurrency=CALLS_AT_ONCE
        )
        self._actors: dict[int, Any] = {}
        self._opening: dict[Any, int] = {}
        self._taking: dict[Any, int] = {}
        self._replaced = 0
        for number in range(settings.fewest_and_most()[1]):
            self._start(number)

    def wait_for(self, wanted: int) -> None:
        """Until as many are open.

        Raises:
            ModelError: they do not come.
        """
        until = time.monotonic() + SECONDS_TO_COME
        with doing(f"open copies of {self._given[0].name}", wanted, "copies") as bar:
            while len(self._taking) < wanted:
                done, _ = ray.wait(list(self._opening), timeout=max(0.0, until - time.monotonic()))
                if not done:
                    raise ModelError(self._no_room(len(self._taking), wanted))
                self._opened(done[0])
                bar.advance()

    def ready(self) -> list[int]:
        if self._opening:
            for reference in ray.wait(list(self._opening), num_returns=1, timeout=0)[0]:
                self._opened(reference)
        if not self._taking:
            self.wait_for(1)
        return list(self._taking.values())

    def give(self, replica: int, requests: Sequence[Any]) -> None:
        self._actors[replica].give.remote(list(requests))

    def wait(self) -> Iterator[tuple[int, Sequence[Any] | Lost]]:
        """A copy that opens meanwhile is no message: then nothing is given."""
        done, _ = ray.wait([*self._taking, *self._opening])
        for reference in done:
            if reference in self._opening:
                self._opened(reference)
                continue
            number = self._taking.pop(reference)
            try:
                answers: Sequence[Any] = ray.get(reference)
            except RayActorError as error:
                self._lost(number, error)
                yield number, Lost()
                continue
            except RayTaskError as error:
                raise _cause(error) from None
            self._take(number)
            yield number, answers

    def close(self) -> None:
        for actor in self._actors.values():
            ray.kill(actor)

    def _start(self, number: int) -> None:
        self._actors[number] = self._kind.remote(*self._given)
        self._opening[self._actors[number].ready.remote()] = number

    def _take(self, number: int) -> None:
        self._taking[self._actors[number].take.remote()] = number

    def _opened(self, reference: Any) -> None:
        number = self._opening.pop(reference)
        try:
            ray.get(reference)
        except RayTaskError as error:
            raise _cause(error) from None
        except RayActorError as error:
            self._lost(number, error)
            return
        self._take(number)

    def _lost(self, number: int, error: RayActorError) -> None:
        """Start it anew, on whatever node has room, unless that has been of no use.

        Raises:
            ModelError: copies die again and again.
        """
        self._replaced += 1
        if self._replaced > TIMES_REPLACED * len(self._actors):
            raise ModelError(
                f"{self._replaced} times a copy of the engine has died on the cluster, the last "
                f"one with: {first_line(error)}; see Ray's logs on that node"
            )
        self._start(number)

    def _no_room(self, found: int, wanted: int) -> str:
        needs = ", ".join(f"{name}: {n:g}" for name, n in self._needs.items() if n)
        has = resources()
        there = ", ".join(f"{name}: {has.get(name, 0):g}" for name in self._needs)
        return (
            f"after {SECONDS_TO_COME:.0f} s the cluster has room for {found} of {wanted} copies of "
            f"the engine, which need {needs} each; it has {there} in all. Lower engine.replicas, "
            "engine.num_cpus or engine.num_gpus, or add nodes"
        )


def _anywhere(source: ModelSource) -> ModelSource:
    """With paths that mean the same in any folder, where the nodes share a file system."""
    if not source.is_local:
        return source
    adapters = tuple(str(Path(adapter).absolute()) for adapter in source.adapters)
    return replace(source, path=str(Path(source.path).absolute()), adapters=adapters)


def _cause(error: RayTaskError) -> BaseException:
    """What was raised on the node."""
    cause = error.cause
    return cause if isinstance(cause, LLMDistillError) else error
