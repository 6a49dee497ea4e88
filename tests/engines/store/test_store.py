from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llm_distill.engines.base import Completion, Request, SamplingSettings, StructuredOutput
from llm_distill.engines.store import file
from llm_distill.engines.store.file import store_error
from llm_distill.engines.store.repair import mend, problems
from llm_distill.engines.store.store import CompletionStore, StoredAnswers
from llm_distill.errors import WorkspaceError

SAMPLING = SamplingSettings(temperature=0.7, max_tokens=10)
REQUEST = Request("r", "2 + 2?", SAMPLING, seed=3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "completions" / "store.sqlite"


@pytest.fixture
def opened(path: Path) -> Callable[..., StoredAnswers]:
    def open_store(identity: Any = 1, said: list[str] | None = None) -> StoredAnswers:
        said = [] if said is None else said
        return StoredAnswers(CompletionStore(path, said.append), identity, "a/model")

    return open_store


def limited(max_tokens: int) -> Request:
    return replace(REQUEST, sampling=SAMPLING.model_copy(update={"max_tokens": max_tokens}))


def keep(stored: StoredAnswers, request: Request, completion: Completion) -> None:
    stored.keep(stored.key(request), completion)


def find(stored: StoredAnswers, request: Request) -> Completion | None:
    return stored.completion(stored.key(request), request)


def fill(stored: StoredAnswers, n: int, start: int = 0) -> None:
    for index in range(start, start + n):
        keep(
            stored, replace(REQUEST, prompt=f"p{index}"), Completion("x", f"t{index}" * 20, "stop")
        )


def found(stored: StoredAnswers, n: int) -> list[int]:
    return [i for i in range(n) if find(stored, replace(REQUEST, prompt=f"p{i}")) is not None]


def test_a_completion_comes_back_as_it_was_in_another_process(opened):
    done = Completion(
        "r", " 4\n\u2028é🙂", "stop", 7, 3, (-0.1, -1e-9, -12.3456789012345), cost=0.25
    )
    keep(opened(), REQUEST, done)
    other = replace(REQUEST, id="another")
    assert find(opened(), other) == replace(done, id="another", cost=0.0)


def test_thoughts_and_calls_come_back_too(opened):
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": 0.1}}}
    done = Completion("r", "4", "stop", 1, 2, reasoning="2 + 2", tool_calls=(call,))
    keep(opened(), REQUEST, done)
    assert find(opened(), REQUEST) == done


def test_what_an_older_version_kept_is_still_found(opened, path):
    """As version 1 wrote it: without the columns that came later, and their part of the sum."""
    done = Completion("r", "4", "stop", 1, 2)
    key, _ = opened().key(REQUEST)
    path.parent.mkdir(parents=True)
    content = ("4", None, None, 1, 2, 0.0)
    total = zlib.crc32(repr((key, 0, *content)).encode())
    columns = "text TEXT, token_ids BLOB, logprobs BLOB, n_prompt_tokens INTEGER"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE models (id INTEGER PRIMARY KEY, digest TEXT UNIQUE, name TEXT)")
        db.execute(
            "CREATE TABLE completions (id INTEGER PRIMARY KEY, key BLOB, truncated_at INTEGER, "
            f"model INTEGER, created REAL, checksum INTEGER, {columns}, "
            "n_completion_tokens INTEGER, cost REAL, UNIQUE (key, truncated_at))"
        )
        row = (1, key, 0, 1, 0.0, total, *content)
        db.execute(f"INSERT INTO completions VALUES ({', '.join('?' * len(row))})", row)
        db.execute("PRAGMA user_version = 1")
    assert find(opened(), REQUEST) == done
    assert problems(path) == []
    thought = Completion("r", "5", "stop", 1, 2, reasoning="why")
    other = replace(REQUEST, prompt="another")
    keep(opened(), other, thought)
    assert find(opened(), other) == thought
    assert problems(path) == []


def test_what_the_second_version_kept_is_still_found_and_mended(opened, path):
    """As version 2 wrote it: a thought is a part of the sum, whether a budget cut it is not."""
    done = Completion("r", "4", "stop", 1, 2, reasoning="2 + 2")
    key, _ = opened().key(REQUEST)
    keep(opened(), replace(REQUEST, prompt="another"), Completion("r", "5", "stop", 1, 2))
    content = ("4", None, None, 1, 2, 0.0, "2 + 2", None)
    total = zlib.crc32(repr((key, 0, *content)).encode())
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("ALTER TABLE completions DROP COLUMN thought_cut")
        row = (7, key, 0, 1, 0.0, total, *content)
        db.execute(f"INSERT INTO completions VALUES ({', '.join('?' * len(row))})", row)
        db.execute("PRAGMA user_version = 2")
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    broken = path.with_name("broken.sqlite")
    broken.write_bytes(b"no database" + path.read_bytes()[11:])
    assert find(opened(), REQUEST) == done
    assert problems(path) == []
    mend(broken)
    assert find(StoredAnswers(CompletionStore(broken, print), 1, "a/model"), REQUEST) == done


@pytest.mark.parametrize("is_cut", [True, False, None])
def test_whether_a_budget_cut_a_thought_comes_back_too(opened, path, is_cut):
    done = Completion("r", "4", "stop", 1, 2, thought_cut=is_cut)
    keep(opened(), REQUEST, done)
    assert find(opened(), REQUEST) == done
    assert problems(path) == []


def test_an_error_is_not_kept(opened):
    keep(opened(), REQUEST, Completion("r", "", "error", error="refused"))
    assert find(opened(), REQUEST) is None


def test_what_ended_by_itself_is_valid_under_every_limit_that_it_fits_into(opened):
    keep(opened(), limited(10), Completion("r", "four", "stop", 1, 4))
    assert [find(opened(), limited(n)) is not None for n in (3, 4, 10, 99)] == [
        False,
        True,
        True,
        True,
    ]


def test_what_was_cut_is_valid_under_its_own_limit_only(opened):
    keep(opened(), limited(10), Completion("r", "cut", "length", 1, 10))
    assert [find(opened(), limited(n)) is not None for n in (9, 10, 11)] == [False, True, False]
    keep(opened(), limited(20), Completion("r", "whole", "stop", 1, 14))
    assert find(opened(), limited(10)).text == "cut"  # and nothing that was paid for is gone
    assert find(opened(), limited(20)).text == "whole"


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, prompt="2 + 3?"),
        replace(REQUEST, prompt=[{"role": "user", "content": "2 + 2?"}]),
        replace(REQUEST, seed=4),
        replace(REQUEST, logprobs=True),
        replace(REQUEST, structure=StructuredOutput(regex="4")),
        replace(REQUEST, sampling=SAMPLING.model_copy(update={"stop": ("\n",)})),
        replace(REQUEST, sampling=SAMPLING.model_copy(update={"top_p": 0.9})),
    ],
)
def test_whatever_can_change_the_text_is_in_the_key(opened, other):
    stored = opened()
    assert stored.key(other)[0] != stored.key(REQUEST)[0]
    keep(stored, REQUEST, Completion("r", "4", "stop"))
    assert find(stored, other) is None


