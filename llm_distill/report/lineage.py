"""Which rows of earlier stages a row was made from, back to its seed.

A row is known by its id. A stage that passes rows on keeps their ids, and one that makes new ones
names in `parent_id` what they were made from, so the way back is: to the stage that first had the
row, then to its parent where that was first made, and so on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from llm_distill.report.collect import RunView, StageView, read_rows
from llm_distill.rows.columns import Row

PARENTS = ("parent_id", "source_id")


@dataclass(frozen=True)
class Place:
    """A row of a stage."""

    stage: str
    id: str


class Lineage:
    """Looks for rows in the stages of a run; their ids are read when they are first asked for."""

    def __init__(self, run: RunView) -> None:
        self._views = {stage.name: stage for stage in run.stages}
        self._numbers: dict[str, Mapping[str, int]] = {}

    def numbers(self, stage: str) -> Mapping[str, int]:
        """The number of each row of a stage by its id; empty if it cannot be read."""
        if stage not in self._numbers:
            self._numbers[stage] = _numbers(self._views.get(stage))
        return self._numbers[stage]

    def sources(self, stage: str, row: Row) -> tuple[Place, ...]:
        """What a row was made from, as the stages that made it have it; nothing for a seed."""
        identity = str(row.get("id", ""))
        first = self._first(stage, identity)
        if first != stage:
            return (Place(first, identity),)
        for column in PARENTS:
            if row.get(column) is not None and (found := self._parent(stage, str(row[column]))):
                return (found,)
        kind = row.get("kind")
        return self._of_pair(stage, identity.removeprefix(f"{kind}-")) if kind else ()

    def made(self, stage: str, identity: str) -> Place | None:
        """Where a row of that id, among the rows that a stage was made from, was first made."""
        for other in self._before(stage):
            if identity in self.numbers(other):
                return Place(self._first(other, identity), identity)
        return None

    def _parent(self, stage: str, identity: str) -> Place | None:
        """The row of that id; without one what it was made from, whose id begins it.

        Of the rows that one text was split into, the parent is the text, which may be no row:
        `s1-0-2` is of the text `s1-0`, which is of the row `s1`.
        """
        while True:
            found = self.made(stage, identity)
            identity, _, last = identity.rpartition("-")
            if found is not None or not identity or not last:
                return found

    def is_seed(self, place: Place) -> bool:
        """Whether nothing is before the stage that made the row."""
        return not self._inputs(place.stage)

    def _of_pair(self, stage: str, named: str) -> tuple[Place, ...]:
        """The rows whose ids are in a pair's id: `q1`, or `q1-recall-q1-bare` for two."""
        whole = self.made(stage, named)
        if whole is not None:
            return (whole,)
        words = named.split("-")
        for cut in range(1, len(words)):
            two = [self.made(stage, "-".join(part)) for part in (words[:cut], words[cut:])]
            if two[0] is not None and two[1] is not None:
                return (two[0], two[1])
        return ()

    def _first(self, stage: str, identity: str) -> str:
        """The earliest stage that has the row, going back through those that passed it on."""
        seen = {stage}
        while True:
            before = (name for name in self._inputs(stage) if identity in self.numbers(name))
            found = next(before, None)
            if found is None or found in seen:
                return stage
            seen.add(stage := found)

    def _before(self, stage: str) -> Iterator[str]:
        """The stages with rows that its rows come from, the nearest first."""
        seen = {stage}
        waiting = [stage]
        while waiting:
            for name in self._inputs(waiting.pop(0)):
                if name not in seen:
                    seen.add(name)
                    waiting.append(name)
                    yield name

    def _inputs(self, stage: str) -> tuple[str, ...]:
        """Those with rows: what a model was trained on is not what a row was made from."""
        names = self._views[stage].inputs if stage in self._views else ()
        return tuple(name for name in names if name in self._views and self._views[name].columns)


def _numbers(stage: StageView | None) -> Mapping[str, int]:
    if stage is None or stage.directory is None or "id" not in stage.columns:
        return {}
    try:
        ids = read_rows(stage)["id"][:]  # at once: 20 times as fast as one by one
        return {str(identity): number for number, identity in enumerate(ids)}
    except Exception:  # `samples` says what is wrong with the rows
        return {}
