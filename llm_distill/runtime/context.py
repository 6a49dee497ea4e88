"""What a running stage sees: its inputs, the models, a bar and the counters."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from llm_distill.engines.asking import Came, complete, score
from llm_distill.engines.base import (
    AdapterEngine,
    Completion,
    Engine,
    Request,
    Score,
    ScoreRequest,
)
from llm_distill.engines.budget import Budget
from llm_distill.engines.store.store import CompletionStore, StoredAnswers
from llm_distill.runtime.hardware import this_machine
from llm_distill.runtime.side_by_side import fit_side_by_side
from llm_distill.runtime.writer import read_rows

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.engines.settings import EngineSettings
    from llm_distill.models.sources import ModelSource
    from llm_distill.rows.columns import Row
    from llm_distill.runtime.progress import MakeProgress
    from llm_distill.stage import Progress
    from llm_distill.tracking import TrackedRun

log = logging.getLogger("llm_distill")


@dataclass(frozen=True)
class ModelInput:
    """A model that a stage asks, scores with or trains, as the pipeline resolved it.

    identity: (JSON of all that can change what the model writes, name), under which its answers are
        kept; None where they cost nothing and are not kept.
    trained_on: the stages whose rows it was trained on, as far as this pipeline did it.
    artifact: the folder of what a stage of the pipeline made; None for a model from outside.
    """

    source: ModelSource
    engine: EngineSettings
    identity: tuple[Any, str] | None = None
    trained_on: tuple[str, ...] = ()
    artifact: Path | None = None

    def with_adapter(self, adapter: Path) -> ModelInput:
        """The same with one more adapter."""
        source = replace(self.source, adapters=(*self.source.adapters, str(adapter)))
        return replace(self, source=source, identity=None)


@dataclass(frozen=True)
class StageInputs:
    """Everything that a stage is given to run; it can be sent to another process.

    seed: the pipeline's, or its round's.
    rows: by stage, the folder of its rows: what is read, and what the models were trained on.
    models: by reference.
    store: where completions are kept.
    pipeline: the pipeline file as it was resolved.
    budget: a copy of the run's, for another process to spend from.
    log: the stage's log; those of other processes that share its work lie beside it.
    """

    seed: int
    work_dir: Path
    store: Path
    tracked: TrackedRun
    rows: Mapping[str, Path] = field(default_factory=dict)
    models: Mapping[str, ModelInput] = field(default_factory=dict)
    pipeline: Mapping[str, Any] = field(default_factory=dict)
    budget: Budget = field(default_factory=lambda: Budget(None))
    log: Path | None = None


@dataclass
class StageContext:
    """Implements `stage.Context` over what a stage is given, and counts what it does.

    cost: what servers charged, in the currency of their price.
    failed: answers that a server did not give, and may give another time.
    """

    inputs: StageInputs
    open_engine: Callable[[ModelInput], Engine]
    make_progress: MakeProgress
    metrics: dict[str, Any] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    n_prompt_tokens: int = 0
    n_completion_tokens: int = 0
    completions: Counter[Came] = field(default_factory=Counter)
    tokens_by_model: Counter[str] = field(default_factory=Counter)
    cost: float = 0.0
    failed: int = 0
    rows_read: int = 0
    _loaded: dict[str, Dataset] = field(default_factory=dict)
    _open: dict[tuple[str, bool], Engine] = field(default_factory=dict)
    _laid_over: dict[str, Path] = field(default_factory=dict)
    _in_turn: frozenset[str] = frozenset()
    _store: CompletionStore | None = None

    @property
    def seed(self) -> int:
        return self.inputs.seed

    @property
    def work_dir(self) -> Path:
        return self.inputs.work_dir

    @property
    def tracked(self) -> TrackedRun:
        return self.inputs.tracked

    @property
    def pipeline(self) -> Mapping[str, Any]:
        return self.inputs.pipeline

    def rows(self, reference: str) -> Dataset:
        from datasets import load_from_disk

        if reference not in self._loaded:
            self._loaded[reference] = load_from_disk(str(self.inputs.rows[reference]))
            self.rows_read += len(self._loaded[reference])
        return self._loaded[reference]

    def each_row(self, reference: str) -> Iterator[Row]:
        self.rows(reference)  # which counts them as read
        return read_rows(self.inputs.rows[reference])

    def training_rows(self, models: Sequence[str]) -> dict[str, Iterator[Row]]:
        stages = (stage for model in models for stage in self.inputs.models[model].trained_on)
        return {stage: read_rows(self.inputs.rows[stage]) for stage in dict.fromkeys(stages)}

    def model(self, reference: str) -> ModelSource:
        return self.inputs.models[reference].source

    def artifact(self, reference: str) -> Path | None:
        model = self.inputs.models.get(reference)
        return model.artifact if model is not None else self.inputs.rows[reference]

    def generate(
        self,
        model: str,
        requests: Iterable[Request],
        *,
        total: int | None = None,
        adapter: Path | None = None,
    ) -> Iterator[tuple[Request, Completion]]:
        with self.progress(f"generate ({model})", total) as bar:

            def note(completion: Completion, came: Came) -> None:
                made = came == "made"
                self.completions[came] += 1
                self.failed += completion.is_passing
                self.n_prompt_tokens += completion.n_prompt_tokens * made
                self.n_completion_tokens += completion.n_completion_tokens * made
                self.tokens_by_model[model] += completion.n_completion_tokens
                self.cost += completion.cost * made
                bar.advance(1, completion.n_completion_tokens * made, self.cost, int(made))

            stored = self._stored(model) if adapter is None else None
            yield from complete(requests, lambda: self._engine(model, adapter), stored, note)

    def score(
        self, model: str, requests: Iterable[ScoreRequest], *, total: int | None = None
    ) -> Iterator[tuple[ScoreRequest, Score]]:
        with self.progress(f"score ({model})", total) as bar:

            def note(found: Score, came: Came) -> None:
                made = came == "made"
                self.completions[came] += 1
                self.failed += found.is_passing
                self.cost += found.cost * made
                bar.advance(1, len(found.token_ids) * made, self.cost, int(made))

            yield from score(requests, lambda: self._engine(model), self._stored(model), note)

    def ask_in_turn(self, models: Iterable[str]) -> None:
        wanted = frozenset(models)
        given = [self.inputs.models[name] for name in wanted]
        if fit_side_by_side([(each.source, each.engine) for each in given], this_machine()):
            self._in_turn = wanted

    def close_engines(self) -> None:
        for engine in self._open.values():
            engine.close()
        self._open.clear()
        self._laid_over.clear()

    def holds_structure(self, model: str) -> bool:
        return self.inputs.models[model].engine.answering().holds_structure

    def drop(self, reason: str, count: int = 1) -> None:
        if count:
            self.dropped[reason] += count

    def warn(self, message: str) -> None:
        self.warnings.append(message)
        log.warning(message)

    def progress(
        self, description: str, total: int | None = None, unit: str = "rows", done: int = 0
    ) -> AbstractContextManager[Progress]:
        return self.make_progress(description, total, unit, done)

    def close(self) -> None:
        """Free the engines' memory, and let go of the store."""
        self.close_engines()
        self._loaded.clear()
        if self._store is not None:
            self._store.close()

    def _engine(self, model: str, adapter: Path | None = None) -> Engine:
        given = self.inputs.models[model]
        if adapter is not None:
            given = given.with_adapter(adapter)
        key = model, adapter is not None  # a student may also be asked as it is without
        if key not in self._open:
            if not self._in_turn.issuperset((model, *(name for name, _ in self._open))):
                self.close_engines()  # one model in memory at a time
            self._open[key] = self.open_engine(given)
        elif adapter is not None and self._laid_over[model] != adapter:
            cast("AdapterEngine", self._open[key]).change_adapters(given.source)
        if adapter is not None:
            self._laid_over[model] = adapter
        return self._open[key]

    def _stored(self, model: str) -> StoredAnswers | None:
        identity = self.inputs.models[model].identity
        if identity is None:
            return None
        if self._store is None:
            self._store = CompletionStore(self.inputs.store, on_damage=self.warn)
        return StoredAnswers(self._store, *identity)
