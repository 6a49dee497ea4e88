"""Which rows each process reads in each optimizer step: the same step, however many share it.

16 rows a step, in passes of at most 8:

    1 process    8 rows, then 8
    2 processes  8 rows each
    4 processes  4 rows each

accelerate's own way repeats rows where the last step of an epoch has too few for all processes,
and so trains something else than one process does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Protocol


@dataclass(frozen=True)
class StepRows:
    """How the rows of an optimizer step are gone through.

    in_pass: rows of a forward pass. passes: forward passes of a step, one after the other.
    together: whether a pass compares its rows with each other: then it is what processes share.
    """

    in_pass: int
    passes: int
    together: bool = False

    @property
    def in_step(self) -> int:
        return self.in_pass * self.passes

    def within(self, most: int) -> StepRows:
        """The same step in as few passes of equal size as hold no more than `most` rows."""
        n = self.in_step
        in_pass = next(size for size in range(min(most, n), 0, -1) if n % size == 0)
        return replace(self, in_pass=in_pass, passes=n // in_pass)

    def on(self, processes: int) -> StepRows:
        """What each process does of it, in passes that hold no more rows than here.

        Raises:
            ValueError: they cannot share the rows evenly.
        """
        if processes not in self.processes():
            raise ValueError(f"{self} cannot be shared evenly by {processes}")
        if processes == 1 or self.together:
            return replace(self, in_pass=self.in_pass // processes)
        return replace(self, in_pass=self.in_step // processes, passes=1).within(self.in_pass)

    def processes(self) -> list[int]:
        """The numbers of processes that can share it evenly, ascending."""
        rows = self.in_pass if self.together else self.in_step
        return [n for n in range(1, rows + 1) if rows % n == 0]


class Order(Sized, Protocol):
    """The indices of all rows, in the order of an epoch."""

    def __iter__(self) -> Iterator[int]: ...


@dataclass(frozen=True)
class Shares:
    """The rows of an epoch, as `processes` share them.

    n_rows: of the epoch. rows: what each process does in a whole step.
    """

    n_rows: int
    rows: StepRows
    processes: int

    @property
    def in_step(self) -> int:
        return self.rows.in_step * self.processes

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return -(-self.n_rows // self.in_step)

    def rows_of(self, step: int) -> int:
        """How many rows a step of an epoch has; the last may have fewer than the others."""
        return min(self.in_step, self.n_rows - step * self.in_step)

    def passes(self, step: int) -> int:
        """How many forward passes every process makes in it."""
        return -(-self.rows_of(step) // (self.rows.in_pass * self.processes))

    def places(self, step: int, rank: int) -> list[range]:
        """As `own`, for a step of the training: places among all rows that it reads."""
        epoch, step = divmod(step, self.steps)
        before = epoch * self.n_rows + step * self.in_step
        own = self.own(step, rank)
        return [range(before + part.start, before + part.stop) for part in own]

    def own(self, step: int, rank: int) -> list[range]:
        """For each pass, the places in the step of the rows that a process reads.

        Where the last pass is not full, some processes have one row less than others, or none.
        """
        n, full = self.rows_of(step), self.rows.in_pass * self.processes
        found = []
        for start in range(0, n, full):
            each, more = divmod(min(full, n - start), self.processes)
            begin = start + rank * each + min(rank, more)
            found.append(range(begin, begin + each + (rank < more)))
        return found


class WeightedOrder:
    """Rows drawn with replacement in proportion to their weights, as many an epoch as there are.

    An epoch's draws depend on the seed and the epoch alone: they are the same on any number of
    processes, and after a resume. accelerate sets the epoch of any sampler.

    weights: of the rows, above 0; only their ratios matter.
    """

    def __init__(self, weights: Sequence[float], seed: int) -> None:
        import numpy as np

        scaled = np.asarray(weights, dtype=np.float64) / max(weights)
        self._ends = np.cumsum(scaled)
        self._seed, self._epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[int]:
        import numpy as np

        random = np.random.default_rng((self._seed, self._epoch))
        drawn = random.random(len(self)) * self._ends[-1]
        yield from np.searchsorted(self._ends, drawn, side="right").tolist()


class SharedBatches:
    """The batches of one process, for a DataLoader.

    A process for which a pass has no row reads the first of the step, which must count as none.
    """

    drop_last = False

    def __init__(self, sampler: Order, shares: Shares, rank: int) -> None:
        self.sampler, self.shares, self.rank = sampler, shares, rank
        self.batch_size = shares.rows.in_pass

    def __len__(self) -> int:
        return sum(map(self.shares.passes, range(self.shares.steps)))

    def __iter__(self) -> Iterator[list[int]]:
        order = iter(self.sampler)
        for step in range(self.shares.steps):
            rows = [next(order) for _ in range(self.shares.rows_of(step))]
            for places in self.shares.own(step, self.rank):
                yield [rows[place] for place in places] or [rows[0]]
