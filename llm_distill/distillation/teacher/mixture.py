"""Several teachers' scores of the same tokens as those of one teacher, their weighted mean.

p(token) = Σ w · p_k(token), at each token: a mixture of next-token distributions with weights that
stay as they are, not one of texts, whose weights would shift to the teacher that has been right. It
needs one tokenizer, since p of a piece of a word is nobody's where others cut the word elsewhere.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from llm_distill.distillation.alignment.vocabularies import difference
from llm_distill.distillation.teachers import mixed_tokenizers
from llm_distill.errors import ConfigError

if TYPE_CHECKING:
    from llm_distill.distillation.teacher.scoring import Scores
    from llm_distill.models.sources import ModelSource


def shares_of(weights: Mapping[str, float]) -> dict[str, float]:
    """The weights, which then sum to 1."""
    total = math.fsum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def mixed_by(scorers: Sequence[tuple[str, float]]) -> str:
    """What a mixture's scores are marked with: `0.7 × big-math 5c0a… + 0.3 × big-code 81f2…`."""
    return " + ".join(f"{share:.6g} × {who}" for who, share in scorers)


def mixture_of(teachers: Mapping[str, ModelSource], weights: Mapping[str, float]) -> Mixture:
    """Of the teachers by their names, in that order.

    Raises:
        ConfigError: they have different tokenizers.
    """
    from llm_distill.models.sources import load_tokenizer

    (first, source), *others = teachers.items()
    tokenizer = load_tokenizer(source.readable, is_alone=True)
    for name, other in others:
        how = difference(tokenizer, load_tokenizer(other.readable, is_alone=True))
        if how is not None:
            raise ConfigError(mixed_tokenizers(first, name, how))
    found = shares_of(weights)
    return Mixture([found[name] for name in teachers])


@dataclass
class Mixture:
    """Adds up scores, teacher by teacher, with the rows of all in memory.

    shares: of the teachers, in their order. n_mixed: rows that all of them scored, so far.
    """

    shares: Sequence[float]
    n_mixed: int = 0
    _sums: dict[str, tuple[str, Scores]] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)

    @property
    def n_left(self) -> int:
        """Rows that some of the teachers scored, and others did not, or as other tokens."""
        return len(self._seen) - self.n_mixed

    def nobodys(self, refused: Mapping[str, str]) -> Counter[str]:
        """Of rows that a teacher refused, by their ids, the reasons where no other scored them."""
        return Counter(reason for name, reason in refused.items() if name not in self._seen)

    def add(self, number: int, name: str, text: str, scores: Scores) -> Scores | None:
        """The row's mixture, once its last teacher is there.

        Args:
            number: of the teacher.
            name: the row's id.
            text: a digest of the tokens that were scored.
            scores: log-probabilities by column, [n] each.
        """
        self._seen.add(name)
        share = math.log(self.shares[number])
        own = {column: values + np.float32(share) for column, values in scores.items()}
        if number:
            before, sums = self._sums.pop(name, ("", {}))
            if before != text:
                return None
            own = {column: np.logaddexp(sums[column], own[column]) for column in own}
        if number < len(self.shares) - 1:
            self._sums[name] = text, own
            return None
        self.n_mixed += 1
        return {column: np.minimum(values, 0.0) for column, values in own.items()}