def test_whatever_cannot_is_not(opened):
    stored = opened()
    assert stored.key(limited(99))[0] == stored.key(replace(REQUEST, id="z"))[0]
    greedy = replace(REQUEST, sampling=SamplingSettings(temperature=0))
    assert stored.key(greedy) == stored.key(replace(greedy, seed=99))


def test_a_budget_for_thoughts_makes_it_another_request(opened):
    budgets = (None, 0, 4)
    asked = [
        replace(REQUEST, sampling=SAMPLING.model_copy(update={"thinking_token_budget": budget}))
        for budget in budgets
    ]
    assert len({opened().key(request)[0] for request in asked}) == 3
    assert opened().key(asked[0]) == opened().key(REQUEST)


def test_models_do_not_share(opened):
    keep(opened({"weights": "a"}), REQUEST, Completion("r", "4", "stop"))
    assert find(opened({"weights": "b"}), REQUEST) is None


def test_the_key_is_the_same_in_every_version(opened):
    """A change here means that nobody's completions are found any more."""
    assert opened().key(REQUEST)[0].hex() == (
        "4e4c2f544dea1c693adfffb66b26e5da91c11ec863bd410c347f4dfa5f9c864e"
    )


def test_a_store_from_a_newer_version_is_left_alone(opened, path):
    fill(opened(), 3)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(WorkspaceError, match=r"newer llm-distill \(its schema is 99"):
        find(opened(), REQUEST)
    assert len(list(path.parent.glob("*damaged*"))) == 0


