"""Which files hold a split of a dataset, as people and the Hub lay them out; and their bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import yaml

from llm_distill.errors import DataError, nearest

FORMATS = (".csv", ".json", ".jsonl", ".ndjson", ".parquet", ".tsv")
COMPRESSIONS = (".bz2", ".gz", ".xz", ".zst")
DEFAULT_SPLIT = "train"
_SHARD = re.compile(r"(?P<split>.+?)[-_.]\d{2,6}(?:[-_.]of[-_.]\d{2,6})?")
_GLOB = re.compile(r"[*?\[]")


def format_of(file: Path) -> str | None:
    """The ending that says how rows lie in a file, such as `.jsonl` for `A.JSONL.gz`."""
    endings = [ending.lower() for ending in file.suffixes]
    if endings and endings[-1] in COMPRESSIONS and endings[:-1] and endings[-2] != ".parquet":
        endings.pop()
    return endings[-1] if endings and endings[-1] in FORMATS else None


def is_glob(path: str) -> bool:
    return _GLOB.search(path) is not None


def files_of_glob(path: str) -> list[Path]:
    """The files that a pattern names, in the order of their names.

    Raises:
        DataError: It names none, or one of another kind.
    """
    from glob import glob

    named = glob(path, recursive=True)  # noqa: PTH207 (it may begin anywhere)
    found = [Path(each) for each in sorted(named) if Path(each).is_file()]
    if not found:
        raise DataError(f"no file is like '{path}'")
    for file in found:
        check_format(file)
    return found


def check_format(file: Path) -> str:
    """The file's format.

    Raises:
        DataError: It has none that can be read.
    """
    found = format_of(file)
    if found is None:
        allowed = nearest(file.suffix.lower(), (*FORMATS, *(f".jsonl{c}" for c in COMPRESSIONS)))
        raise DataError(f"{file}: unknown kind of file; {allowed}")
    return found


def check_split_of_files(files: Sequence[Path], split: str) -> None:
    """Refuse a split that files which were named cannot be told to have: it would be all rows.

    Raises:
        DataError: The split is neither the default nor the files' name.
    """
    if split != DEFAULT_SPLIT and any(split_of(file) != split for file in files):
        what = f"{files[0]} is one file" if len(files) == 1 else f"{len(files)} files are named"
        raise DataError(
            f"{what}, with no split '{split}' of their own; leave split out, cut it "
            f"({DEFAULT_SPLIT}[:100]), or divide the rows with the stage split"
        )


def files_of_split(folder: Path, split: str, config: str | None = None) -> list[Path]:
    """The files of a folder that hold a split, in the order of their names.

    As the folder's README.md says in `configs`, if it does; else `test.jsonl`, shards such as
    `data/test-00000-of-00002.parquet`, or everything in `test/`.

    Args:
        folder: A folder, such as a clone of a dataset's repository.
        split: The split's name.
        config: The configuration's name in `configs`; None for the default.

    Returns:
        No files where there are none of that split.
    """
    return by_split(folder, config).get(split, [])


def by_split(folder: Path, config: str | None = None) -> dict[str, list[Path]]:
    """Every split of a folder that is found, with its files."""
    stated = _stated_splits(folder, config)
    if stated:
        return stated
    found: dict[str, list[Path]] = {}
    for place in (folder, folder / "data"):
        if not place.is_dir():
            continue
        for path in sorted(place.iterdir()):
            if path.name.startswith("."):
                continue
            if path.is_dir() and path.name != "data":
                inner = [p for p in sorted(path.rglob("*")) if p.is_file() and format_of(p)]
                if inner:
                    found.setdefault(path.name, []).extend(inner)
            elif path.is_file() and format_of(path):
                found.setdefault(split_of(path), []).append(path)
        if found:
            break
    return found


def split_of(file: Path) -> str:
    """`test` for `test.jsonl.gz` and for `test-00000-of-00002.parquet`."""
    name = file.name
    for ending in reversed(file.suffixes):
        if ending.lower() not in (*FORMATS, *COMPRESSIONS):
            break
        name = name.removesuffix(ending)
    shard = _SHARD.fullmatch(name)
    return shard["split"] if shard else name


def _stated_splits(folder: Path, config: str | None) -> dict[str, list[Path]]:
    """What the head of README.md says under `configs`; nothing where it says nothing usable."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
        head = yaml.safe_load(text.split("---\n")[1]) if text.startswith("---\n") else None
    except (OSError, ValueError, IndexError, yaml.YAMLError, RecursionError):
        return {}
    configs = head.get("configs") if isinstance(head, dict) else None
    known = (
        [each for each in configs if isinstance(each, dict)] if isinstance(configs, list) else []
    )
    wanted = (config,) if config else (None, "default")
    chosen = [each for each in known if each.get("config_name") in wanted]
    if not chosen and config is None and len(known) == 1:
        chosen = known
    if not chosen:
        return {}
    entries = chosen[0].get("data_files")
    found: dict[str, list[Path]] = {}
    for entry in entries if isinstance(entries, list) else [entries]:
        stated = entry if isinstance(entry, dict) else {"split": DEFAULT_SPLIT, "path": entry}
        patterns = stated.get("path")
        for pattern in patterns if isinstance(patterns, list) else [patterns]:
            if isinstance(pattern, str) and ".." not in pattern and not pattern.startswith("/"):
                files = sorted(p for p in folder.glob(pattern) if p.is_file() and format_of(p))
                found.setdefault(str(stated.get("split", DEFAULT_SPLIT)), []).extend(files)
    return {name: files for name, files in found.items() if files}


