"""Answers from a table or a function: no model, the same text for the same request every time.

A token is a word here, as white space separates them.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_distill.engines.base import (
    Completion,
    FinishReason,
    Request,
    SamplingSettings,
    Score,
    ScoreRequest,
)
from llm_distill.errors import ConfigError, DataError, ModelError, nearest
from llm_distill.paths import bundled_root, find_resource
from llm_distill.rows.records import read_jsonl

if TYPE_CHECKING:
    from llm_distill.engines.scripted.settings import ScriptedSettings
    from llm_distill.models.sources import ModelSource

LOGPROB = -1.0
"""Of each token, in nats: a table has no likelihoods, and a trial needs some."""
ROW = '{"contains": "text of a prompt", "completion": "the answer"}'
Answer = Callable[[Request], str | None]


class ScriptedEngine:
    """Answers each request by itself, in order; see `ScriptedSettings` for the two sources.

    Temperature, seed and log-probabilities mean nothing here; `stop` and `max_tokens` do. Where
    tokens are asked for, they are those of its model's tokenizer, each of LOGPROB.

    Raises:
        ConfigError: neither or both sources are set, or the one that is cannot be used.
    """

    def __init__(self, settings: ScriptedSettings, source: ModelSource | None = None) -> None:
        """source: of the model that it stands in for; needed for tokens."""
        self._stands_for = source
        if (settings.answers is None) == (settings.function is None):
            raise ConfigError(
                "a scripted engine needs one of engine.answers (a JSON Lines file) and "
                "engine.function (module:name), and not both"
            )
        if settings.answers is not None:
            self._source = settings.answers
            self._answer = _from_table(settings.answers)
        else:
            self._source = str(settings.function)
            self._answer = _from_function(self._source)

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """One completion a request. What the function raises is not caught: it is a bug in it."""
        for request in requests:
            prompt = prompt_text(request)
            text = self._answer(request)
            if text is None:
                error = f"{self._source} has no answer to a prompt that begins {prompt[:80]!r}"
                n_words = len(prompt.split())
                yield Completion(request.id, "", "error", n_words, error=error)
            elif not isinstance(text, str):
                raise ConfigError(
                    f"{self._source} returned {type(text).__name__} for request {request.id!r}; "
                    "expected a str, or None where it has no answer"
                )
            else:
                text, reason, n_words = _cut(text, request.sampling)
                done = Completion(request.id, text, reason, len(prompt.split()), n_words)
                yield self._with_tokens(done) if request.tokens else done

    def _with_tokens(self, done: Completion) -> Completion:
        assert self._stands_for is not None
        ids = self._tokenizer(done.text, add_special_tokens=False)["input_ids"]
        ids = [*ids, *[self._tokenizer.eos_token_id] * (done.finish_reason == "stop")]
        return replace(done, token_ids=tuple(ids), logprobs=(LOGPROB,) * len(ids))

    @cached_property
    def _tokenizer(self) -> Any:
        from llm_distill.models.sources import load_tokenizer

        assert self._stands_for is not None
        return load_tokenizer(self._stands_for.readable, is_alone=True)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Score]:
        """Not possible.

        Raises:
            ModelError: always; a table has no likelihoods.
        """
        raise ModelError(
            f"a scripted engine ({self._source}) has no likelihoods; score with kind: transformers"
        )

    def close(self) -> None:
        """Nothing to free."""


def prompt_text(request: Request) -> str:
    """The prompt as one text, with one chat message a line."""
    if isinstance(request.prompt, str):
        return request.prompt
    return "\n".join(message["content"] for message in request.messages)


def _cut(text: str, sampling: SamplingSettings) -> tuple[str, FinishReason, int]:
    """Text, reason and number of words after stop strings and `max_tokens`.

    Whatever comes first ends it: a stop string after the last word that is allowed is never
    reached.
    """
    starts = [text.find(stop) for stop in sampling.stop if stop in text]
    stopped = text[: min(starts)] if starts else text
    words = list(re.finditer(r"\S+", stopped))
    if len(words) > sampling.max_tokens:
        return stopped[: words[sampling.max_tokens - 1].end()], "length", sampling.max_tokens
    return stopped, "stop", len(words)


def _from_table(name: str) -> Answer:
    path = find_resource(name)
    if path is None or not path.is_file():
        raise ConfigError(
            f"engine.answers: {name} is not a file in {Path.cwd()} or among what the package "
            f"bundles ({bundled_root()}); expected JSON Lines, one {ROW} a line"
        )
    entries = list(_entries(path))
    if not entries:
        raise ConfigError(f"{path} has no entries; expected one {ROW} a line")

    def answer(request: Request) -> str | None:
        prompt = prompt_text(request)
        return next((completion for part, completion in entries if part in prompt), None)

    return answer


def _entries(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with path.open("rb") as lines:
            for place, row in read_jsonl(lines, str(path)):
                if set(row) != {"contains", "completion"}:
                    raise ConfigError(f"{place}: found {', '.join(sorted(row))}; expected {ROW}")
                for key, value in row.items():
                    if not isinstance(value, str):
                        found = json.dumps(value)
                        raise ConfigError(f"{place}: {key} is {found}; expected a string")
                yield row["contains"], row["completion"]
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except DataError as error:
        raise ConfigError(f"{error}; expected {ROW}") from error


def _from_function(name: str) -> Answer:
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise ConfigError(
            f"engine.function: {name!r} is not module:name, such as my_package.answers:reply"
        )
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the user's module raises as it is imported
        raise ConfigError(
            f"engine.function: cannot import {module_name}: {type(error).__name__}: {error}; "
            "it must be installed or on PYTHONPATH"
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        public = [n for n in vars(module) if not n.startswith("_") and callable(vars(module)[n])]
        raise ConfigError(
            f"engine.function: {module_name} has no function {attribute}; "
            f"{nearest(attribute, public)}"
        )
    answer: Answer = function
    return answer
