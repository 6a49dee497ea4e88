"""The completion store: completions are kept as they arrive, and never paid for twice.

One SQLite file a workspace. A row's key is the digest of the rendered request, its sampling
settings, its seed and the model's identity. `max_tokens` is not in the key: a completion that ended
by itself is valid under any limit that it fits into, one that was cut only under that same limit.

In WAL mode with one transaction a completion, a killed process loses only what was in flight, and
several runs may share the file.
"""

from __future__ import annotations

import json
import sqlite3
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llm_distill.digests import digest, fingerprint
from llm_distill.engines.base import Completion, Request, SamplingSettings, Score, ScoreRequest
from llm_distill.engines.store.file import CONTENT, checksum, connect, is_damage, store_error

Key = tuple[bytes, int]
"""sha256 of a request without its max_tokens, and these."""

INSERT = f"""
INSERT INTO completions (key, truncated_at, model, created, checksum, {", ".join(CONTENT)})
VALUES ({", ".join("?" * (5 + len(CONTENT)))})
ON CONFLICT (key, truncated_at) DO UPDATE SET checksum = excluded.checksum,
{", ".join(f"{name} = excluded.{name}" for name in CONTENT)}
"""
SELECT = f"""
SELECT truncated_at, checksum, {", ".join(CONTENT)} FROM completions
WHERE key = ?1 AND (truncated_at = ?2 OR (truncated_at = 0 AND n_completion_tokens <= ?2))
"""
NO_LIMIT = 2**31


class CompletionStore:
    """The store's file, open. Processes may share the file, but threads not this object.

    Raises:
        WorkspaceError: by any method; the file is of a newer version, or cannot be written to.
    """

    def __init__(self, path: Path, on_damage: Callable[[str], None]) -> None:
        """on_damage: told in words when the file had to be set aside and made anew."""
        self._path, self._on_damage = path, on_damage
        self._models: dict[str, int] = {}
        self._db: sqlite3.Connection | None = None

    def find(self, key: bytes, limit: int) -> tuple[bool, list[Any]] | None:
        """Whether it was cut, and the content, of what is valid under a limit of tokens."""
        for cut, stated, *content in self._run(SELECT, (key, limit)):
            # One whose checksum is wrong is asked again; `cache verify` counts it.
            if stated == checksum(key, cut, content):
                return bool(cut), content
        return None

    def keep(self, key: bytes, cut: int, model: tuple[str, str], content: Sequence[Any]) -> None:
        """Write an answer down, over one of the same key and cut.

        cut: max_tokens where that ended it, else 0. model: (digest, name).
        """
        place = key, cut, self._model_id(*model), time.time(), checksum(key, cut, content)
        self._run(INSERT, (*place, *content))

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _model_id(self, model_digest: str, name: str) -> int:
        if model_digest not in self._models:
            values = (model_digest, name)
            self._run("INSERT OR IGNORE INTO models (digest, name) VALUES (?, ?)", values)
            ((found,),) = self._run("SELECT id FROM models WHERE digest = ?", values[:1])
            self._models[model_digest] = found
        return self._models[model_digest]

    def _run(self, sql: str, values: Sequence[Any]) -> list[Any]:
        """Execute one statement; if the file turns out to be damaged, mend it and try again."""
        try:
            return self._execute(sql, values)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise store_error(error, self._path) from error
        from llm_distill.engines.store.repair import mend

        self.close()
        self._models.clear()
        self._on_damage(mend(self._path))
        try:
            return self._execute(sql, values)
        except sqlite3.DatabaseError as error:
            raise store_error(error, self._path) from error

    def _execute(self, sql: str, values: Sequence[Any]) -> list[Any]:
        if self._db is None:
            self._db = connect(self._path)
        return self._db.execute(sql, values).fetchall()


