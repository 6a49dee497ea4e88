"""How long a stage's prompts are: it is given rows that are there, and an engine that only counts.

Nothing is asked, and no weights are loaded. Heavy packages are imported here, so this is imported
where there are rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llm_distill.engines.base import Completion, Request, Score, ScoreRequest
from llm_distill.engines.codec import Codec
from llm_distill.errors import LLMDistillError
from llm_distill.methods.chat_format import ChatFormat
from llm_distill.models.sources import ModelSource
from llm_distill.runtime.context import ModelInput, StageContext, StageInputs
from llm_distill.runtime.estimate import CountedBy, Prompts
from llm_distill.runtime.resolve import Resolver
from llm_distill.stage import RowsOutput, Stage, models_of, rows_of
from llm_distill.stages.load_dataset import LoadDataset
from llm_distill.tracking import TrackedRun

SIZES = (200, 100, 50, 20)
"""Rows of each input that are looked at; fewer where each has many requests."""
MOST_REQUESTS = 2_000
CHARACTERS = 4
"""A token's, where there is no tokenizer."""
NO_LIMIT = 10**9

log = logging.getLogger("llm_distill")


class EnoughError(Exception):
    """All requests are counted; what a stage makes of the answers takes time and means nothing."""


@dataclass
class Counting:
    """An engine that counts the tokens of prompts, and answers each with a dot.

    left: requests that are still to come, in one list for all engines of a stage.
    answered: those that the model could be asked.
    """

    codec: Codec | None
    left: list[int]
    tokens: float = 0
    requests: int = 0
    answered: int = 0

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for request in requests:
            tokens, error = self._read(request)
            self.tokens += tokens
            self.requests += 1
            self.answered += error is None
            self.left[0] -= 1
            if self.left[0] == 0 and (error is None or self.answered):
                raise EnoughError
            if error is None:
                yield Completion(request.id, ".", "stop")
            else:
                yield Completion(request.id, "", "error", error=error)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Score]:
        for request in requests:
            yield Score(request.id)

    def close(self) -> None: ...

    def _read(self, request: Request) -> tuple[float, str | None]:
        """The prompt's tokens, and why the model cannot be asked."""
        if self.codec is not None:
            read = self.codec.read(request)
            if isinstance(read, Completion):
                return read.n_prompt_tokens, read.error
            return len(read.tokens), None
        prompt = request.prompt
        texts = (
            [prompt]
            if isinstance(prompt, str)
            else [str(m.get("content")) for m in request.messages]
        )
        is_empty = not any(text.strip() for text in texts)
        texts += [str(tool) for tool in request.tools]
        return sum(map(len, texts)) / CHARACTERS, "the prompt is empty" if is_empty else None

    @property
    def found(self) -> Prompts | None:
        by: CountedBy = "characters" if self.codec is None else "tokenizer"
        return Prompts(self.tokens, self.requests, by) if self.requests else None


@dataclass(frozen=True)
class Tried:
    """error: what the stage ended with, over a prompt or over an answer that is a dot."""

    engines: Mapping[str, Counting]
    error: Exception | None

    @property
    def answered(self) -> int:
        return sum(engine.answered for engine in self.engines.values())


