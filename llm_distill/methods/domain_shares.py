"""Which share of the next rows each domain gets, by how far the student lags there (DDK). Pure.

Of "DDK: Distilling Domain Knowledge for Efficient Large Language Models", arXiv 2407.16154.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, isfinite, log

SMOOTHING = 0.5
"""The paper's α."""


def first_shares(lags: Mapping[str, float]) -> dict[str, float]:
    """r⁰ = softmax(ρ) over the domains, which is not smoothed.

    Args:
        lags: By domain ρ, the student's perplexity divided by the teacher's.

    Raises:
        ValueError: there is no domain, or a ρ is not finite.
    """
    _check(lags)
    return _softmax(lags)


def next_shares(
    lags: Mapping[str, float], shares: Mapping[str, float], smoothing: float = SMOOTHING
) -> dict[str, float]:
    """R ← α · r·exp(ρ) / Σ r·exp(ρ) + (1 − α) / N, computed in logs: exp(ρ) overflows soon.

    With equal ρ the shares go to 1/N. No share is below (1 − α) / N from then on.

    Args:
        lags: By domain ρ, the student's perplexity divided by the teacher's.
        shares: Of the interval before, of the same domains; each 0 or above.
        smoothing: α, 0 to 1.

    Raises:
        ValueError: the domains differ, a ρ is not finite, or a share is not a share.
    """
    _check(lags)
    if set(lags) != set(shares):
        apart = ", ".join(sorted(set(lags) ^ set(shares)))
        raise ValueError(f"the domains are not those of the shares before: {apart}")
    bad = [domain for domain, share in shares.items() if not 0 <= share <= 1]
    if bad or not any(shares.values()):
        raise ValueError(f"shares are 0 to 1, and not all 0: {dict(shares)}")
    there = {domain: lags[domain] + log(share) for domain, share in shares.items() if share}
    drawn = _softmax(there)
    rest = (1 - smoothing) / len(lags)
    return {domain: smoothing * drawn.get(domain, 0.0) + rest for domain in lags}


def _softmax(values: Mapping[str, float]) -> dict[str, float]:
    highest = max(values.values())
    weights = {name: exp(value - highest) for name, value in values.items()}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _check(lags: Mapping[str, float]) -> None:
    if not lags:
        raise ValueError("there are no domains")
    bad = {domain: lag for domain, lag in lags.items() if not isfinite(lag)}
    if bad:
        raise ValueError(f"not a finite number: {bad}")
