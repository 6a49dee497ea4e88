"""A pipeline whose model is on a server: what identifies it, and where it is looked for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_distill.cli.display import summarise
from llm_distill.errors import ModelError
from llm_distill.manifest import Manifest, read_manifest
from llm_distill.pipeline.load import load_pipeline
from llm_distill.runtime import resolve
from llm_distill.runtime.record import RunRecord
from tests.engines.loopback import Loopback, refuse

PIPELINE = """\
name: toy
models:
  teacher:
    model_name_or_path: served-model
    engine: {kind: openai, base_url: URL}
stages:
  numbers: {stage: toy_rows, n: 4}
  answers: {stage: generate, rows: numbers, model: teacher, template: ask.jinja}
"""


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Loopback, Loopback]]:
    for name in ("http_proxy", "HTTP_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    one, other = Loopback(), Loopback()
    yield one, other
    one.close()
    other.close()


def manifest_of(toy: Any, record: RunRecord) -> Manifest:
    artifact = record.stages["answers"].artifact
    assert artifact is not None
    found = read_manifest(toy.workspace.path(artifact))
    assert found is not None
    return found


def test_what_a_server_failed_to_answer_is_said_and_asked_again_on_demand(
    bench: Callable[[str], Any],
    servers: tuple[Loopback, Loopback],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ask.jinja").write_text("{{ question }}?")
    server, _ = servers
    text = PIPELINE.replace("URL", server.url).replace("}\nstages", ", max_attempts: 1}\nstages")
    toy = bench(text.replace("jinja}", "jinja, max_error_rate: 0.5}"))
    server.faults.append(refuse(503, "no room"))
    record = toy.run()
    rows = toy.rows(record, "answers")
    assert [row["completion"] is None for row in rows].count(True) == 1
    manifest = manifest_of(toy, record)
    assert (manifest.failed, len(server.calls)) == (1, 4)
    assert "1 answer failed (--retry-failed asks again)" in summarise(manifest)
    toy.run()
    assert len(server.calls) == 4
    again = toy.run(retry_failed=True)
    assert len(server.calls) == 5
    assert all(row["completion"] for row in toy.rows(again, "answers"))
    assert manifest_of(toy, again).failed == 0
    toy.run(retry_failed=True)
    assert len(server.calls) == 5


def test_the_name_on_the_server_identifies_it_and_the_address_does_not(
    bench: Callable[[str], Any],
    servers: tuple[Loopback, Loopback],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*args: object) -> None:
        raise AssertionError("looked up on the Hub")

    monkeypatch.setattr(resolve, "learn_commit", never)
    monkeypatch.setattr(resolve, "cached_commit", never)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "served-model").mkdir()  # is not it
    (tmp_path / "ask.jinja").write_text("{{ question }}?")
    one, other = servers
    toy = bench(PIPELINE.replace("URL", one.url))
    elsewhere = load_pipeline(str(toy.file), assignments=["models.teacher.model_name_or_path=x/y"])
    resolve.Resolver(elsewhere).learn_commits(["answers"])
    record = toy.run()
    texts = [row["completion"] for row in toy.rows(record, "answers")]
    assert texts == [f"echo question {index}?" for index in range(4)]
    assert {call.body["model"] for call in one.calls} == {"served-model"}
    moved = f"models.teacher.engine.base_url={other.url}"
    toy.run(moved, "models.teacher.engine.max_concurrency=2")
    toy.run(moved, "models.teacher.engine.model=served-model")
    assert toy.display.ran == other.calls == []
    toy.run(moved, "models.teacher.engine.model=other-model")
    assert toy.display.ran == ["answers"]
    assert {call.body["model"] for call in other.calls} == {"other-model"}
    other.answer = refuse(401)
    with pytest.raises(ModelError, match="stage 'answers': model 'teacher': http://127"):
        toy.run(moved, "models.teacher.engine.model=other-model:a-variant")


PAID = (
    PIPELINE.replace(
        "base_url: URL}", "base_url: URL, max_concurrency: 4, price: {input: 1000, output: 2000}}"
    )
    .replace("n: 4}", "n: 40}")
    .replace("ask.jinja}", "ask.jinja, sampling: {max_tokens: 5}}")
)
A_CALL = (5 * 1000 + 3 * 2000) / 1e6  # what the loopback server says that it used


@pytest.fixture
def paid(
    bench: Callable[[str], Any],
    servers: tuple[Loopback, Loopback],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Any, Loopback]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ask.jinja").write_text("{{ question }}?")
    return bench(PAID.replace("URL", servers[0].url)), servers[0]


def test_what_a_run_cost_is_in_the_manifest_and_said(paid: tuple[Any, Loopback], cli: Any) -> None:
    toy, server = paid
    done = cli("run", toy.file, "--workspace", toy.workspace.root)
    assert (done.code, len(server.calls)) == (0, 40)
    assert f"cost {40 * A_CALL:.2f}" in done.out
    manifest = toy.workspace.latest("answers")
    assert manifest.cost == pytest.approx(40 * A_CALL)
    assert (manifest.tokens_in, manifest.tokens_out) == (200, 120)
    assert f"{40 * A_CALL:.2f}" in cli("cache", "stats", "--workspace", toy.workspace.root).out
    again = cli("run", toy.file, "--force", "answers", "--workspace", toy.workspace.root)
    assert "40 completions known before" in again.out
    assert len(server.calls) == 40
    assert toy.workspace.latest("answers").cost == 0


def test_max_cost_stops_before_it_is_passed_and_a_higher_one_goes_on(
    paid: tuple[Any, Loopback], cli: Any
) -> None:
    toy, server = paid
    command = ("run", toy.file, "--workspace", toy.workspace.root, "--max-cost")
    stopped = cli(*command, 0.2)
    assert (stopped.code, stopped.err.count("\n")) == (6, 1)
    assert "--max-cost" in stopped.err
    assert 0 < len(server.calls) * A_CALL <= 0.2
    before = len(server.calls)
    in_all = f"in all: 1 stage run; {before} requests, {3 * before} tokens, "
    spent = f"cost {before * A_CALL:.2f}; "
    assert in_all + spent in stopped.out  # also of the stage that failed
    status = cli("status", "--workspace", toy.workspace.root)
    assert in_all + spent in status.out
    assert cli(*command, 10).code == 0
    assert len(server.calls) == 40
    assert toy.workspace.latest("answers").completions == {"reused": before, "made": 40 - before}


def test_max_cost_is_the_whole_runs(paid: tuple[Any, Loopback], cli: Any) -> None:
    toy, server = paid
    second = "  more: {stage: generate, rows: answers, model: teacher, template: again.jinja, "
    Path("again.jinja").write_text("{{ completion }} again?")
    toy.write(toy.file.read_text() + second + "sampling: {max_tokens: 5}}\n")
    limit = 60 * A_CALL
    stopped = cli("run", toy.file, "--workspace", toy.workspace.root, "--max-cost", limit)
    assert stopped.code == 6
    assert stopped.err.startswith("error: stage 'more': ")
    assert 40 < len(server.calls) <= 60


def test_max_cost_needs_a_price(paid: tuple[Any, Loopback], cli: Any) -> None:
    toy, server = paid
    toy.write(toy.file.read_text().replace(", price: {input: 1000, output: 2000}", ""))
    refused = cli("run", toy.file, "--workspace", toy.workspace.root, "--max-cost", 1)
    assert refused.code == 2
    assert "--max-cost needs engine.price" in refused.err
    assert server.calls == []


def test_a_refused_key_ends_the_run_with_one_message(
    paid: tuple[Any, Loopback], cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy, server = paid
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    server.answer = refuse(401, "bad key")
    refused = cli("run", toy.file, "--workspace", toy.workspace.root)
    assert (refused.code, refused.err.count("\n")) == (4, 1)
    assert "OPENAI_API_KEY" in refused.err
    for file in toy.workspace.root.rglob("*"):
        assert not file.is_file() or b"very-secret" not in file.read_bytes()


def test_a_killed_run_asks_again_at_most_what_was_in_flight(paid: tuple[Any, Loopback]) -> None:
    toy, server = paid
    toy.write(toy.file.read_text().replace("n: 40}", "n: 400}"))
    process = toy.start()
    while len(server.calls) < 150:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.001)
    process.kill()
    process.wait()
    process.stdout.close()
    rerun = toy.start()
    output = rerun.stdout.read()
    assert rerun.wait() == 0, output
    rerun.stdout.close()
    prompts = Counter(call.prompt for call in server.calls)
    assert len(prompts) == 400
    assert sum(prompts.values()) - 400 <= 4  # max_concurrency
