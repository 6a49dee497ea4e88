"""Fixtures: a stage over rows in memory, with the context of a real run; the command line."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from llm_distill.engines.base import Completion, Engine, Request
from llm_distill.hints import GIVEN
from llm_distill.models.sources import ModelSource
from llm_distill.rows.columns import Row
from llm_distill.runtime.context import ModelInput, StageContext, StageInputs
from llm_distill.stage import ModelOutput, RowsOutput, Stage
from llm_distill.tracking import TrackedRun

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # each of pytest's processes has a core of its own
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
sys.path.insert(0, str(Path(__file__).parent / "toy_stages"))  # like a third-party package


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked gpu if there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


class FakeEngine:
    """Answers with a function of the request, in reverse order within a batch of 4."""

    def __init__(self, answer: Callable[[Request], str]) -> None:
        self._answer = answer
        self.requests: list[Request] = []

    def generate(self, requests: Any) -> Any:
        batch: list[Request] = []
        for request in requests:
            batch.append(request)
            if len(batch) == 4:
                yield from self._answers(batch)
                batch = []
        yield from self._answers(batch)

    def _answers(self, batch: list[Request]) -> Any:
        for request in reversed(batch):
            self.requests.append(request)
            text = self._answer(request)
            yield Completion(request.id, text, "stop", 3, len(text.split()))

    def close(self) -> None: ...


class FakeSettings(NamedTuple):
    """What stages read of an engine's settings."""

    holds_structure: bool
    loads_weights: bool = False

    def answering(self) -> FakeSettings:
        return self


class _NoBar:
    def advance(self, *counted: float | None, **named: float | None) -> None: ...


@dataclass
class StageRun:
    """A stage's output: its rows (or model), and what it counted."""

    rows: list[Row]
    model: ModelOutput | None
    context: StageContext
    features: Any = None
    metrics: dict[str, Any] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)


@pytest.fixture
def run_stage(tmp_path: Path) -> Callable[..., StageRun]:
    """Takes a stage, rows by reference, and for each model a function that answers."""

    def run(
        stage: Stage,
        rows: dict[str, list[Row]] | None = None,
        answers: dict[str, Callable[[Request], str]] | None = None,
        models: dict[str, ModelSource] | None = None,
        engines: dict[str, Callable[[], Engine]] | None = None,
        seed: int = 0,
        work_dir: Path | None = None,
        training: dict[str, list[str]] | None = None,
        structured: frozenset[str] = frozenset(),
    ) -> StageRun:
        from datasets import Dataset, Features, Value

        no_rows = Features({"id": Value("string")})
        paths = {}
        for name, given in (rows or {}).items():
            paths[name] = tmp_path / "inputs" / name
            made = Dataset.from_list(given) if given else Dataset.from_dict({"id": []}, no_rows)
            made.save_to_disk(str(paths[name]), num_shards=1)
        opened = dict(engines or {})
        for name, answer in (answers or {}).items():
            opened[name] = lambda answer=answer: FakeEngine(answer)  # type: ignore[misc]
        sources = {name: ModelSource(name, f"scripted/{name}") for name in opened} | (models or {})
        trained_on = {name: tuple(stages) for name, stages in (training or {}).items()}
        inputs = StageInputs(
            seed=seed,
            work_dir=work_dir or tmp_path / "work",
            store=tmp_path / "store.sqlite",
            tracked=TrackedRun("test", "test/now/stage", tmp_path / "tracking"),
            rows=paths,
            models={
                name: ModelInput(
                    source,
                    FakeSettings(name in structured),  # type: ignore[arg-type]
                    trained_on=trained_on.get(name, ()),
                )  # without an identity nothing is stored
                for name, source in sources.items()
            },
        )
        context = StageContext(
            inputs,
            lambda model: next(opened[n]() for n, m in inputs.models.items() if m is model),
            lambda description, total, unit, done: nullcontext(_NoBar()),
        )
        context.work_dir.mkdir(parents=True, exist_ok=True)
        output = stage.run(context)
        given_rows: list[Row] = []
        if isinstance(output, RowsOutput):
            given_rows = list(output.rows)
            for row in given_rows:
                assert set(row) == set(output.features), (sorted(row), sorted(output.features))
            if given_rows:
                Dataset.from_list(given_rows, features=output.features)  # the types hold
        context.close()
        return StageRun(
            rows=given_rows,
            model=output if isinstance(output, ModelOutput) else None,
            context=context,
            features=output.features if isinstance(output, RowsOutput) else None,
            metrics=context.metrics,
            dropped=dict(context.dropped),
            warnings=context.warnings,
            files=dict(output.files or {}) if isinstance(output, RowsOutput) else {},
        )

    return run


class Said(NamedTuple):
    """A command's exit code and output."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Said]]:
    """The command line in this process. Exceptions that are bugs are raised unchanged."""
    import llm_distill.cli.bars
    import llm_distill.cli.plan
    import llm_distill.cli.run
    from llm_distill.cli.main import main

    def call(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["llm-distill", *map(str, arguments)])
        monkeypatch.setenv(GIVEN, "")  # what it sets is gone after the test
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Said(code, *capsys.readouterr())

    # On a slow machine it would say so.
    monkeypatch.setattr(llm_distill.cli.bars, "SECONDS_OF_SILENCE", 1e6)
    for module in (llm_distill.cli.run, llm_distill.cli.plan):
        monkeypatch.setattr(module, "quiet_libraries", lambda: None)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield call
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command of another test was given is in no hint of this one."""
    monkeypatch.delenv("LLM_DISTILL_GIVEN", raising=False)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two Ray nodes of two cores each, that find the tests' modules, and a head without any."""
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("LLM_DISTILL_TEST_CLUSTER", str(os.getpid()))  # its processes know it
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    made.nodes = [made.add_node(num_cpus=2), made.add_node(num_cpus=2)]
    made.wait_for_nodes()
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace of a finished run with trained models, `made`; tests only read it."""
    from tests.finished_run import make_finished_run

    return make_finished_run(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def at_run(
    cli: Callable[..., Said], finished: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Said]:
    """The command line in the folder of the finished run."""
    import llm_distill.cli.asking

    monkeypatch.chdir(finished.parent)
    monkeypatch.setattr(llm_distill.cli.asking, "quiet_libraries", lambda: None)
    return cli
