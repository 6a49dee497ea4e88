"""What a running stage sees: its inputs, the models, a bar and the counters."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_distill.engines.base import Completion, Engine, Request

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.models import ModelSource
    from llm_distill.runtime.progress import StageProgress

log = logging.getLogger("llm_distill")


@dataclass
class StageContext:
    """Implements `stage.Context` over resolved artifacts.

    datasets: reference -> directory of a dataset artifact.
    models: reference -> where its weights are.
    engines: reference -> a function that opens its engine.
    """

    seed: int
    work_dir: Path
    datasets: dict[str, Path]
    models: dict[str, ModelSource]
    engines: dict[str, Callable[[], Engine]]
    progress_factory: Callable[[str, int | None, str, int], AbstractContextManager[StageProgress]]
    metrics: dict[str, Any] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    n_prompt_tokens: int = 0
    n_completion_tokens: int = 0
    rows_read: int = 0
    _loaded: dict[str, Dataset] = field(default_factory=dict)
    _open: dict[str, Engine] = field(default_factory=dict)

    def rows(self, reference: str) -> Dataset:
        from datasets import load_from_disk

        if reference not in self._loaded:
            self._loaded[reference] = load_from_disk(str(self.datasets[reference]))
            self.rows_read += len(self._loaded[reference])
        return self._loaded[reference]

    def model(self, reference: str) -> ModelSource:
        return self.models[reference]

    def generate(
        self, model: str, requests: Iterable[Request], *, total: int | None = None
    ) -> Iterator[tuple[Request, Completion]]:
        """Completions in request order. What arrives early waits; ids must be unique."""
        engine = self._engine(model)
        waiting: list[Request] = []
        arrived: dict[str, Completion] = {}
        asked: set[str] = set()

        def recorded() -> Iterator[Request]:
            for request in requests:
                if request.id in asked:
                    raise ValueError(f"request id {request.id!r} is used twice")
                asked.add(request.id)
                waiting.append(request)
                yield request

        next_index = 0
        with self.progress(f"generate ({model})", total) as bar:
            for completion in engine.generate(recorded()):
                self.n_prompt_tokens += completion.n_prompt_tokens
                self.n_completion_tokens += completion.n_completion_tokens
                bar.advance(1, completion.n_completion_tokens)
                arrived[completion.id] = completion
                while next_index < len(waiting) and waiting[next_index].id in arrived:
                    request = waiting[next_index]
                    yield request, arrived.pop(request.id)
                    next_index += 1
                if next_index > 4096:
                    del waiting[:next_index]
                    next_index = 0
        if next_index < len(waiting):
            raise RuntimeError(f"the engine lost request {waiting[next_index].id!r}")

    def drop(self, reason: str, count: int = 1) -> None:
        self.dropped[reason] += count

    def warn(self, message: str) -> None:
        self.warnings.append(message)
        log.warning(message)

    def progress(
        self, description: str, total: int | None = None, unit: str = "rows", done: int = 0
    ) -> AbstractContextManager[StageProgress]:
        return self.progress_factory(description, total, unit, done)

    def close(self) -> None:
        """Free the engines' memory."""
        for engine in self._open.values():
            engine.close()
        self._open.clear()
        self._loaded.clear()

    def _engine(self, model: str) -> Engine:
        if model not in self._open:
            for other in self._open.values():  # one model in memory at a time
                other.close()
            self._open.clear()
            self._open[model] = self.engines[model]()
        return self._open[model]
