"""Files as people and the Hub lay them out: which are a split's, and what stands in them."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import pyarrow as pa
import pytest

from llm_distill.errors import DataError
from llm_distill.rows.files import (
    FORMATS,
    by_split,
    check_format,
    check_split_of_files,
    files_of_glob,
    files_of_split,
    format_of,
    lines_of,
    split_of,
)
from llm_distill.rows.reading import READERS, check_is_no_file


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"{}\n")


def names(folder: Path, split: str, config: str | None = None) -> list[str]:
    return [str(p.relative_to(folder)) for p in files_of_split(folder, split, config)]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.jsonl", ".jsonl"),
        ("A.JSONL", ".jsonl"),
        ("a.b.csv.gz", ".csv"),
        ("a.tsv.ZST", ".tsv"),
        ("a.parquet", ".parquet"),
        ("a.parquet.gz", None),
        ("a.txt", None),
        ("a.gz", None),
        ("a", None),
    ],
)
def test_formats(name: str, found: str | None) -> None:
    assert format_of(Path(name)) == found


def test_an_unknown_format_says_what_is_read() -> None:
    with pytest.raises(DataError, match=r"a.jsnl: unknown kind of file; did you mean '.json"):
        check_format(Path("a.jsnl"))


def test_a_file_for_each_split(tmp_path: Path) -> None:
    touch(tmp_path, "train.jsonl", "test.csv.gz", "notes.txt", ".hidden.jsonl")
    assert names(tmp_path, "test") == ["test.csv.gz"]
    assert names(tmp_path, "trian") == []
    assert sorted(by_split(tmp_path)) == ["test", "train"]


def test_shards_as_the_hub_has_them(tmp_path: Path) -> None:
    shards = [f"data/train-{n:05}-of-00003.parquet" for n in range(3)]
    touch(tmp_path, *shards, "data/test-00000-of-00001.parquet", "README.md")
    assert names(tmp_path, "train") == shards
    assert names(tmp_path, "test") == ["data/test-00000-of-00001.parquet"]


def test_a_folder_for_each_split(tmp_path: Path) -> None:
    touch(tmp_path, "train/b.jsonl", "train/a.jsonl", "test/x/c.jsonl")
    assert names(tmp_path, "train") == ["train/a.jsonl", "train/b.jsonl"]
    assert names(tmp_path, "test") == ["test/x/c.jsonl"]


def test_what_the_readme_states_comes_first(tmp_path: Path) -> None:
    touch(tmp_path, "train.jsonl", "en/first.jsonl", "en/second.jsonl", "de/first.jsonl")
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: en/*\n"
        "- config_name: de\n  data_files: de/first.jsonl\n"
        "- config_name: bad\n  data_files: ../x.jsonl\n---\n# A dataset\n"
    )
    assert names(tmp_path, "train") == ["en/first.jsonl", "en/second.jsonl"]
    assert names(tmp_path, "train", "de") == ["de/first.jsonl"]
    assert names(tmp_path, "train", "bad") == ["train.jsonl"]


@pytest.mark.parametrize("head", ["", "---\n", "---\n[\n---\n", "---\nconfigs: 3\n---\n"])
def test_a_readme_that_states_nothing_is_passed_over(tmp_path: Path, head: str) -> None:
    touch(tmp_path, "train.jsonl")
    (tmp_path / "README.md").write_text(head)
    assert names(tmp_path, "train") == ["train.jsonl"]


def test_globs(tmp_path: Path) -> None:
    touch(tmp_path, "a/2.jsonl", "a/1.jsonl")
    assert [p.name for p in files_of_glob(f"{tmp_path}/a/*.jsonl")] == ["1.jsonl", "2.jsonl"]
    with pytest.raises(DataError, match="no file is like"):
        files_of_glob(f"{tmp_path}/b/*.jsonl")


def test_files_have_the_split_of_their_names() -> None:
    assert split_of(Path("test.JSONL.gz")) == "test"
    check_split_of_files([Path("test.jsonl")], "test")
    check_split_of_files([Path("data.jsonl"), Path("more.jsonl")], "train")
    check_split_of_files([Path(f"test-0000{n}-of-00002.jsonl") for n in (0, 1)], "test")
    for split in ("test", "trian"):
        with pytest.raises(DataError, match=f"is one file, with no split '{split}' of their own"):
            check_split_of_files([Path("data.jsonl")], split)
        with pytest.raises(DataError, match=f"2 files are named, with no split '{split}'"):
            check_split_of_files([Path("train.jsonl"), Path("data.jsonl")], split)


def test_what_is_called_a_format_can_be_read() -> None:
    assert {*FORMATS} == {*READERS, ".parquet"}


TEXT = b'{"a": 1}\n{"a": 2}\n'
COMPRESS = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.Codec("zstd").compress(data).to_pybytes(),
}


@pytest.mark.parametrize("ending", COMPRESS)
def test_lines_without_compression(tmp_path: Path, ending: str) -> None:
    file, data = tmp_path / f"rows.jsonl{ending}", COMPRESS[ending](TEXT)
    file.write_bytes(data)
    with lines_of(file) as lines:
        assert b"".join(lines) == TEXT
    if ending:
        file.write_bytes(data[: len(data) // 2])
        with pytest.raises(DataError, match=f"rows.jsonl{ending}"), lines_of(file) as lines:
            list(lines)


def test_lines_that_end_in_carriage_returns(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b"a,b\r1,2\r3,4")
    with lines_of(file) as lines:
        assert list(lines) == [b"a,b\n", b"1,2\n", b"3,4\n"]
    file.write_bytes(b'a,b\n"x\ry",1\n')
    with lines_of(file) as lines:
        assert list(lines) == [b"a,b\n", b'"x\ry",1\n']
    file.write_bytes(b'"a\rb"\n1\n')
    with lines_of(file) as lines:
        assert list(lines) == [b'"a\rb"\n', b"1\n"]
    file.write_bytes(b'a\r\n"x\ry"\r\n')
    with lines_of(file) as lines:
        assert list(lines) == [b"a\r\n", b'"x\ry"\r\n']


def test_data_that_are_there_from_a_folder_further_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "mine/data/train.jsonl", "org/name/train.jsonl")
    monkeypatch.chdir(tmp_path / "mine")
    with pytest.raises(DataError, match=f"'mine/data'; start it in {tmp_path}: paths are read"):
        check_is_no_file("mine/data")
    check_is_no_file("org/name")  # a name on the Hub all the same
