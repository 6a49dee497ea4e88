"""Work that takes a while where nobody holds a bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llm_distill import paths
from llm_distill.doing import doing, shown_by


def test_large_files_are_shown_while_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And their digests are those of small ones."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"ab" * 1_500_000)
    (tmp_path / "model" / "config").write_text("{}")
    shown: list[tuple[Any, ...]] = []

    @contextmanager
    def show(*about: Any) -> Iterator[Any]:
        shown.append(about)
        yield Counted(shown)

    class Counted:
        def __init__(self, into: list[tuple[Any, ...]]) -> None:
            self.into = into

        def advance(self, n: int = 1) -> None:
            self.into.append((n,))

    with shown_by(show):
        small = paths.file_digests(tmp_path / "model")
        assert shown == []
        monkeypatch.setattr(paths, "LARGE", 1)
        monkeypatch.setattr(paths, "CHUNK", 10**6)
        assert paths.file_digests(tmp_path / "model") == small
    assert shown == [("check model", 3, "MB", 0), (0,), (1,), (1,), (1,)]
    with doing("nobody looks") as bar:
        bar.advance()
    assert len(shown) == 5
