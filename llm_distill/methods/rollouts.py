"""What to watch in texts that a student writes to learn from, and when to stop. Pure.

A student that learns from its own texts can drift where no loss shows it: texts get longer, are
cut, go round in circles, and the reverse KL falls all the while.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Any

from llm_distill.methods.statistics import Estimate, ratio_of_sums

GRAM = 4
LONGEST_UNIT = 12
"""Characters. Of a longer run without a space each four are a unit: `aaaaaaaaaaaaaa` loops too."""
_UNIT = re.compile(r"\w+|[^\w\s]+")

LEAST_ROLLOUTS = 20
"""Nothing is concluded from fewer: 2 of 10 that are cut are no trend."""


@dataclass(frozen=True)
class Gap:
    """How much likelier a text is to its student than to the teacher, Σ log q − log p in nats."""

    nats: float
    n_tokens: int
    n_bytes: int


@dataclass(frozen=True)
class Shared:
    """What teacher and student both take for likely, summed over the places of a text.

    tokens: the share of the teacher's k likeliest tokens that are among the student's.
    of_teacher, of_student: how much of what either puts on its own k likeliest lies on those that
        both have. n_places: how many places the sums are over.
    """

    tokens: float
    of_teacher: float
    of_student: float
    n_places: int


@dataclass(frozen=True)
class Rollout:
    """One text of the student's, measured.

    prompt: what it answers; texts that answer the same are not independent of each other.
    repeated: see `repeated`. n_tokens: as the student counts them; None where that is not known.
    log_ratios: of each token, log of its probability now over that when it was written.
    """

    id: str
    prompt: str
    n_characters: int
    is_cut: bool
    is_empty: bool
    repeated: float
    n_tokens: int | None = None
    gap: Gap | None = None
    shared: Shared | None = None
    log_ratios: Sequence[float] = ()


@dataclass(frozen=True)
class Watched:
    """The figures of a group of rollouts; None where they are not known.

    Attributes:
        n_rows: How many rollouts.
        mean_tokens: Of a rollout, as the student counts them.
        mean_characters: Of a rollout.
        truncated: Share that max_tokens cut.
        empty: Share without a text.
        repetition: Mean share of a text's runs of four words that it has written before.
        n_compared: How many were compared with the teacher.
        reverse_kl: Mean of log q − log p a token of the student's, in nats, with a 95 % interval.
        reverse_kl_per_byte: The same a byte of text, which does not depend on the tokenizer.
        ess: Effective sample share of the weights q now / q when written, by token: 1 where the
            texts are those of the student as it is.
        shared_tokens: Share of the teacher's likeliest tokens that are among the student's.
        shared_of_teacher: How much of what the teacher finds likely lies on shared tokens.
        shared_of_student: The same of the student.
    """

    n_rows: int
    mean_tokens: float | None
    mean_characters: float
    truncated: float
    empty: float
    repetition: float
    n_compared: int
    reverse_kl: float | None = None
    reverse_kl_low: float | None = None
    reverse_kl_high: float | None = None
    reverse_kl_per_byte: float | None = None
    reverse_kl_per_byte_low: float | None = None
    reverse_kl_per_byte_high: float | None = None
    ess: float | None = None
    shared_tokens: float | None = None
    shared_of_teacher: float | None = None
    shared_of_student: float | None = None

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Watched:
        """Out of a row that has its fields as columns."""
        return cls(**{each.name: row[each.name] for each in fields(cls)})

    @property
    def shared_mass(self) -> float | None:
        """The smaller of both sides."""
        if self.shared_of_teacher is None or self.shared_of_student is None:
            return None
        return min(self.shared_of_teacher, self.shared_of_student)


@dataclass(frozen=True)
class Limits:
    """What is too much; None: anything goes.

    truncated: a share of cut texts that must not be reached by doubling. repetition: a mean share.
    growth: how many times as long as in the first round. empty: a share of texts that hold nothing.
    """

    truncated: float | None
    repetition: float | None
    growth: float | None
    empty: float | None = None


def repeated(text: str) -> float:
    """Share of a text's runs of four words that it has written before; 0 of a short one.

    >>> repeated("one two three four five six"), repeated("so it is, " * 50)
    (0.0, 0.9797979797979798)
    """
    units = [part for unit in _UNIT.findall(text) for part in _parts(unit)]
    grams = [tuple(units[i : i + GRAM]) for i in range(len(units) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _parts(unit: str) -> list[str]:
    if len(unit) <= LONGEST_UNIT:
        return [unit]
    return [unit[i : i + 4] for i in range(0, len(unit), 4)]


def watched(rollouts: Sequence[Rollout]) -> Watched:
    """Raises:
    ValueError: there are none.
    """
    if not rollouts:
        raise ValueError("figures are those of rollouts, and there are none")
    lengths = [each.n_tokens for each in rollouts if each.n_tokens is not None]
    gaps = [(each.prompt, each.gap) for each in rollouts if each.gap is not None]
    by_token = _ratio([(prompt, gap.nats, gap.n_tokens) for prompt, gap in gaps])
    by_byte = _ratio([(prompt, gap.nats, gap.n_bytes) for prompt, gap in gaps])
    shared = [each.shared for each in rollouts if each.shared is not None]
    n_places = sum(each.n_places for each in shared)
    return Watched(
        n_rows=len(rollouts),
        mean_tokens=fmean(lengths) if len(lengths) == len(rollouts) else None,
        mean_characters=fmean(each.n_characters for each in rollouts),
        truncated=fmean(each.is_cut for each in rollouts),
        empty=fmean(each.is_empty for each in rollouts),
        repetition=fmean(each.repeated for each in rollouts),
        n_compared=len(gaps),
        **_ends("reverse_kl", by_token),
        **_ends("reverse_kl_per_byte", by_byte),
        ess=effective_share([x for each in rollouts for x in each.log_ratios]),
        shared_tokens=sum(each.tokens for each in shared) / n_places if n_places else None,
        shared_of_teacher=sum(each.of_teacher for each in shared) / n_places if n_places else None,
        shared_of_student=sum(each.of_student for each in shared) / n_places if n_places else None,
    )


def _ratio(values: Sequence[tuple[str, float, int]]) -> Estimate | None:
    """Of sums over texts, with an interval over prompts; only a value where there is one prompt."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for prompt, nats, size in values:
        sums[prompt][0] += nats
        sums[prompt][1] += size
    sized = [(nats, size) for nats, size in sums.values() if size]
    return ratio_of_sums(sized) if sized else None