class StoredAnswers:
    """The answers of one model in the store."""

    def __init__(self, store: CompletionStore, identity: Any, name: str) -> None:
        """identity: JSON of whatever can change what the model writes. name: for people."""
        self._store, self._model = store, (fingerprint(identity), name)
        self._settings: tuple[SamplingSettings, Any] | None = None

    def key(self, request: Request) -> Key:
        """Digest and max_tokens: equal where the model would write the same.

        Greedy decoding draws nothing, so there the seed does not count.
        """
        sampling = request.sampling
        structure = request.structure
        later: dict[str, Any] = {"tools": request.tools} if request.tools else {}
        if request.tokens:
            later["tokens"] = True
        return digest(
            {
                **later,
                "model": self._model[0],
                "prompt": request.prompt,
                "sampling": self._dumped(sampling),
                "seed": request.seed if sampling.temperature > 0 else None,
                "logprobs": request.logprobs,
                "structure": structure.model_dump(mode="json") if structure else None,
            }
        ), sampling.max_tokens

    def _dumped(self, sampling: SamplingSettings) -> Any:
        """JSON without max_tokens. A stage's requests share one object, which is dumped once."""
        if self._settings is None or self._settings[0] is not sampling:
            self._settings = (
                sampling,
                # Without settings that are null: they came later, and older keys are still found.
                sampling.model_dump(mode="json", exclude={"max_tokens"}, exclude_none=True),
            )
        return self._settings[1]

    def completion(self, key: Key, request: Request) -> Completion | None:
        """What was written for the same request before."""
        found = self._store.find(*key)
        if found is None:
            return None
        was_cut, content = found
        text, ids, logprobs, n_prompt, n_completion, _, reasoning, calls, thought_cut = content
        return Completion(
            request.id,
            text,
            "length" if was_cut else "stop",
            n_prompt,
            n_completion,
            None if logprobs is None else _numbers("d", logprobs),
            reasoning=reasoning,
            tool_calls=None if calls is None else tuple(json.loads(calls)),
            thought_cut=None if thought_cut is None else bool(thought_cut),
            token_ids=None if ids is None else _numbers("i", ids),
        )

    def keep(self, key: Key, done: Completion) -> None:
        """Write a completion down, unless it is an error."""
        if done.error is not None:
            return
        request, limit = key
        logprobs = None if done.logprobs is None else array("d", done.logprobs).tobytes()
        ids = None if done.token_ids is None else array("i", done.token_ids).tobytes()
        # Servers count thoughts too, and more than max_tokens would never be found again.
        tokens = done.n_prompt_tokens, min(done.n_completion_tokens, limit)
        calls = None if done.tool_calls is None else json.dumps(done.tool_calls)
        content = [done.text, ids, logprobs, *tokens, done.cost, done.reasoning, calls]
        content.append(None if done.thought_cut is None else int(done.thought_cut))
        cut = limit if done.finish_reason == "length" else 0
        self._store.keep(request, cut, self._model, content)

    def score_key(self, request: ScoreRequest) -> Key:
        """As `key`, for a completion that is scored."""
        asked: dict[str, Any] = {"prompt": request.prompt, "completion": request.completion}
        if request.ranks:
            asked["ranks"] = request.ranks
        if request.top_k:
            asked["top_k"] = request.top_k
        return digest({"model": self._model[0], "score": asked}), NO_LIMIT

    def score(self, key: Key, request: ScoreRequest) -> Score | None:
        """The likelihoods that were found before."""
        found = self._store.find(*key)
        if found is None:
            return None
        _, data, logprobs, n_prompt, n_tokens, *_ = found[1]
        numbers, logps = _numbers("i", data), _numbers("d", logprobs)
        n_ranks = n_tokens if request.ranks else 0
        return Score(
            request.id,
            numbers[:n_tokens],
            logps[:n_tokens],
            n_prompt,
            ranks=numbers[n_tokens : n_tokens + n_ranks],
            top_ids=numbers[n_tokens + n_ranks :],
            top_logprobs=logps[n_tokens:],
        )

    def keep_score(self, key: Key, score: Score) -> None:
        """Write likelihoods down, unless they are an error."""
        if score.error is None:
            ids = array("i", (*score.token_ids, *score.ranks, *score.top_ids)).tobytes()
            logprobs = array("d", (*score.logprobs, *score.top_logprobs)).tobytes()
            n_tokens = len(score.token_ids)
            numbers = [ids, logprobs, score.n_prompt_tokens, n_tokens, score.cost]
            self._store.keep(key[0], 0, self._model, ["", *numbers, None, None, None])


def _numbers(kind: str, data: bytes) -> tuple[Any, ...]:
    numbers: array[Any] = array(kind)
    numbers.frombytes(data)
    return tuple(numbers)