@contextmanager
def lines_of(file: Path) -> Iterator[Iterable[bytes]]:
    """The lines of a file, without its compression, whatever ends them.

    Raises:
        DataError: It cannot be read, or what is compressed is damaged.
    """
    import lzma
    import zlib

    try:
        with _opened(file) as stream:
            yield _any_ends(stream)
    except (EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{file}: what is compressed is damaged: {error}") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # Arrow's own; to name them would import it for any text file
        if type(error).__module__.partition(".")[0] != "pyarrow":
            raise
        raise DataError(f"{file}: what is compressed is damaged: {error}") from error


def _opened(file: Path) -> IO[bytes]:
    import bz2
    import gzip
    import io
    import lzma

    ending = file.suffix.lower()
    if ending == ".gz":
        return gzip.open(file)  # type: ignore[return-value]
    if ending == ".bz2":
        return bz2.open(file)
    if ending == ".xz":
        return lzma.open(file)
    if ending == ".zst":
        import pyarrow as pa

        return io.BufferedReader(pa.input_stream(str(file), compression="zstd"))
    return file.open("rb")


def _any_ends(stream: IO[bytes]) -> Iterator[bytes]:
    """Lines that end in \\n, or all in \\r, as a Macintosh once wrote them."""
    first = True
    for line in stream:
        if first and b"\r" in line and not line.endswith(b"\n"):  # no \\n in all of the file
            yield from (each + b"\n" for each in line.split(b"\r"))
        else:
            yield line
        first = False


QUICK = 2**29
"""Bytes of text whose lines are counted; a plan is to come at once."""


def most_rows_of(files: Sequence[Path]) -> int | None:
    """How many rows JSON Lines or Parquet have at most; None where it takes long to say."""
    total, read = 0, 0
    for file in files:
        if format_of(file) == ".parquet":
            from pyarrow import parquet

            total += parquet.ParquetFile(file).metadata.num_rows
            continue
        read += file.stat().st_size
        if file.suffix.lower() not in (".jsonl", ".ndjson") or read > QUICK:
            return None
        last = b"\n"
        with file.open("rb") as opened:
            while block := opened.read(2**20):
                total, last = total + block.count(b"\n"), block[-1:]
        total += last != b"\n"
    return total