def _ends(name: str, found: Estimate | None) -> dict[str, float]:
    if found is None:
        return {}
    if found.low == found.high:
        return {name: found.value}
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def effective_share(log_ratios: Sequence[float]) -> float | None:
    """(Σρ)² / (nΣρ²) of importance weights ρ, given as logs: 1 where all are alike, down to 1/n.

    None where there are no weights.

    >>> effective_share([0.0, 0.0]), effective_share([0.0, -1000.0])
    (1.0, 0.5)
    """
    import numpy as np

    logs = np.asarray(log_ratios, dtype=float)
    if not len(logs):
        return None
    weights = np.exp(logs - logs.max())
    return float(weights.sum() ** 2 / (len(weights) * (weights**2).sum()))


@dataclass(frozen=True)
class Trouble:
    """Why a round must not be trained on. limit: the one of `Limits` that it passes."""

    limit: str
    why: str


def trouble(now: Watched, first: Watched | None, limits: Limits) -> Trouble | None:
    """Whether a round has gone wrong; None where it may be trained on.

    first: the figures of the first round; None where this is it, and there is nothing to compare.
    """
    if now.n_rows < LEAST_ROLLOUTS:
        return None
    if limits.repetition is not None and now.repetition > limits.repetition:
        return Trouble(
            "repetition",
            f"{now.repetition:.1%} of what is written was written before in the same text",
        )
    if limits.empty is not None and now.empty > limits.empty:
        return Trouble("empty", f"{now.empty:.1%} of the texts hold nothing")
    if first is None or first.n_rows < LEAST_ROLLOUTS:
        return None
    cut, before = now.truncated, first.truncated
    if limits.truncated is not None and cut > limits.truncated and cut >= 2 * before:
        return Trouble(
            "truncated",
            f"{cut:.1%} of the texts are cut by max_tokens, and {before:.1%} were in the first "
            "round",
        )
    length, was, unit = _lengths(now, first)
    if limits.growth is not None and was and length > limits.growth * was:
        return Trouble(
            "growth",
            f"texts have {length:.0f} {unit}, {length / was:.1f} times the {was:.0f} of the first "
            "round",
        )
    return None


def _lengths(now: Watched, first: Watched) -> tuple[float, float, str]:
    if now.mean_tokens is not None and first.mean_tokens is not None:
        return now.mean_tokens, first.mean_tokens, "tokens"
    return now.mean_characters, first.mean_characters, "characters"
