"""Rows scored window by window, each kept on disk as it is done: a killed stage goes on from there.

A window is what is sorted by length together. Its borders depend on the rows alone, and batches are
formed within it, so that a run that was killed computes each score as one that was not.
"""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from llm_distill.distillation.teacher.scoring import Scores, split
from llm_distill.rows.columns import Row

WINDOW_TOKENS = 2**15
"""Tokens of a window, prompts counted: what a kill can cost, a second's work on a GPU."""

log = logging.getLogger("llm_distill")


class Encoded(Protocol):
    """A row's text as tokens."""

    @property
    def ids(self) -> NDArray[np.int32]: ...


Text = TypeVar("Text", bound=Encoded)
Scorer = Callable[[Sequence[Text], Sequence[str], Callable[[int, int], None]], list[Scores]]
"""Takes texts, what to call each in a message, and `note`."""


def scored_rows(
    pairs: Iterable[tuple[Row, Text]],
    open_scorer: Callable[[], Scorer[Text]],
    n_scores: Callable[[Text], int],
    folder: Path,
    note: Callable[[int, int], None],
) -> Iterator[tuple[Row, Text, Scores]]:
    """Each row with its scores, in order.

    open_scorer: called once something has to be scored. n_scores: how many numbers of each column
        a text has, or a fixed share of them. folder: where windows are kept.
    note: called with rows and tokens as they are done; tokens of an earlier run do not count.

    Raises:
        ModelError: the scorer's.
    """
    score: Scorer[Text] | None = None
    for number, window in enumerate(_windows(pairs)):
        path = folder / f"scores-{number:06d}.npz"
        counts = np.array([n_scores(encoded) for _, encoded in window])
        scores = _saved(path, counts)
        if scores is None:
            score = score or open_scorer()
            names = [row["id"] for row, _ in window]
            scores = score([encoded for _, encoded in window], names, note)
            _save(path, counts, scores)
        else:
            note(len(window), 0)
        for (row, encoded), found in zip(window, scores, strict=True):
            yield row, encoded, found


def _windows(pairs: Iterable[tuple[Row, Text]]) -> Iterator[list[tuple[Row, Text]]]:
    window: list[tuple[Row, Text]] = []
    n_tokens = 0
    for pair in pairs:
        window.append(pair)
        n_tokens += len(pair[1].ids)
        if n_tokens >= WINDOW_TOKENS:
            yield window
            window, n_tokens = [], 0
    if window:
        yield window


def _save(path: Path, counts: Any, scores: Sequence[Scores]) -> None:
    """Whole or not at all: a temporary sibling, then one rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns: dict[str, Any] = {
        name: np.concatenate([score[name] for score in scores]) for name in scores[0]
    }
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, counts=counts, **columns)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _saved(path: Path, counts: Any) -> list[Scores] | None:
    """What was scored of these rows before; None where there is nothing that can be used."""
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
        if np.array_equal(columns.pop("counts"), counts):
            return split(columns, counts)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.debug("%s: %s", path, error)
    log.warning("%s is damaged or of other rows; they are scored again", path.name)
    return None
