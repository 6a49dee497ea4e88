"""Whether a `repeat` with `until` ends after a round: by what its rounds measured and took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from llm_distill.errors import DataError, counted
from llm_distill.hints import hint
from llm_distill.methods.stopping import Progressed, is_spent, progressed
from llm_distill.pipeline.check_until import watched_model
from llm_distill.pipeline.rounds import Block, End
from llm_distill.pipeline.settled import passed_over, settled
from llm_distill.pipeline.until import Until
from llm_distill.rows.columns import item_of
from llm_distill.runtime.resolve import Resolver
from llm_distill.runtime.writer import read_rows

if TYPE_CHECKING:
    from llm_distill.manifest import Manifest


class LoopRecord(BaseModel, extra="ignore"):
    """How a `repeat` with `until` has ended, as a run's record keeps it.

    times: the rounds that there could have been. last: its last. why: what ended it.
    best: the round with the highest figure; None where nothing is measured.
    watch: the stage that measures a round. figures: its mean in each round.
    """

    times: int
    last: int
    why: str
    best: int | None = None
    watch: str | None = None
    figures: tuple[float, ...] = ()

    def means(self, end: End) -> str:
        """The round that `trained@best` or `trained@last` has come to mean."""
        return f"{end.stage}@{self.best if end.which == 'best' else self.last}"

    def told(self, block: str) -> str:
        """`rounds: ended after round 3 of 6: …; checked: 0.41, 0.52, 0.51, best in round 2`."""
        said = f"{block}: ended after round {self.last} of {self.times}: {self.why}"
        if self.best is None:
            return said
        shown = ", ".join(f"{mean:.3f}" for mean in self.figures)
        return f"{said}; {self.watch}: {shown}, best in round {self.best}"


@dataclass(frozen=True)
class Ended:
    """A `repeat` that has ended. passed: the stages of the rounds that it did not come to."""

    block: str
    loop: LoopRecord
    passed: tuple[str, ...]

    @property
    def told(self) -> str:
        return self.loop.told(self.block)


def settle(name: str, resolver: Resolver) -> Ended | None:
    """After a stage: if it ended a `repeat`, that is noted in the resolver's pipeline.

    Raises:
        DataError: what is watched has no figure for an item, or rounds have other items.
    """
    pipeline = resolver.pipeline
    for block in pipeline.loops:
        number = block.has(name)
        if number is None or not _is_last_of_round(name, block, number, resolver):
            continue
        found = _ended(block, number, resolver)
        if found is not None:
            loop = found.loop
            resolver.pipeline = settled(pipeline, block, loop.last, loop.best)
        return found
    return None


def _is_last_of_round(name: str, block: Block, number: int, resolver: Resolver) -> bool:
    """All stages of the round are there: `plan` may know of a few."""
    stages = [each for each in resolver.pipeline.stages if block.has(each) == number]
    return stages[-1] == name and all(each in resolver.ready for each in stages)


def _ended(block: Block, number: int, resolver: Resolver) -> Ended | None:
    until = block.until
    assert until is not None
    measured = None
    if until.watch is not None:
        rounds = [_figures(block, until, n, resolver) for n in range(1, number + 1)]
        measured = _compared(rounds, f"{until.watch}@{number}")
    why = _why(until, number, measured, _taken(block, number, resolver))
    if why is None and number < block.numbers[-1]:
        return None
    loop = LoopRecord(
        times=block.numbers[-1],
        last=number,
        why=why or "all rounds are done",
        best=measured.best if measured is not None else None,
        watch=until.watch,
        figures=measured.means if measured is not None else (),
    )
    return Ended(block.name, loop, tuple(passed_over(resolver.pipeline, block, number)))


def _why(
    until: Until, number: int, measured: Progressed | None, taken: Sequence[Mapping[str, float]]
) -> str | None:
    """What ends the rounds after this one; None: nothing."""
    if measured is not None and until.target is not None and measured.means[-1] >= until.target:
        reached = f"{measured.means[-1]:.3f} reaches the target of {until.target:g}"
        first = "; the first round did already, so a loop may not be needed" * (number == 1)
        return reached + first
    if measured is not None and until.no_gain is not None and measured.since >= until.no_gain:
        rounds = counted(measured.since, "round")
        return f"no gain beyond its 95 % interval on round {measured.gained} for {rounds}"
    for model, most in until.tokens.items():
        written = [each[model] for each in taken]
        if is_spent(written, most):
            return (
                f"'{model}' has written {counted(round(sum(written)), 'token')}, and another round "
                f"like this one would pass {most:,}"
            )
    cost = [each[""] for each in taken]
    if until.cost is not None and is_spent(cost, until.cost):
        return (
            f"its rounds have cost {sum(cost):,.2f}, and another like this one would pass "
            f"{until.cost:,.2f}"
        )
    return None


def _compared(rounds: Sequence[Mapping[str, float]], name: str) -> Progressed:
    try:
        return progressed(rounds)
    except ValueError as error:
        raise DataError(f"until: the rows of '{name}': {error}; give it the same items") from error


def _taken(block: Block, number: int, resolver: Resolver) -> Sequence[Mapping[str, float]]:
    """For each round the tokens by the model that wrote them, and under "" the cost."""
    found = []
    for n in range(1, number + 1):
        of_round: dict[str, float] = defaultdict(float)
        for name in resolver.pipeline.stages:
            if block.has(name) == n:
                manifest: Manifest = resolver.ready[name].manifest
                of_round[""] += manifest.cost
                for model, tokens in manifest.tokens_by_model.items():
                    of_round[model] += tokens
        found.append(of_round)
    return found


def _figures(block: Block, until: Until, number: int, resolver: Resolver) -> dict[str, float]:
    """By item, the mean of what a round's stage has measured of what the round has trained."""
    name = f"{until.watch}@{number}"
    model = watched_model(block, resolver.pipeline.stages[name], number)
    values: dict[str, list[float]] = defaultdict(list)
    for row in read_rows(resolver.ready[name].path):
        if "model" not in row or row["model"] == model or model is None:
            values[item_of(row)].append(_figure(row, until.column, name))
    return {item: fmean(figures) for item, figures in values.items()}


def _figure(row: Mapping[str, Any], column: str, name: str) -> float:
    if row.get("error") is not None:
        raise DataError(
            f"until: row {row['id']} of '{name}' has no answer ({row['error']}), which says "
            "nothing of what was trained; ask again "
            f"({hint('run', '--retry-failed', of_file=True)}), or leave such items out"
        )
    value = row.get(column)
    if isinstance(value, bool | int | float) and value == value:
        return float(value)
    raise DataError(
        f"until: row {row['id']} of '{name}' has no number in {column}: {value!r}; an answer is "
        "right or wrong where its item has a reference_answer, or name another column"
    )
