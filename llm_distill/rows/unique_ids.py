"""Which ids have been seen, in a few bytes each: a million texts in a set take 100 MB."""

from __future__ import annotations

from hashlib import blake2b

RECENT = 65_536


class UniqueIds:
    """Remembers ids by 64 bits of a digest: of a million, two are mixed up once in 10^7 times."""

    def __init__(self) -> None:
        import numpy as np

        self._np = np
        self._recent: dict[int, int] = {}
        self._digests = np.empty(0, np.uint64)  # sorted
        self._places = np.empty(0, np.uint32)

    def __len__(self) -> int:
        return len(self._digests) + len(self._recent)

    def add(self, identity: str) -> int | None:
        """Remember an id; if it was added before, do nothing and say as which, from 0."""
        digest = int.from_bytes(
            blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        )
        found = self._find(digest)
        if found is not None:
            return found
        self._recent[digest] = len(self)
        if len(self._recent) == RECENT:
            self._settle()
        return None

    def _find(self, digest: int) -> int | None:
        if digest in self._recent:
            return self._recent[digest]
        place = int(self._np.searchsorted(self._digests, self._np.uint64(digest)))
        if place < len(self._digests) and int(self._digests[place]) == digest:
            return int(self._places[place])
        return None

    def _settle(self) -> None:
        """Insert the recent ones where they belong: sorting all anew would take more memory."""
        np = self._np
        digests = np.fromiter(self._recent, np.uint64)
        places = np.fromiter(self._recent.values(), np.uint32)
        order = digests.argsort()
        at = self._digests.searchsorted(digests[order])
        self._digests = np.insert(self._digests, at, digests[order])
        self._places = np.insert(self._places, at, places[order])
        self._recent.clear()
