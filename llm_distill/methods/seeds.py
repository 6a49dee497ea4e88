"""Seeds that depend on what is asked, not on when or in which batch."""

from __future__ import annotations

import hashlib
import json


def derive_seed(seed: int, *parts: str | int) -> int:
    """A seed in [0, 2**31) from the pipeline's seed and parts such as a row id and an index.

    The parts are hashed as JSON, so ("a", "bc") and ("ab", "c") differ.
    """
    digest = hashlib.sha256(json.dumps([seed, *parts]).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
