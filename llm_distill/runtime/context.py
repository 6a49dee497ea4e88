"""What a running stage sees: its inputs, the models, a bar and the counters."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_distill.engines.asking import Came, complete, score
from llm_distill.engines.base import Completion, Engine, Request, Score, ScoreRequest
from llm_distill.engines.store.store import CompletionStore, StoredAnswers
from llm_distill.runtime.reader import read_rows

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.models.sources import ModelSource
    from llm_distill.rows.columns import Row
    from llm_distill.runtime.progress import StageProgress
    from llm_distill.tracking import TrackedRun

log = logging.getLogger("llm_distill")


@dataclass
class StageContext:
    """Implements `stage.Context` over resolved artifacts.

    datasets: stage -> directory of a dataset artifact.
    training: model -> the stages whose rows it was trained on, as far as this pipeline did it.
    models: reference -> where its weights are.
    engines: reference -> a function that opens its engine.
    identities: reference -> (JSON of all that can change what the model writes, name); models
        whose answers cost nothing are not among them, and nothing of them is kept.
    store: where completions are kept.
    structured: references of the models whose engines can hold a completion to a form.
    artifacts: reference -> its artifact's folder, for what a stage of the pipeline made.
    pipeline: the pipeline file as it was resolved.
    cost: what servers charged, in the currency of their price.
    """

    seed: int
    work_dir: Path
    datasets: dict[str, Path]
    training: dict[str, list[str]]
    models: dict[str, ModelSource]
    engines: dict[str, Callable[[], Engine]]
    identities: dict[str, tuple[Any, str]]
    store: Path
    progress_factory: Callable[[str, int | None, str, int], AbstractContextManager[StageProgress]]
    tracked: TrackedRun
    structured: frozenset[str] = frozenset()
    artifacts: dict[str, Path] = field(default_factory=dict)
    pipeline: Mapping[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    n_prompt_tokens: int = 0
    n_completion_tokens: int = 0
    completions: Counter[Came] = field(default_factory=Counter)
    cost: float = 0.0
    rows_read: int = 0
    _loaded: dict[str, Dataset] = field(default_factory=dict)
    _open: dict[str, Engine] = field(default_factory=dict)
    _store: CompletionStore | None = None

    def rows(self, reference: str) -> Dataset:
        from datasets import load_from_disk

        if reference not in self._loaded:
            self._loaded[reference] = load_from_disk(str(self.datasets[reference]))
            self.rows_read += len(self._loaded[reference])
        return self._loaded[reference]

    def each_row(self, reference: str) -> Iterator[Row]:
        self.rows(reference)  # which counts them as read
        return read_rows(self.datasets[reference])

    def training_rows(self, models: Sequence[str]) -> dict[str, Iterator[Row]]:
        stages = (stage for model in models for stage in self.training.get(model, ()))
        return {stage: read_rows(self.datasets[stage]) for stage in dict.fromkeys(stages)}

    def model(self, reference: str) -> ModelSource:
        return self.models[reference]

    def artifact(self, reference: str) -> Path | None:
        return self.artifacts.get(reference)

    def generate(
        self, model: str, requests: Iterable[Request], *, total: int | None = None
    ) -> Iterator[tuple[Request, Completion]]:
        """Completions in request order, from the store where they were made before."""
        with self.progress(f"generate ({model})", total) as bar:

            def note(completion: Completion, came: Came) -> None:
                made = came == "made"
                self.completions[came] += 1
                self.n_prompt_tokens += completion.n_prompt_tokens * made
                self.n_completion_tokens += completion.n_completion_tokens * made
                self.cost += completion.cost * made
                bar.advance(1, completion.n_completion_tokens * made, self.cost)

            yield from complete(requests, lambda: self._engine(model), self._stored(model), note)

    def score(
        self, model: str, requests: Iterable[ScoreRequest], *, total: int | None = None
    ) -> Iterator[tuple[ScoreRequest, Score]]:
        """As `generate`, for the likelihoods of given completions."""
        with self.progress(f"score ({model})", total) as bar:

            def note(found: Score, came: Came) -> None:
                self.completions[came] += 1
                bar.advance(1, len(found.token_ids) if came == "made" else 0)

            yield from score(requests, lambda: self._engine(model), self._stored(model), note)

    def close_engines(self) -> None:
        """Free the engines' memory."""
        for engine in self._open.values():
            engine.close()
        self._open.clear()

    def holds_structure(self, model: str) -> bool:
        return model in self.structured

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
        """Free the engines' memory, and let go of the store."""
        self.close_engines()
        self._loaded.clear()
        if self._store is not None:
            self._store.close()

    def _engine(self, model: str) -> Engine:
        if model not in self._open:
            self.close_engines()  # one model in memory at a time
            self._open[model] = self.engines[model]()
        return self._open[model]

    def _stored(self, model: str) -> StoredAnswers | None:
        if model not in self.identities:
            return None
        if self._store is None:
            self._store = CompletionStore(self.store, on_damage=self.warn)
        return StoredAnswers(self._store, *self.identities[model])
