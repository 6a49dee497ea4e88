"""How several teachers' probabilities become one: given, or chosen on validation rows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llm_distill.methods.opinion_pools import (
    Pool,
    at_temperature,
    fitted_temperature,
    log_loss,
    pooled,
    stacked_weights,
    surest,
)
from llm_distill.methods.teacher_labels import Held

How = Literal["mean", "product", "best", "surest"]


@dataclass(frozen=True)
class Combination:
    """weights: by teacher, with the sum 1. temperatures: by teacher; 1 changes nothing."""

    how: How
    weights: Mapping[str, float]
    temperatures: Mapping[str, float]

    @property
    def pool(self) -> Pool:
        return "product" if self.how == "product" else "mean"

    def of(self, said: Mapping[str, Sequence[float]]) -> list[float] | None:
        """One distribution from those of a text's teachers; None where none of them counts.

        The weights of those that are there are made to add up to 1.
        """
        import numpy as np

        counted = [name for name in said if self.weights[name] > 0]
        if not counted:
            return None
        p = np.stack([self._tempered(name, said[name]) for name in counted])
        if self.how == "surest":
            chosen: list[float] = p[surest(p)].tolist()
            return chosen
        found: list[float] = pooled(p, [self.weights[name] for name in counted], self.pool).tolist()
        return found

    def each_of(self, said: Mapping[str, Sequence[float]], names: Sequence[str]) -> list[float]:
        """Every teacher's probabilities at its temperature, one after another.

        Zeros for a teacher that gave none, or has no weight.
        """
        found: list[float] = []
        for name, weight in self.weights.items():
            counts = name in said and weight > 0
            own = self._tempered(name, said[name]).tolist() if counts else [0.0] * len(names)
            found += own
        return found

    def of_held(self, held: Held) -> Any:
        """[rows, labels]."""
        import numpy as np

        rows = [dict(zip(held.teachers, p, strict=True)) for p in held.p.swapaxes(0, 1)]
        return np.asarray([self.of(said) for said in rows])

    def _tempered(self, name: str, p: Any) -> Any:
        import numpy as np

        return at_temperature(np.asarray(p, dtype=float), self.temperatures[name])


def chosen(
    how: How,
    teachers: Sequence[str],
    weights: Literal["equal", "validated"] | Mapping[str, float],
    temperatures: Literal["validated"] | Mapping[str, float],
    held: Held | None,
) -> Combination:
    """The combination with what is to be chosen: temperatures first, then weights.

    best: all the weight on who is right most often; of equals who has the lower log-loss.

    Args:
        how: How the probabilities become one.
        teachers: Their names.
        weights: By teacher, of which only the ratios matter; or how they come about.
        temperatures: By teacher, 1 for others; or how they come about.
        held: Validation rows, where something is chosen on them.

    Raises:
        ValueError: something is to be chosen, and there are no validation rows.
    """
    import numpy as np

    if held is None and (how == "best" or "validated" in (weights, temperatures)):
        raise ValueError("validation rows are needed to choose on")
    if isinstance(temperatures, Mapping):
        at = {name: temperatures.get(name, 1.0) for name in teachers}
    else:
        assert held is not None
        each = zip(held.teachers, held.p, strict=True)
        at = {name: fitted_temperature(p, held.right) for name, p in each}
    if isinstance(weights, Mapping):
        total = sum(weights.values())
        return Combination(how, {name: weights[name] / total for name in teachers}, at)
    even = Combination(how, dict.fromkeys(teachers, 1 / len(teachers)), at)
    if held is None or (weights == "equal" and how != "best"):
        return even
    p = np.stack(
        [at_temperature(of, at[name]) for name, of in zip(held.teachers, held.p, strict=True)]
    )
    if how == "best":
        right = (p.argmax(-1) == np.asarray(held.right)).mean(-1)
        order = [(-hits, log_loss(of, held.right)) for hits, of in zip(right, p, strict=True)]
        best = held.teachers[order.index(min(order))]
        return Combination(how, {name: float(name == best) for name in teachers}, at)
    stacked = stacked_weights(p, held.right, even.pool)
    return Combination(how, dict(zip(held.teachers, stacked, strict=True)), at)