@dataclass
class Sampler:
    """Counts the prompts of stages whose rows are there: made before, or in files of this machine.

    resolver: with the artifacts that are reused. folder_of: where a model's files are, or None.
    """

    resolver: Resolver
    folder_of: Callable[[str], Path | None]
    _codecs: dict[str, Codec | None] = field(default_factory=dict)

    def prompts(self, name: str, rows: Mapping[str, int | None]) -> dict[str, Prompts]:
        """By model; without one of which nothing is known. rows: how many each input has."""
        stage = self.resolver.pipeline.stages[name]
        tried = self.tried(name, stage, *_sample_size(stage, rows))
        if tried.error is not None:  # a stage may stumble over dots; what was counted is counted
            log.debug("prompts of %s: %s", name, tried.error, exc_info=tried.error)
        return {model: e.found for model, e in tried.engines.items() if e.found is not None}

    def tried(self, name: str, stage: Stage, size: int, n_requests: int) -> Tried:
        """What becomes of a stage with the first rows of each input, and no more requests."""
        left = [n_requests]
        engines = {model: Counting(self._codec(model), left) for model in models_of(stage)}
        error: Exception | None = None
        logger_was = log.disabled
        log.disabled = True  # what the stage would warn of, it warns of in the run
        try:
            with TemporaryDirectory(prefix="llm-distill-") as folder:
                self._run(name, stage, engines, size, Path(folder))
        except EnoughError:
            pass
        except Exception as stumbled:
            error = stumbled
        finally:
            log.disabled = logger_was
        return Tried(engines, error)

    def _run(
        self, name: str, stage: Stage, engines: Mapping[str, Counting], size: int, folder: Path
    ) -> None:
        rows = {target: self._sample(target, size, folder) for target in rows_of(stage)}
        inputs = StageInputs(
            seed=self.resolver.pipeline.seed_of(name),
            work_dir=folder,
            store=folder / "none",
            tracked=TrackedRun("", "", folder),
            rows=rows,
            models={model: self._input(model) for model in engines},
            pipeline=self.resolver.pipeline.resolved,
        )
        by_input = {id(inputs.models[model]): engine for model, engine in engines.items()}
        context = StageContext(inputs, lambda m: by_input[id(m)], _no_bar)
        output = stage.run(context)
        if isinstance(output, RowsOutput):
            for _ in output.rows:
                pass

    def _sample(self, name: str, size: int, folder: Path) -> Path:
        """Rows of what is there, evenly spread; or the first that a file has."""
        from datasets import Dataset, load_from_disk

        target = folder / name
        artifact = self.resolver.ready.get(name)
        if artifact is not None:
            there: Any = load_from_disk(str(artifact.path))
            n = len(there)
            if n <= size:
                return artifact.path
            chosen = there.select([i * n // size for i in range(size)])
        else:
            stage = self.resolver.pipeline.stages[name]
            assert isinstance(stage, LoadDataset)
            stage = stage.model_copy(update={"limit": min(stage.limit or size, size)})
            inputs = StageInputs(0, folder, folder / "none", TrackedRun("", "", folder))
            output: Any = stage.run(StageContext(inputs, _no_engine, _no_bar))
            chosen = Dataset.from_list(list(islice(output.rows, size)), output.features)
        chosen.save_to_disk(str(target), num_shards=1)
        return target

    def _input(self, model: str) -> ModelInput:
        """Without an identity nothing is looked up, or kept."""
        return ModelInput(self._source(model), self.resolver.model_config(model).engine)

    def _source(self, model: str) -> ModelSource:
        stages = self.resolver.pipeline.stages
        while model in stages and model not in self.resolver.ready:
            model = models_of(stages[model])[0]  # its tokenizer, and how it is spoken to
        return self.resolver.model(model)

    def _codec(self, model: str) -> Codec | None:
        if model not in self._codecs:
            folder = self.folder_of(model)
            is_there = folder is not None and (folder / "tokenizer.json").is_file()
            self._codecs[model] = _codec(self._source(model), folder) if is_there else None
        return self._codecs[model]


def _codec(source: ModelSource, folder: Path | None) -> Codec | None:
    """How a model reads prompts. The class of tokenizers that needs no torch."""
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(str(folder))
    except Exception as error:  # files of others: whatever the library makes of them
        log.debug("no tokenizer in %s: %s", folder, error)
        return None
    if source.chat_template is not None:
        tokenizer.chat_template = source.chat_template
    chat = ChatFormat(tokenizer, source.system_role == "fold", source.today)
    return Codec(source.name, tokenizer, frozenset(), NO_LIMIT, "skip", chat)


def _sample_size(stage: Stage, rows: Mapping[str, int | None]) -> tuple[int, int]:
    """The most rows of each input with which the requests do not become too many, and these."""
    n_requests = 0
    for size in SIZES:
        asked = stage.most_asked({name: min(n or size, size) for name, n in rows.items()}) or {}
        n_requests = sum(n for n, _ in asked.values())
        if n_requests <= MOST_REQUESTS:
            return size, n_requests
    return SIZES[-1], n_requests


def _no_engine(model: ModelInput) -> Any:
    raise LLMDistillError("a stage that reads a file asks no model")


def _no_bar(description: str, total: int | None, unit: str, done: int) -> Any:
    return nullcontext(_NoBar())


class _NoBar:
    def advance(
        self, n: int = 1, tokens: int = 0, cost: float = 0.0, requests: int | None = None
    ) -> None: ...
