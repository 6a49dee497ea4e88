"""One spelling of a JSON value, and the digest of it. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """The one spelling of a JSON value: sorted keys, no white space, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def fingerprint(value: Any) -> str:
    """64 hex digits of the sha256 of a JSON value's canonical spelling."""
    return digest(value).hex()


def digest(value: Any) -> bytes:
    """The 32 bytes of it. A text may hold half a surrogate pair, as models' tokenizers can."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).digest()
