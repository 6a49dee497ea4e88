"""What names mean where stages are repeated: `x`, `x@previous`, `x@2`, `x@last`, `x@best`. Pure.

Stage `x` of a `repeat` is the stage `x@1` in its first round, `x@2` in its second, and so on. Of a
`repeat` with `until`, which round is the last and which the best is known once it has ended; until
then `x@last` stands for the last that there may be, and `x@best` for another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from llm_distill.errors import counted, nearest
from llm_distill.pipeline.until import Until

Which = Literal["best", "last"]


@dataclass(frozen=True)
class Block:
    """A `repeat` of the file.

    stages: their names in the file. times: None if it is not valid in the file.
    start: by stage, what `@previous` means in the first round; None: nothing, and what names it is
        left out.
    until: what ends it before its last round; None: nothing does.
    """

    name: str
    stages: tuple[str, ...]
    times: int | None
    start: Mapping[str, str | None]
    until: Until | None = None

    @property
    def numbers(self) -> range:
        return range(1, (self.times or 1) + 1)

    @property
    def stands_for_best(self) -> int:
        """Neither the first nor the last where there are others: all three may be named."""
        return min(2, max(1, len(self.numbers) - 1))

    @property
    def has_best(self) -> bool:
        return self.until is not None and self.until.watch is not None

    def has(self, stage: str) -> int | None:
        """The round of one of its stages by its unrolled name, such as `x@2`; None of others."""
        name, _, number = stage.partition("@")
        return int(number) if name in self.stages and number.isdecimal() else None


@dataclass(frozen=True)
class Round:
    """Which stage of which block, and in which round, counted from 1."""

    block: Block
    stage: str
    number: int


@dataclass(frozen=True)
class End:
    """A reference to the best or last round of a `repeat` that may end before its last."""

    block: Block
    stage: str
    which: Which

    @property
    def role(self) -> str:
        """As the file writes it."""
        return f"{self.stage}@{self.which}"


@dataclass(frozen=True)
class Rounds:
    """The repeated stages of a file.

    blocks: by the stage's name in the file. of: by the unrolled name.
    starts: by (unrolled stage, place such as `models[1]`), the name under a block's `start:` that
        resolves the reference there.
    ends: by (unrolled stage, place), what is known once a block has ended.
    """

    blocks: dict[str, Block] = field(default_factory=dict)
    of: dict[str, Round] = field(default_factory=dict)
    starts: dict[tuple[str, str], str] = field(default_factory=dict)
    ends: dict[tuple[str, str], End] = field(default_factory=dict)

    def resolve(self, reference: str, by: Round | None) -> str:
        """The unrolled name; the reference as it is where it means no round of anything."""
        stage, mark, which = reference.partition("@")
        block = self.blocks.get(stage)
        if block is None:
            return reference
        if by is None or by.block is not block:
            if which == "last" or (block.times is None and which.isdecimal()):
                return f"{stage}@{block.numbers[-1]}"
            is_best = which == "best" and block.has_best
            return f"{stage}@{block.stands_for_best}" if is_best else reference
        if not mark:
            return f"{stage}@{by.number}"
        if which != "previous":  # `explain` says that it is not allowed
            return stage
        if by.number > 1:
            return f"{stage}@{by.number - 1}"
        return self.start(block, stage) or reference

    def end(self, reference: str, by: Round | None) -> End | None:
        """What a reference means once a `repeat` has ended; None where it is known before."""
        stage, _, which = reference.partition("@")
        block = self.blocks.get(stage)
        if by is not None and which == "previous" and by.number == 1 and block is by.block:
            target = by.block.start.get(stage)
            return None if target is None else self.end(target, None)
        if block is None or block.until is None or (by is not None and by.block is block):
            return None
        if which == "last":
            return End(block, stage, "last")
        return End(block, stage, "best") if which == "best" and block.has_best else None

    def may_not_be_there(self, reference: str, by: Round | None) -> bool:
        """Whether it is a round, by its number, that `until` may pass over."""
        stage, _, which = reference.partition("@")
        block = self.blocks.get(stage)
        if block is None or block.until is None or (by is not None and by.block is block):
            return False
        return which.isdecimal() and int(which) > 1 and int(which) in block.numbers

    def start(self, block: Block, stage: str) -> str | None:
        """What `stage@previous` means in the first round; None if the file does not say."""
        target = block.start.get(stage)
        if target is None:
            return None
        named = target.partition("@")[0]
        return named if self.blocks.get(named) is block else self.resolve(target, None)

    def written(self, target: str, by: str) -> str:
        """How stage `by` writes an unrolled name: plain in its round, `x@previous` for others."""
        there, here = self.of.get(target), self.of.get(by)
        if there is None or here is None or there.block is not here.block:
            return target
        return there.stage if there.number == here.number else f"{there.stage}@previous"

    def explain(self, reference: str, by: str) -> str | None:
        """Why a name means nothing at stage `by`, where it is a name of a repeated stage."""
        stage, mark, which = reference.partition("@")
        block, here = self.blocks.get(stage), self.of.get(by)
        own = here.block if here is not None else None
        if which == "previous" and own is not None:
            if stage in own.start:  # which names nothing, or it would be there
                return (
                    f"'{reference}' is nothing in the first round (start: {{{stage}: null}}), and "
                    f"this cannot be left out; let start say what is there: {{{stage}: NAME}}"
                )
            if stage in own.stages:
                return (
                    f"no round comes before the first; say what '{reference}' is there: "
                    f"start: {{{stage}: …}} beside times:"
                )
            return f"no stage '{stage}' in this repeat; {nearest(stage, own.stages)}"
        if reference in {each.name for each in self.blocks.values()}:
            suffix = "" if own is not None and own.name == reference else "@last"
            of_it = [f"{n}{suffix}" for n, each in self.blocks.items() if each.name == reference]
            return f"'{reference}' is a repeat; name a stage of it: {', '.join(of_it)}"
        if block is None:
            return None
        if block is own:
            return (
                f"inside its repeat, '{stage}' is that of the same round and '{stage}@previous' "
                "that of the round before; no other can be named"
            )
        if which == "best":
            return (
                f"which round of '{block.name}' is the best is not known; name the stage of a "
                "round that measures it: until: {watch: …} beside times:"
            )
        numbers = block.numbers if block.until is None else block.numbers[:1]
        allowed = [*(f"{stage}@{number}" for number in numbers), f"{stage}@last"]
        allowed += [f"{stage}@best"] if block.has_best else []
        if which == "previous":
            return f"'@previous' only has a meaning inside a repeat; {nearest('', allowed)}"
        rounds = counted(len(block.numbers), "round")
        if block.until is not None and which.isdecimal() and int(which) in block.numbers:
            return f"'{block.name}' may end before round {which} (until); {nearest('', allowed)}"
        what = f"'{stage}' has {rounds}" if mark else f"'{stage}' is in a repeat"
        return f"{what}; {nearest('', allowed)}"
