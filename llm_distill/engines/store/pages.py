"""Reads rows from the pages of a damaged SQLite file, without the b-tree above them.

SQLite finds a row through the pages above it, and gives up where one of these is gone; the rows
themselves are on leaf pages, each of which can be read alone. The format is that of
https://www.sqlite.org/fileformat2.html. A row may come out wrong: the caller checks it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self

Value = int | float | str | bytes | None

MAGIC = b"SQLite format 3\0"
PAGE_SIZE = 4096
"""SQLite's default, for a file whose head is gone."""
KINDS = LEAF, INTERIOR, INDEX_LEAF, INDEX_INTERIOR = 13, 5, 10, 2
WAL_HEAD, FRAME_HEAD = 32, 24
UNREADABLE = (IndexError, ValueError, struct.error, RecursionError, OverflowError)


class Pages:
    """The pages of a file, the newest of each: with those that are still in its -wal.

    size: bytes of a page. stated: how many pages the file should have; None if its head is gone.
    there: how many pages there are. flowed: those that were read as the rest of a long row.
    """

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("rb")
        self._wal: BinaryIO | None = None
        self._at: dict[int, int] = {}
        self.flowed: set[int] = set()
        head = self._file.read(100)
        has_head = len(head) == 100 and head.startswith(MAGIC)
        size = int.from_bytes(head[16:18], "big") if has_head else PAGE_SIZE
        size = 65536 if size == 1 else size
        has_head = has_head and size >= 512 and size & (size - 1) == 0
        self.size = size if has_head else PAGE_SIZE
        self.there = -(-path.stat().st_size // self.size)
        wal = path.with_name(f"{path.name}-wal")
        if wal.exists():
            self._wal = wal.open("rb")
            self._find_frames(wal.stat().st_size)
        first = self.page(1)
        has_head = first.startswith(MAGIC)
        self.usable = self.size - (first[20] if has_head else 0)
        self.stated = int.from_bytes(first[28:32], "big") if has_head else None

    def _find_frames(self, n_bytes: int) -> None:
        """Where in the -wal the newest content of each page is; older frames have other salts."""
        assert self._wal is not None
        salts = self._wal.read(WAL_HEAD)[16:24]
        for at in range(WAL_HEAD, n_bytes - FRAME_HEAD - self.size + 1, FRAME_HEAD + self.size):
            self._wal.seek(at)
            frame = self._wal.read(FRAME_HEAD)
            if frame[8:16] == salts:
                number = int.from_bytes(frame[:4], "big")
                self._at[number] = at + FRAME_HEAD
                self.there = max(self.there, number)

    def page(self, number: int) -> bytes:
        """A page's bytes, from 1; fewer, or none, where the file ends before."""
        if number in self._at and self._wal is not None:
            self._wal.seek(self._at[number])
            return self._wal.read(self.size)
        if number < 1:
            return b""
        self._file.seek((number - 1) * self.size)
        return self._file.read(self.size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._wal is not None:
            self._wal.close()

    def rows(self, number: int) -> Iterator[tuple[int, list[Value]]]:
        """The rows of a table's leaf page that can be read: (id, values). None of other pages."""
        page = self.page(number)
        for at in _cells(page, number, LEAF, 8):
            try:
                length, at = _varint(page, at)
                identity, at = _varint(page, at)
                yield identity, _values(self._payload(page, at, length, self.usable - 35))
            except UNREADABLE:
                continue

    def keys(self, number: int) -> list[int]:
        """The largest ids under the children of a table's interior page, but for its last child."""
        page = self.page(number)
        try:
            return [_varint(page, at + 4)[0] for at in _cells(page, number, INTERIOR, 12)]
        except UNREADABLE:
            return []

    def children(self, number: int) -> list[int]:
        """The page numbers of the children of a table's interior page, in order of their ids."""
        page = self.page(number)
        found = [
            int.from_bytes(page[at : at + 4], "big") for at in _cells(page, number, INTERIOR, 12)
        ]
        return [*found, int.from_bytes(page[8:12], "big")] if self.kind(number) == INTERIOR else []

    def index_entries(self, number: int) -> Iterator[list[Value]]:
        """The entries of a page of an index; their last value is the row's id."""
        page = self.page(number)
        kind = self.kind(number)
        skipped = 4 if kind == INDEX_INTERIOR else 0
        if kind not in (INDEX_LEAF, INDEX_INTERIOR):
            return
        most = (self.usable - 12) * 64 // 255 - 23
        for at in _cells(page, number, kind, 8 + skipped):
            try:
                length, at = _varint(page, at + skipped)
                yield _values(self._payload(page, at, length, most))
            except UNREADABLE:
                continue

    def kind(self, number: int) -> int | None:
        """LEAF, INTERIOR, ... by the page's first byte; None where the page is gone."""
        page = self.page(number)
        at = 100 if number == 1 else 0
        return page[at] if len(page) > at else None

    def _payload(self, page: bytes, at: int, length: int, most: int) -> bytes:
        """A cell's content: what is on the page, and what flowed over to other pages."""
        usable = self.usable
        if length <= most:
            return _exactly(page[at : at + length], length)
        least = (usable - 12) * 32 // 255 - 23
        here = least + (length - least) % (usable - 4)
        here = here if here <= most else least
        parts, left = [_exactly(page[at : at + here], here)], length - here
        following = int.from_bytes(page[at + here : at + here + 4], "big")
        for _ in range(self.there):  # a damaged chain may be a circle
            if left <= 0:
                break
            over = self.page(following)
            self.flowed.add(following)
            part = _exactly(over[4:usable][:left], min(left, usable - 4))
            following = int.from_bytes(over[:4], "big")
            parts.append(part)
            left -= len(part)
        return _exactly(b"".join(parts), length)


def _cells(page: bytes, number: int, kind: int, head: int) -> list[int]:
    """Where on the page its cells begin; none where it is of another kind."""
    at = 100 if number == 1 else 0
    if len(page) < at + head or page[at] != kind:
        return []
    count = int.from_bytes(page[at + 3 : at + 5], "big")
    pointers = page[at + head : at + head + 2 * count]
    return [int.from_bytes(pointers[i : i + 2], "big") for i in range(0, len(pointers), 2)]


def _exactly(data: bytes, length: int) -> bytes:
    if len(data) != length:
        raise ValueError("cut short")
    return data


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of 1 to 9 bytes, and where it ends."""
    value = 0
    for n in range(9):
        byte = data[at + n]
        if n == 8:
            value = value << 8 | byte
            break
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            break
    return (value - 2**64 if value >= 2**63 else value), at + n + 1


def _values(payload: bytes) -> list[Value]:
    """The columns of a record."""
    end, at = _varint(payload, 0)
    kinds = []
    while at < end:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    values: list[Value] = []
    at = end
    for kind in kinds:
        size = {5: 6, 6: 8, 7: 8}.get(kind, kind if kind <= 4 else 0)
        size = (kind - 12) // 2 if kind >= 12 else size
        part = _exactly(payload[at : at + size], size)
        at += size
        if kind >= 12:
            values.append(part.decode("utf-8") if kind % 2 else part)
        elif kind == 7:
            values.append(struct.unpack(">d", part)[0])
        elif 1 <= kind <= 6:
            values.append(int.from_bytes(part, "big", signed=True))
        else:
            values.append({8: 0, 9: 1}.get(kind))
    return values
