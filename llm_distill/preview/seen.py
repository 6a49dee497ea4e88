"""What a preview shows of a stage: counts, the first rows, and what was dropped and why.

answers   3 rows in, 2 out; dropped: no <ans> 1
  seeds-0-0   prompt …   completion …   answer 4
  seeds-1-0   dropped: no <ans>   completion …
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from llm_distill.errors import DataError, counted
from llm_distill.methods.parsed_rows import ParseSettings
from llm_distill.methods.verified_rows import VerifySettings
from llm_distill.preview.walk import Walked
from llm_distill.rows.columns import SEED, Row
from llm_distill.rows.messages import is_conversation, speaker_of
from llm_distill.runtime.artifact import Artifact
from llm_distill.runtime.writer import read_rows
from llm_distill.stage import Stage
from llm_distill.stages.generate import Generate
from llm_distill.stages.parse import Parse
from llm_distill.stages.verify import Verify

FIRST = ("messages", "prompt", "completion", "reasoning")
"""Columns that are shown before the others."""
NOT_SHOWN = ("id", "parent_id", "candidate_index")
FAILED = ("error", "finish_reason")
"""Columns that say what the reason of a dropped row says."""
MAIN = ("question", "messages", "prompt", "completion", "text")
"""Of these the first is shown of a row to which a stage has added nothing."""
LONG = 20
"""Characters of a text that is not repeated."""
MOST_LOOKED_AT = 1000
"""Rows of an input that are looked for among those that are kept."""


@dataclass(frozen=True)
class SeenRow:
    """texts: by column, in the order to show them. why: it was dropped, and for this."""

    id: str
    texts: Mapping[str, str]
    why: str | None = None


@dataclass(frozen=True)
class Seen:
    """A stage. why: it was passed over. facts: counts, for people."""

    name: str
    kind: str
    why: str = ""
    facts: str = ""
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()
    rows: Sequence[SeenRow] = ()
    dropped: Sequence[SeenRow] = field(default=())


def seen(walked: Walked, n: int) -> Seen:
    """The first `n` rows that a stage gives, and the first `n` that it drops."""
    kind = walked.stage.stage
    if walked.artifact is None:
        return Seen(walked.name, kind, walked.why, notes=walked.notes)
    made = walked.artifact.manifest
    before = _by_id(walked.rows)
    kept = read_rows(walked.artifact.path)
    rows = [SeenRow(row["id"], _texts(row, before)) for row in islice(kept, n)]
    dropped = list(islice(_dropped(walked, before), n)) if made.dropped else []
    return Seen(
        walked.name,
        kind,
        facts=_facts(walked),
        notes=walked.notes,
        warnings=made.warnings,
        rows=rows,
        dropped=dropped,
    )


def _facts(walked: Walked) -> str:
    assert walked.artifact is not None
    made = walked.artifact.manifest
    found = counted(made.rows_out or 0, "row")
    if walked.rows is not None:
        found = f"{counted(walked.rows.manifest.rows_out or 0, 'row')} in, {made.rows_out:,} out"
    if made.dropped:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in made.dropped.items())
        found += f"; dropped: {reasons}"
    if made.tokens_out:
        found += f"; {counted(made.tokens_out, 'token')} written"
    if made.cost:
        found += f", cost {made.cost:,.4g}"
    return found


def _by_id(artifact: Artifact | None) -> dict[str, Row]:
    if artifact is None:
        return {}
    return {row["id"]: row for row in islice(read_rows(artifact.path), MOST_LOOKED_AT)}


def _dropped(walked: Walked, before: Mapping[str, Row]) -> Iterator[SeenRow]:
    """Rows that did not go on, with the reason where it can be told for each."""
    assert walked.artifact is not None
    readers = _readers(walked.stage)
    if readers:  # they are asked once more, row by row
        came = walked.written or walked.rows
        for row in read_rows(came.path) if came is not None else ():
            for why in _why_unread(readers, row):
                texts = {name: value for name, value in row.items() if name not in FAILED}
                read = plain(row.get(_column(walked.stage)))
                shown = {_column(walked.stage): read} if read is not None else {}
                yield SeenRow(row["id"], _texts(texts, before) | shown, why)
        return
    kept: set[str] = set()
    for row in read_rows(walked.artifact.path):
        kept |= {str(row["id"]), str(row.get("parent_id") or "")}
    counts = walked.artifact.manifest.dropped
    why = next(iter(counts)) if len(counts) == 1 else f"one of: {', '.join(counts)}"
    lost = [row for identity, row in before.items() if identity not in kept]
    if len(lost) == sum(counts.values()):  # else other things than its rows were dropped
        yield from (SeenRow(row["id"], _texts(row, before), why) for row in lost)


Reader = Callable[[Iterator[Row], Callable[[str], None]], Iterator[Row]]


def _readers(stage: Stage) -> list[Reader]:
    """How a stage reads and judges texts, one after the other."""
    parse: ParseSettings | None = stage if isinstance(stage, Parse) else None
    verify: VerifySettings | None = stage if isinstance(stage, Verify) else None
    column = _column(stage)
    if isinstance(stage, Generate):
        parse, verify = stage.parse, stage.verify
    readers: list[Reader] = []
    if parse is not None:
        readers.append(lambda rows, drop: parse.read_rows(rows, column, drop))
    if verify is not None:
        readers.append(lambda rows, drop: verify.judged(rows, drop, lambda _: None, {}))
    return readers


def _column(stage: Stage) -> str:
    """What is read of a row."""
    if isinstance(stage, Generate):
        return stage.completion_column
    if isinstance(stage, Parse):
        return stage.column
    return stage.answer_column if isinstance(stage, Verify) else ""


def _why_unread(readers: Sequence[Reader], row: Row) -> Iterator[str]:
    """Why nothing, or not all, is made of a text."""
    reasons: list[str] = []
    rows: Iterator[Row] = iter([row])
    try:
        for read in readers:
            rows = read(rows, reasons.append)
        list(rows)
    except (DataError, KeyError):  # what the stage itself has said
        return
    error = row.get("error")
    yield from (str(error) if error else reason for reason in dict.fromkeys(reasons))


def _texts(row: Row, before: Mapping[str, Row]) -> dict[str, str]:
    """What a stage has put into a row; of one that it passes on, what it is about."""
    came = _came_from(row, before)
    shown = {
        name: value
        for name, value in row.items()
        if name not in NOT_SHOWN and not name.startswith(SEED) and value is not None
    }
    new = {name: value for name, value in shown.items() if came.get(name) != value}
    if new.get("finish_reason") == "stop":
        del new["finish_reason"]
    main = [name for name in MAIN if name in shown][:1] if came else []
    chosen = new or {name: shown[name] for name in main} or shown
    order = [*(name for name in FIRST if name in chosen), *chosen]
    found: dict[str, str] = {}
    for name in dict.fromkeys(order):
        text = plain(chosen[name])
        if text is not None:
            same = next((other for other, shown in found.items() if shown == text), None)
            found[name] = f"as {same}" if same is not None and len(text) > LONG else text
    return found


def _came_from(row: Row, before: Mapping[str, Row]) -> Row:
    """The row that it was made from, by its id: of `a` is made `a-0`, and of that `a-0-1`."""
    identity = str(row["id"])
    while identity:
        if identity in before:
            return before[identity]
        identity = identity.rpartition("-")[0]
    return before.get(str(row.get("parent_id")), {})


def plain(value: Any) -> str | None:
    """A value as people read it; None for nothing."""
    if value is None or value == []:
        return None
    if is_conversation(value):
        return "\n".join(f"{speaker_of(t)}: {t.get('content') or '(calls)'}" for t in value)
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list) and all(isinstance(each, str | int) for each in value):
        return ", ".join(map(str, value))
    return json.dumps(value, ensure_ascii=False, default=str)