def test_a_changed_text_is_not_believed(opened, path):
    fill(opened(), 5)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE completions SET text = 'other' WHERE id = 3")
    assert found(opened(), 5) == [0, 1, 3, 4]
    assert problems(path) == ["1 completions have changed since they were written"]
    fill(opened(), 5)  # asked again, it takes the place of the changed one
    assert found(opened(), 5) == [0, 1, 2, 3, 4]
    assert problems(path) == []


def _fill_from(path: Path, start: int) -> None:
    fill(StoredAnswers(CompletionStore(path, print), 1, "a/model"), 200, start)


def test_a_new_file_that_another_process_is_opening(path, monkeypatch):
    """SQLite may say at once that it is locked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = sqlite3.connect(path)
    busy = iter([True, True, False])

    class Other:
        def execute(self, sql):
            if "journal_mode" in sql and next(busy):
                raise sqlite3.OperationalError("database is locked")
            return found.execute(sql)

    file._use_wal(Other())
    assert found.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    monkeypatch.setattr(file, "BUSY_SECONDS", 0.0)
    busy = iter([True] * 9)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        file._use_wal(Other())


def test_processes_share_it(opened, path):
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_fill_from, args=(path, n)) for n in (0, 100, 200)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert found(opened(), 400) == list(range(400))


def test_what_was_kept_survives_sigkill(opened, path):
    script = (
        "import sys; from tests.engines.store.test_store import *\n"
        f"stored = StoredAnswers(CompletionStore(Path({str(path)!r}), print), 1, 'a/model')\n"
        "for i in range(10**6):\n    fill(stored, 1, i); print(i, flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 50:
            break
    process.send_signal(signal.SIGKILL)
    last = max([int(line), *(int(rest) for rest in process.stdout.read().split("\n")[:-1] if rest)])
    process.wait()
    assert set(found(opened(), last + 1)) == set(range(last + 1))
    assert problems(path) == []


def test_a_full_disk_is_said_to_be_one(path):
    path.parent.mkdir()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (x)")
        db.execute("PRAGMA max_page_count = 2")
        with pytest.raises(sqlite3.OperationalError) as full:
            db.execute("INSERT INTO t VALUES (?)", ["x" * 100_000])
    assert isinstance(store_error(full.value, path), OSError)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to(opened, path):
    path.parent.mkdir(mode=0o500)
    with pytest.raises(WorkspaceError, match="writable"):
        find(opened(), REQUEST)


def test_what_a_server_counts_beyond_the_limit_is_found_again(opened):
    """It counts thoughts that it does not show."""
    keep(opened(), limited(8), Completion("r", "four", "stop", 7, 500))
    assert find(opened(), limited(8)) == Completion("r", "four", "stop", 7, 8)
    assert find(opened(), limited(7)) is None


def test_tokens_are_kept_and_a_completion_without_them_is_another(
    opened: Callable[..., StoredAnswers],
) -> None:
    stored, asked = opened(), replace(REQUEST, tokens=True)
    keep(stored, REQUEST, Completion("r", "4", "stop", 3, 2))
    assert find(stored, asked) is None
    done = Completion("r", "5", "stop", 3, 2, logprobs=(-0.5, -1e-3), token_ids=(7, 151_643))
    keep(stored, asked, done)
    assert find(stored, asked) == done
    found = find(stored, REQUEST)
    assert found is not None
    assert (found.text, found.token_ids) == ("4", None)
